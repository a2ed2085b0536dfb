"""`python -m benches.peers --out FILE`: the same small jobs with other libraries, each as its documentation shows it.

A library that cannot be imported or started, or cannot do what is asked, is left out with its reason. Those that are
threads and coroutines of this process take turns in it; those that bring a scheduler or a server have a process each.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from benches.peers import apart
from benches.peers.jobs import JOBS
from benches.peers.measure import Job, Limits, compare
from benches.python.facts import facts

TOGETHER = (
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
    "dask_delayed",
)
APART = ("dask_distributed", "ray_actors", "prefect_flows")
OURS = "cano, native"
STARTS = 3  # how often a library of TOGETHER is started; one of APART only once


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.peers", description=__doc__)
    parser.add_argument("--out", type=Path, help="where the results go (default: standard output)")
    parser.add_argument("--rounds", type=int, default=5, help="how often every library has its turn (default: 5)")
    parser.add_argument("--only", nargs="+", metavar="LIBRARY", help=f"some of: {', '.join(TOGETHER + APART)}")
    options = parser.parse_args()
    wanted = TOGETHER + APART if options.only is None else ("cano_native", *options.only)
    if unknown := set(wanted) - {*TOGETHER, *APART}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(TOGETHER + APART)}")
    text = json.dumps(_measure(wanted, options.rounds), indent=1, ensure_ascii=False) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")


def _measure(wanted: tuple[str, ...], rounds: int) -> dict[str, Any]:
    conditions = facts(())
    records, skipped, usable = asyncio.run(_together([name for name in TOGETHER if name in wanted], rounds))
    starts = []
    for name in [*usable, *(name for name in APART if name in wanted)]:
        first, *more = _runs(name, rounds)
        if "reason" in first:
            skipped[name.replace("_", " ")] = first["reason"]
            continue
        began = [run["start"] for run in (first, *more) if "start" in run]
        best = {key: min(start[key] for start in began) for key in ("cpu", "wall")}
        starts.append({**began[0], **best, "runs": len(began)})
        records += [{**record, "apart": True} for record in first["records"]]
        skipped |= first["skipped"]
        print(f"start of {name}: {best['cpu'] / 1e6:.2f} s of CPU time", file=sys.stderr)
    return {
        "facts": conditions,
        "jobs": JOBS,
        "ours": OURS,
        "records": sorted(records, key=lambda record: list(JOBS).index(record["job"])),
        "starts": starts,
        "skipped": skipped,
    }


def _runs(name: str, rounds: int) -> list[dict[str, Any]]:
    if name in APART:
        return [apart.run(_module(name), rounds)]
    return [apart.run(_module(name), 0) for _ in range(STARTS)]


def _module(name: str) -> str:
    return f"benches.peers.libraries.{name}"


async def _together(names: list[str], rounds: int) -> tuple[list[dict[str, Any]], dict[str, str], list[str]]:
    """Records, who was skipped and why, and who could be used."""
    usable: dict[str, tuple[ModuleType, dict[str, Job]]] = {}
    records: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for name in names:
        try:
            module = importlib.import_module(_module(name))
            usable[name] = (module, module.jobs())
        except ImportError as error:
            skipped[name.replace("_", " ")] = str(error)
    for job in JOBS:
        able = {module: jobs[job] for module, jobs in usable.values() if job in jobs}
        measured, refused = await compare(job, able, Limits(rounds))
        records += measured
        skipped |= refused
    return records, skipped, list(usable)


if __name__ == "__main__":
    main()
