"""What does a sync callable cost on a worker thread, beside `asyncio.to_thread`?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from benches.python.harness import Budget, Case
from benches.python.questions.common import NATIVE, PURE, by_workflow


def branch(item: int) -> int:
    return item


def cases(budget: Budget) -> Iterator[Case]:
    n = min(10_000, budget.largest)

    async def to_thread() -> None:
        await asyncio.gather(*[asyncio.to_thread(branch, item) for item in range(n)])

    async def in_executor() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*[loop.run_in_executor(None, branch, item) for item in range(n)])

    async def comprehension() -> None:
        [branch(item) for item in range(n)]

    contenders = {
        NATIVE: by_workflow(branch, n, "native"),
        PURE: by_workflow(branch, n, "python"),
        "gather of asyncio.to_thread": to_thread,
        "gather of run_in_executor": in_executor,
    }
    yield Case("on worker threads", n, "branch", contenders, rounds=4)
    contenders = {
        NATIVE: by_workflow(branch, n, "native", inline=True),
        PURE: by_workflow(branch, n, "python", inline=True),
        "a list comprehension": comprehension,
    }
    yield Case("inline=True", n, "branch", contenders)
