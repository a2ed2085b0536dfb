"""`python -m benches.report RESULTS...`: write docs/performance.md and its pictures from measured results."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benches.report import headlines, peers, plots, rust_engine, tables
from benches.report.results import Results

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HERE = Path(__file__).parent

QUESTIONS = (
    ("noop", "Branches that return at once"),
    ("yields", "Branches that give the loop a turn"),
    ("futures", "Branches that wait on asyncio's futures"),
    ("engine_waits", "The engine's own waits"),
    ("sync_calls", "Sync callables"),
    ("chain", "Transitions"),
    ("one_run", "A run of one state"),
    ("fan_out", "`fan_out` beside other ways to write it"),
    ("store", "Store"),
    ("honest", "Where little is gained"),
    ("parallel", "Parallel threads"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="files that `python -m benches.python` wrote")
    parser.add_argument(
        "--peers",
        type=Path,
        default=ROOT / "benches/results/peers.json",
        help="the file that `python -m benches.peers` wrote",
    )
    parser.add_argument("--docs", type=Path, default=DOCS, help="where performance.md and assets/ go")
    options = parser.parse_args()
    all_results = sorted((Results(path) for path in options.results), key=_age)
    assets = options.docs / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    pictures = {
        "cost-per-branch": plots.cost_per_branch(all_results),
        "ratios": plots.ratios(all_results),
        "memory": plots.memory(all_results),
    }
    for results in _that_have(all_results, "fairness"):
        pictures[_stalls_of(results)] = plots.stalls(results)
    for name, picture in pictures.items():
        (assets / f"{name}.svg").write_text(str(picture), encoding="utf-8")
    text = (HERE / "template.md").read_text(encoding="utf-8")
    for name, part in _parts(all_results, options.peers).items():
        text = text.replace("{" + name + "}", part)
    (options.docs / "performance.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _parts(all_results: list[Results], peers_file: Path | None) -> dict[str, str]:
    rust = ROOT / "benches/results/rust.json"
    counted = ROOT / "benches/guard/stored.json"
    stored = json.loads(counted.read_text(encoding="utf-8")) if counted.exists() else {}
    return {
        "headline": headlines.headline(all_results),
        "honest": headlines.honest(all_results),
        "machine": tables.machine(all_results),
        "score": tables.score(all_results),
        "aims": tables.aims(all_results),
        "notes": (HERE / "notes.md").read_text(encoding="utf-8").strip(),
        "flat": headlines.flat(all_results),
        "memory": _each(_that_have(all_results, "memory"), tables.memory),
        "stall_pictures": "\n\n".join(
            f"![How long another task waits, {results.label}](assets/{_stalls_of(results)}.svg)"
            for results in _that_have(all_results, "fairness")
        ),
        "stalls": _each(_that_have(all_results, "fairness"), tables.stalls),
        "slower": headlines.slower(all_results),
        "uvloop": "## On uvloop\n\n" + _each(all_results, _on_uvloop),
        "instructions": tables.instructions(stored) if stored else "Not counted.",
        "rust": rust_engine.section(json.loads(rust.read_text(encoding="utf-8"))) if rust.exists() else "",
        "peers": peers.section(json.loads(peers_file.read_text(encoding="utf-8")))
        if peers_file and peers_file.exists()
        else "",
        "details": _each(all_results, _details, "###"),
    }


def _that_have(all_results: list[Results], question: str) -> list[Results]:
    return [results for results in all_results if results.points(question)]


def _each(all_results: list[Results], part, mark: str = "**") -> str:
    title = (lambda label: f"{mark} {label}") if mark == "###" else (lambda label: f"{mark}{label}{mark}")
    return "\n\n".join(f"{title(results.label)}\n\n{part(results)}" for results in all_results)


def _on_uvloop(results: Results) -> str:
    asked = [
        question
        for question, _ in QUESTIONS
        if any(r["loop"] == "uvloop" and r["question"] == question for r in results.timed)
    ]
    return "\n\n".join(tables.costs(results, question, "uvloop") for question in asked) or "Not measured."


def _details(results: Results) -> str:
    asked = {record["question"] for record in results.timed}
    parts = [f"**{title}**\n\n{tables.costs(results, question)}" for question, title in QUESTIONS if question in asked]
    if results.points("scale"):
        parts.append(f"**Scale**\n\n{tables.scale(results)}")
    if results.points("cold_start"):
        parts.append(f"**Cold start**\n\n{tables.cold_start(results)}")
    return "\n\n".join(parts)


def _age(results: Results) -> tuple[list[int], bool]:
    version = results.facts["interpreter"]["version"].split(".")
    return [int("".join(c for c in part if c.isdigit()) or 0) for part in version[:2]], results.free_threaded


def _stalls_of(results: Results) -> str:
    version = results.facts["interpreter"]["version"].rpartition(".")[0]
    return f"stalls-{version}{'t' if results.free_threaded else ''}"


if __name__ == "__main__":
    main()
