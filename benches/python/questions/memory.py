"""How much memory does a suspended branch take? The growth of a fresh process, all its branches waiting."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from benches.python import process
from benches.python.harness import Budget
from benches.python.questions.common import GATHER, NATIVE, PURE, by_gather, by_workflow

import cano

WAITS = ("one future for all", "sleeping")


def points(budget: Budget) -> list[dict[str, Any]]:
    return [
        {"case": wait, "n": n, "who": who}
        for wait in WAITS
        for n in (10_000, 100_000)  # fewer fit into what the allocator has at hand
        if n <= 10 * budget.largest
        for who in (NATIVE, PURE, GATHER)
    ]


async def measure(point: dict[str, Any]) -> dict[str, Any]:
    n = point["n"]
    waiting = 0
    future = asyncio.get_running_loop().create_future()

    async def on_future(_item: int) -> None:
        nonlocal waiting
        waiting += 1
        await future

    async def asleep(_item: int) -> None:
        nonlocal waiting
        waiting += 1
        await asyncio.sleep(3600)

    async def asleep_in_engine(_item: int) -> None:
        nonlocal waiting
        waiting += 1
        await cano.sleep(3600)

    fn = on_future if point["case"] == WAITS[0] else asleep if point["who"] == GATHER else asleep_in_engine

    def job(count: int) -> Any:
        if point["who"] == GATHER:
            return by_gather(fn, count)
        return by_workflow(fn, count, "native" if point["who"] == NATIVE else "python")

    async def until_all_wait(count: int) -> asyncio.Future[Any]:
        nonlocal waiting
        waiting = 0
        running = asyncio.ensure_future(job(count)())
        while waiting < count:
            await asyncio.sleep(0)
        return running

    async def stop(running: asyncio.Future[Any]) -> None:
        running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            pass

    await stop(await until_all_wait(10))  # code, pools and caches are not the branches'
    future = asyncio.get_running_loop().create_future()
    gc.collect()
    before = process.resident()
    running = await until_all_wait(n)
    gc.collect()
    grown = process.resident() - before
    await stop(running)
    return {**point, "bytes_per_branch": grown / n}
