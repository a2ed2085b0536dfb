"""What do waits cost that the engine itself provides, beside asyncio's: sleeping, a timeout, a limit on concurrency?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from benches.python.harness import Budget, Case
from benches.python.questions.common import GATHER, NATIVE, PURE, by_gather, by_workflow

import cano

LIMIT = 100


async def sleeps_engine(_item: int) -> None:
    await cano.sleep(0.001)


async def sleeps_asyncio(_item: int) -> None:
    await asyncio.sleep(0.001)


async def returns(item: int) -> int:
    return item


async def returns_in_time(item: int) -> int:
    async with asyncio.timeout(10):
        return item


async def yields(item: int) -> int:
    await asyncio.sleep(0)
    return item


async def yields_in_time(item: int) -> int:
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
    return item


def cases(budget: Budget) -> Iterator[Case]:
    n = min(10_000, budget.largest)
    yield Case(
        "cano.sleep / asyncio.sleep",
        n,
        "branch",
        {
            NATIVE: by_workflow(sleeps_engine, n, "native"),
            PURE: by_workflow(sleeps_engine, n, "python"),
            GATHER: by_gather(sleeps_asyncio, n),
        },
    )
    for what, inner, guarded in (
        ("returns at once", returns, returns_in_time),
        ("sleep(0)", yields, yields_in_time),
    ):
        yield Case(
            f"attempt_timeout / asyncio.timeout, {what}",
            n,
            "branch",
            {
                NATIVE: by_workflow(inner, n, "native", attempt_timeout=10),
                PURE: by_workflow(inner, n, "python", attempt_timeout=10),
                GATHER: by_gather(guarded, n),
            },
        )

    def limited(fn):
        async def job() -> None:
            permits = asyncio.Semaphore(LIMIT)

            async def one(item: int) -> object:
                async with permits:
                    return await fn(item)

            await asyncio.gather(*[one(item) for item in range(n)])

        return job

    for what, fn, beside in (
        ("returns at once", returns, returns),
        ("sleep(0)", yields, yields),
        ("sleeping", sleeps_engine, sleeps_asyncio),
    ):
        yield Case(
            f"bulkhead / Semaphore, {what}",
            n,
            "branch",
            {
                NATIVE: by_workflow(fn, n, "native", bulkhead=LIMIT),
                PURE: by_workflow(fn, n, "python", bulkhead=LIMIT),
                GATHER: limited(beside),
            },
        )
