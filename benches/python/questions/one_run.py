"""What does a whole run cost, when there is one state in it, beside giving the same coroutine a task?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from benches.python.harness import Budget, Case
from benches.python.questions.common import NATIVE, PURE

from cano import Workflow


async def task() -> str:
    return "end"


def cases(budget: Budget) -> Iterator[Case]:
    n = 5_000 // budget.shrink
    native, pure = (
        Workflow[str](engine=engine).register("only", task).add_exit_state("end") for engine in ("native", "python")
    )

    async def by_native() -> None:
        for _ in range(n):
            await native.orchestrate("only")

    async def by_pure() -> None:
        for _ in range(n):
            await pure.orchestrate("only")

    async def by_task() -> None:
        for _ in range(n):
            await asyncio.create_task(task())

    async def by_await() -> None:
        for _ in range(n):
            await task()

    contenders = {NATIVE: by_native, PURE: by_pure, "await create_task(f())": by_task, "await f()": by_await}
    yield Case("one state", n, "run", contenders)
