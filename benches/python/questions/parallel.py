"""Do sync branches that compute run in parallel? In wall time, so not from `measure`: one worker beside two.

Only where there is no global lock; elsewhere it is skipped, as is known.
"""

from __future__ import annotations

import time
from typing import Any

from benches.python.harness import Budget

import cano


def _computes(item: int) -> int:
    total = item
    for step in range(20_000):
        total ^= step
    return total


async def records(budget: Budget) -> list[dict[str, Any]]:
    """Wall time of 400 CPU-bound branches on one and on two workers, in turns, best of the rounds."""
    import sys

    if getattr(sys, "_is_gil_enabled", lambda: True)():
        reason = "this interpreter has a global lock: threads of one process do not compute at the same time"
        return [{"case": "CPU-bound sync branches", "skipped": {"two workers": reason}, "contenders": {}}]
    n = 400 // budget.shrink
    readings: dict[str, list[float]] = {}
    for _ in range(budget.rounds + 1):
        for name, limit in (("one worker", 1), ("two workers", 2)):
            cano.set_thread_limit(limit)
            start = time.perf_counter()
            await cano.fan_out(_computes, range(n), engine="native")
            readings.setdefault(name, []).append((time.perf_counter() - start) / n * 1e6)
    return [
        {
            "case": "CPU-bound sync branches",
            "n": n,
            "unit": "branch, wall time",
            "repeat": 1,
            "contenders": {name: {"best": min(values[1:]), "rounds": values[1:]} for name, values in readings.items()},
            "skipped": {},
        }
    ]
