"""What does a branch cost that waits on asyncio's own futures: one each, one for all, an `Event`?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from benches.python.harness import Budget, Case
from benches.python.questions.common import GATHER, NATIVE, PURE, by_gather, by_workflow

Shared = dict[str, Any]


async def own(_item: int) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


def _when_all_wait(
    shared: Shared, prepare: Callable[[], Callable[[], Any]], inner: Callable[[], Awaitable[Any]]
) -> Any:
    """The job that starts branches, lets them wait for one thing, and then releases them."""

    async def job() -> None:
        release = prepare()
        running = asyncio.ensure_future(inner())
        # The count of those that wait says when all are there: how many turns of the loop that takes differs.
        while shared["waiting"] < shared["n"]:
            await asyncio.sleep(0)
        release()
        await running

    return job


def cases(budget: Budget) -> Iterator[Case]:
    n = min(10_000, budget.largest)
    yield Case(
        "a future each",
        n,
        "branch",
        {
            NATIVE: by_workflow(own, n, "native"),
            PURE: by_workflow(own, n, "python"),
            GATHER: by_gather(own, n),
        },
    )

    shared: Shared = {"n": n}

    def one_future() -> Callable[[], Any]:
        shared["waiting"] = 0
        shared["future"] = asyncio.get_running_loop().create_future()
        return lambda: shared["future"].set_result(None)

    async def on_one(_item: int) -> None:
        shared["waiting"] += 1
        await shared["future"]

    def one_event() -> Callable[[], Any]:
        shared["waiting"] = 0
        shared["event"] = asyncio.Event()
        return shared["event"].set

    async def on_event(_item: int) -> None:
        shared["waiting"] += 1
        await shared["event"].wait()

    def futures() -> Callable[[], Any]:
        shared["waiting"] = 0
        shared["futures"] = made = [asyncio.get_running_loop().create_future() for _ in range(n)]

        def release() -> None:
            for future in made:
                future.set_result(None)

        return release

    async def on_own(item: int) -> None:
        shared["waiting"] += 1
        await shared["futures"][item]

    for name, prepare, fn in (
        # Beside "a future each", what the branch itself spends on having its future set is left out.
        ("a future each, set by somebody else", futures, on_own),
        ("one future for all", one_future, on_one),
        ("Event.wait()", one_event, on_event),
    ):
        inner = {
            NATIVE: by_workflow(fn, n, "native"),
            PURE: by_workflow(fn, n, "python"),
            GATHER: by_gather(fn, n),
        }
        yield Case(name, n, "branch", {who: _when_all_wait(shared, prepare, job) for who, job in inner.items()})
