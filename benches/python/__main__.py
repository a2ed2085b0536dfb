"""`python -m benches.python --out FILE`: ask every question and write what was measured, as JSON.

Every question has a process of its own in every pass, so that none inherits the heap of another.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benches.python import facts, questions
from benches.python.harness import FULL, QUICK, Budget, measure, run_in

METHOD = {
    "clock": "time.process_time: CPU time of the process, worker threads included",
    "order": "contenders take turns within every round; gc.collect() before each turn, outside the measurement",
    "figure": "the best round of a pass; ratios are of one pass, and of several passes the median is given",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.python", description=__doc__)
    parser.add_argument("--out", type=Path, help="where the results go (default: standard output)")
    parser.add_argument("--passes", type=int, default=3, help="how often all is measured (default: 3)")
    parser.add_argument("--quick", action="store_true", help="small numbers: does everything run?")
    parser.add_argument("--only", default="", help="questions, separated by commas; the rest of FILE is kept")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--loop", default="asyncio", help=argparse.SUPPRESS)
    options = parser.parse_args()
    budget = QUICK if options.quick else FULL
    if options.child:
        json.dump(_answer(options.child, options.loop, budget), sys.stdout)
        return
    only = set(options.only.split(",")) - {""}
    unknown = only - {*questions.TIMED, *questions.APART}
    if unknown:
        parser.error(
            f"no such question: {', '.join(sorted(unknown))}; there are "
            f"{', '.join((*questions.TIMED, *questions.APART))}"
        )
    result = _ask_all(budget, only, options.passes)
    if only and options.out is not None and options.out.exists():
        result = _merged(json.loads(options.out.read_text(encoding="utf-8")), result, only)
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")


def _ask_all(budget: Budget, only: set[str], passes: int) -> dict[str, Any]:
    result: dict[str, Any] = {"facts": facts.facts(), "method": {**METHOD, "passes": passes}, "timed": [], "apart": {}}
    asked = [(name, "asyncio") for name in questions.TIMED] + [(name, "uvloop") for name in questions.ON_UVLOOP]
    asked = [(name, loop) for name, loop in asked if not only or name in only]
    start = time.monotonic()
    for number in range(passes):
        for name, loop in asked:
            _say(f"pass {number + 1} of {passes}: {name} on {loop}", start)
            for record in _child(name, loop, budget):
                result["timed"].append({"question": name, "loop": loop, "pass": number, **record})
    for name in questions.APART:
        if only and name not in only:
            continue
        _say(name, start)
        points = _question(name).points(budget)
        result["apart"][name] = [_child(f"{name}:{json.dumps(point)}", "asyncio", budget) for point in points]
    result["facts"]["seconds"] = round(time.monotonic() - start)
    _say("done", start)
    return result


def _merged(old: dict[str, Any], new: dict[str, Any], only: set[str]) -> dict[str, Any]:
    """What was measured before, with the questions that were asked again in place of the old answers."""
    old["timed"] = [record for record in old["timed"] if record["question"] not in only] + new["timed"]
    old["apart"].update(new["apart"])
    old["facts"].setdefault("asked_again", {}).update(dict.fromkeys(sorted(only), new["facts"]["date"]))
    return old


def _question(name: str) -> Any:
    return importlib.import_module(f"benches.python.questions.{name}")


def _child(what: str, loop: str, budget: Budget) -> Any:
    command = [sys.executable, "-m", "benches.python", "--child", what, "--loop", loop]
    if budget == QUICK:
        command.append("--quick")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        raise SystemExit(f"the question {what!r} on {loop} ended with exit status {done.returncode}; see above")
    return json.loads(done.stdout)


def _answer(what: str, loop: str, budget: Budget) -> Any:
    name, _, point = what.partition(":")
    question = _question(name)
    if loop == "uvloop":  # asked again only where it is judged
        budget = replace(budget, largest=min(10_000, budget.largest))
    if point:
        return run_in(loop, question.measure(json.loads(point)))
    if hasattr(question, "records"):
        return run_in(loop, question.records(budget))
    try:
        return run_in(loop, _measure_all(question, budget))
    except ImportError as error:
        if loop == "asyncio":
            raise
        return [{"case": "all", "skipped": {loop: str(error)}, "contenders": {}}]


async def _measure_all(question: Any, budget: Budget) -> list[dict[str, Any]]:
    return [await measure(case, budget) for case in question.cases(budget)]


def _say(what: str, start: float) -> None:
    print(f"{time.monotonic() - start:6.1f} s  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
