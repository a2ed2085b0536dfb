"""`fan_out(fn, items)` beside every other way to write it: gather, TaskGroup, an anyio task group, aiometer."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator

from benches.python.harness import Budget, Case
from benches.python.questions.common import FAN_OUT, GATHER, by_gather

from cano import fan_out


async def returns(item: int) -> int:
    return item


async def yields(item: int) -> int:
    await asyncio.sleep(0)
    return item


def cases(budget: Budget) -> Iterator[Case]:
    n = min(10_000, budget.largest)
    for what, fn in (("returns at once", returns), ("sleep(0)", yields)):

        async def ours(fn=fn) -> None:
            await fan_out(fn, range(n), engine="native")

        async def pure(fn=fn) -> None:
            await fan_out(fn, range(n), engine="python")

        async def task_group(fn=fn) -> None:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(fn(item)) for item in range(n)]
            [task.result() for task in tasks]

        contenders = {
            FAN_OUT: ours,
            "cano.fan_out, pure Python": pure,
            GATHER: by_gather(fn, n),
            "asyncio.TaskGroup": task_group,
        }
        skipped = {}
        try:
            import anyio
        except ImportError as error:
            skipped["anyio task group"] = str(error)
        else:

            async def anyio_group(fn=fn) -> None:
                results = [0] * n

                async def one(item: int) -> None:
                    results[item] = await fn(item)

                async with anyio.create_task_group() as group:
                    for item in range(n):
                        group.start_soon(one, item)

            contenders["anyio task group"] = anyio_group
        try:
            import aiometer
        except ImportError as error:
            skipped["aiometer.run_all"] = str(error)
        else:

            async def by_aiometer(fn=fn) -> None:
                await aiometer.run_all([functools.partial(fn, item) for item in range(n)])

            contenders["aiometer.run_all"] = by_aiometer
        yield Case(what, n, "branch", contenders, rounds=3, skipped=skipped)
