"""How long is another task of the loop kept waiting while the engine is at work?

A ticker asks for its turn again and again (`await asyncio.sleep(0)`) while the work runs, and notes how long each turn
took to come. Beside the clock on the wall it reads the CPU time of the thread: what another process took from this one
is in the first and not in the second.
"""

from __future__ import annotations

import asyncio
import gc
import time
from bisect import bisect_right
from typing import Any

from benches.python.harness import Budget
from benches.python.questions import futures, scale, yields
from benches.python.questions.common import GATHER, NATIVE, by_gather, by_workflow

# The upper edges of the histogram's bars, in milliseconds; the last bar is open.
EDGES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def points(budget: Budget) -> list[dict[str, Any]]:
    large = min(1_000_000, budget.largest)
    medium = min(100_000, budget.largest)
    native = [
        ("no-op", large),
        ("sleep", large),
        ("sleep(0)", medium),
        ("a future each", medium),
        ("sync on workers", medium),
        ("nested: 1,000 splits of 1,000", large),
        ("10,000 concurrent runs", 10_000 // budget.shrink),
        ("a chain of 1,000,000", large),
    ]
    found = [{"case": case, "n": n, "who": NATIVE} for case, n in native]
    found += [{"case": case, "n": large, "who": scale.BOUNDED} for case in ("no-op", "sleep")]
    found += [{"case": case, "n": medium, "who": GATHER} for case in ("no-op", "sleep", "sleep(0)", "a future each")]
    found.append({"case": "10,000 concurrent runs", "n": 10_000 // budget.shrink, "who": GATHER})
    return found


def _sync(item: int) -> int:
    return item


def _job(case: str, who: str, n: int) -> Any:
    fn: Any = {"sleep(0)": yields.branch, "a future each": futures.own, "sync on workers": _sync}.get(case)
    if fn is None:
        return scale.job_of(case, who, n)
    return by_gather(fn, n) if who == GATHER else by_workflow(fn, n, "native")


async def measure(point: dict[str, Any]) -> dict[str, Any]:
    case, who, n = point["case"], point["who"], point["n"]
    await _job(case, who, 4)()
    job = _job(case, who, n)
    waits: list[float] = []
    computed: list[float] = []
    done = False

    async def tick() -> None:
        wall, cpu = time.perf_counter, time.thread_time
        while not done:
            start, start_cpu = wall(), cpu()
            await asyncio.sleep(0)
            waits.append(wall() - start)
            computed.append(cpu() - start_cpu)

    gc.collect()
    ticker = asyncio.ensure_future(tick())
    await asyncio.sleep(0)
    started = time.perf_counter()
    await job()
    seconds = time.perf_counter() - started
    done = True
    await ticker
    bars = [0] * (len(EDGES) + 1)
    for wait in waits:
        bars[bisect_right(EDGES, wait * 1e3)] += 1
    return {
        **point,
        "seconds": seconds,
        "turns": len(waits),
        "edges_ms": EDGES,
        "bars": bars,
        "longest_ms": max(waits) * 1e3,
        "longest_cpu_ms": max(computed) * 1e3,
        "above_10_ms": sum(wait > 0.010 for wait in waits),
    }
