"""`python -m benches.peers.alone MODULE --out FILE`: one library in this process, from its import on.

How long starting takes, up to the end of the first job, is what a fresh process is for. With `--rounds`, the jobs are
measured as well: the CPU time of all processes that the library has started, and of all its threads, which would
otherwise be counted as everybody's.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

from benches.peers.jobs import CHAIN, FAN_OUT, JOBS
from benches.peers.measure import Limits, compare, do, opened, version
from benches.peers.processes import TreeClock, adopt_orphans, descendants

DEADLINE = 30  # seconds that one job may take at first
PATIENCE = 2  # seconds after which no fourth round of a job is begun, and no further one
AT_LEAST = 0.2  # seconds of CPU time that a turn takes: what goes on beside the job, heartbeats say, evens out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.peers.alone", description=__doc__)
    parser.add_argument("module", help="the library's module, as in benches.peers.libraries.ray_actors")
    parser.add_argument("--out", type=Path, required=True, help="where the results go")
    parser.add_argument(
        "--rounds", type=int, default=0, help="how often every job is measured at most (default: not at all)"
    )
    parser.add_argument("--spawned", type=float, help="the time, by the monotonic clock, when this process was started")
    options = parser.parse_args()
    spawned = time.monotonic() if options.spawned is None else options.spawned
    adopt_orphans()  # a daemon that a library starts is to be counted as well
    try:
        found = asyncio.run(_alone(options.module, options.rounds, spawned, options.out))
    except ImportError as error:
        found = {"reason": str(error)}
    _write(options.out, found)


async def _alone(name: str, rounds: int, spawned: float, out: Path) -> dict[str, Any]:
    clock = TreeClock()
    module = importlib.import_module(name)
    async with opened(module) as jobs:
        first = CHAIN if CHAIN in jobs else FAN_OUT
        await do(first, jobs[first], DEADLINE)
        found: dict[str, Any] = {
            "start": {
                "peer": module.NAME,
                "version": version(module),
                "job": first,
                "cpu": clock() * 1e6,
                "wall": (time.monotonic() - spawned) * 1e6,
                "processes": 1 + len(descendants(os.getpid())),
            },
            "records": [],
            "skipped": {f"{module.NAME}, {job}": why for job, why in getattr(module, "LEFT_OUT", {}).items()},
        }
        limits = Limits(rounds, at_least=AT_LEAST, deadline=DEADLINE, patience=PATIENCE, clock=clock)
        for job in JOBS:
            if rounds and job in jobs:
                # What is told if this process has to be ended over it, or falls over: the other jobs are not lost.
                unfinished = f"{module.NAME}, {job}"
                _write(out, {**found, "skipped": {**found["skipped"], unfinished: "it did not come to its end"}})
                records, skipped = await compare(job, {module: jobs[job]}, limits)
                found["records"] += records
                found["skipped"] |= skipped
        # Whatever happens to those who stop: what was measured is measured.
        _write(out, found)
    return found


def _write(out: Path, found: dict[str, Any]) -> None:
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
