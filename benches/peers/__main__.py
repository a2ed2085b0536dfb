"""`python -m benches.peers --out FILE`: the same small jobs with other libraries, each as its documentation shows it.

A library that cannot be imported, or cannot do what is asked, is left out with its reason.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

from benches.peers.jobs import EXPECTED, JOBS
from benches.python.facts import facts

LIBRARIES = (
    "cano_native",
    "cano_pure",
    "asyncio_by_hand",
    "anyio_groups",
    "aiometer_runs",
    "transitions_machine",
    "python_statemachine",
    "burr_application",
    "pydantic_graph_nodes",
    "langgraph_graph",
    "llama_index_workflows",
)
OURS = "cano, native"
AT_LEAST = 0.01  # seconds of CPU time that a turn takes
DEADLINE = 10  # seconds that one job may take at first
NOT_TRIED = {
    "dask, ray, prefect": "they bring a scheduler or a server of their own, and are heavy to install for jobs this small"
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.peers", description=__doc__)
    parser.add_argument("--out", type=Path, help="where the results go (default: standard output)")
    parser.add_argument("--rounds", type=int, default=5, help="how often every library has its turn (default: 5)")
    options = parser.parse_args()
    text = json.dumps(asyncio.run(_measure(options.rounds)), indent=1, ensure_ascii=False) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")


async def _measure(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    skipped: dict[str, str] = dict(NOT_TRIED)
    for name in LIBRARIES:
        try:
            module = importlib.import_module(f"benches.peers.libraries.{name}")
            found[module.NAME] = (module.PACKAGE, module.jobs())
        except ImportError as error:
            skipped[name.replace("_", " ")] = str(error)
    records = []
    for job in JOBS:
        records += await _compare(job, found, skipped, rounds)
    return {"facts": facts(()), "jobs": JOBS, "ours": OURS, "records": records, "skipped": skipped}


async def _compare(job: str, found: dict[str, Any], skipped: dict[str, str], rounds: int) -> list[dict[str, Any]]:
    repeats: dict[str, int] = {}
    for name, (_, jobs) in found.items():
        if job not in jobs:
            continue
        try:
            repeats[name] = await _check(job, jobs[job])
        except Exception as error:  # noqa: BLE001 - a library's mistake costs it its row, and no other's
            skipped[f"{name}, {job}"] = f"{type(error).__name__}: {error}"
    readings: dict[str, list[float]] = {name: [] for name in repeats}
    for _ in range(rounds):
        for name, repeat in repeats.items():
            fn = found[name][1][job]
            gc.collect()
            start = time.process_time()
            for _ in range(repeat):
                await fn()
            readings[name].append((time.process_time() - start) / repeat * 1e6)
    print(f"{job}: {', '.join(f'{name} {min(values):.0f}' for name, values in readings.items())}", file=sys.stderr)
    return [
        {
            "job": job,
            "peer": name,
            "version": importlib.metadata.version(found[name][0]) if found[name][0] else None,
            "unit": "job",
            "best": min(values),
            "rounds": [round(value, 3) for value in values],
        }
        for name, values in readings.items()
    ]


async def _check(job: str, fn: Any) -> int:
    """See that it does the job, and find out how often a turn should do it."""
    result = await _in_time(fn)
    if result != EXPECTED[job]:
        raise ValueError(f"expected {EXPECTED[job]}, but {result!r} came")
    start = time.process_time()
    await _in_time(fn)
    taken = time.process_time() - start
    # A job that waits is not repeated for long: its waits are not counted, but they pass.
    return max(1, min(200 if "wait" not in job else 20, round(AT_LEAST / max(taken, 1e-6))))


async def _in_time(fn: Any) -> Any:
    try:
        return await asyncio.wait_for(fn(), DEADLINE)
    except TimeoutError:
        raise TimeoutError(f"it did not end within {DEADLINE} s") from None


if __name__ == "__main__":
    main()
