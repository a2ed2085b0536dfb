"""The small jobs that every library is given, as far as it does such a thing.

A library's module has `PACKAGE`, `NAME` and `jobs()`, which imports the library, builds what a program would build once
and returns by job's name a coroutine function that does the job once and returns its result, which is checked. One that
has to be started and stopped has, instead of `jobs()`, an async context manager `session()` that gives the same, and may
say in `LEFT_OUT` by job's name why it cannot do one.
"""

from __future__ import annotations

import asyncio

STEPS = 20
BRANCHES = 100
WAIT = 0.005
RACERS = 10

CHAIN, FAN_OUT, FAN_OUT_WAIT, ANY, SYNC = "chain", "fan-out", "fan-out-wait", "any", "sync"
JOBS = {
    CHAIN: f"A chain of {STEPS} async steps that count (dask.delayed: sync ones)",
    FAN_OUT: f"{BRANCHES} async branches that return at once",
    FAN_OUT_WAIT: f"{BRANCHES} async branches that wait for 5 ms",
    ANY: f"The first of {RACERS} async branches, the others cancelled",
    SYNC: f"{BRANCHES} sync callables on threads (ray: in processes)",
}
EXPECTED = {
    CHAIN: STEPS,
    FAN_OUT: sum(range(BRANCHES)),
    FAN_OUT_WAIT: sum(range(BRANCHES)),
    ANY: 0,
    SYNC: sum(range(BRANCHES)),
}


async def returns(item: int) -> int:
    return item


async def waits(item: int) -> int:
    await asyncio.sleep(WAIT)
    return item


async def races(item: int) -> int:
    await asyncio.sleep(3600 if item else 0)
    return item


def plain(item: int) -> int:
    return item
