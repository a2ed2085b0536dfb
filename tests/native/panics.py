"""The program that test_panics.py starts with a native module that panics on purpose: `python panics.py`."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from cano import (
    InternalError,
    JoinConfig,
    JoinStrategy,
    MemoryStore,
    Retry,
    TaskResult,
    Workflow,
    _core,
    as_completed,
    fan_out,
    sleep,
)

live = 0


async def branch(item: int) -> int:
    """Suspend in several ways; count who is at work."""
    global live
    live += 1
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0.0002)
        await sleep(0.0002)
        if item == 2:
            await asyncio.sleep(5)
        return item
    finally:
        live -= 1


async def flaky(item: int, tries: list[int] = []) -> int:  # noqa: B006 - counts over all attempts
    tries.append(item)
    if len(tries) % 2:
        raise ValueError
    return item


async def plain() -> None:
    assert (await fan_out(branch, [0, 1, 3], engine="native")).outputs() == [0, 1, 3]


async def nothing_waits() -> None:
    await fan_out(lambda item: item, range(5), inline=True, engine="native")


async def with_losers() -> None:
    await fan_out(branch, range(5), strategy=JoinStrategy.Quorum(2), engine="native")


async def hedged() -> None:
    await fan_out(branch, [2, 1], strategy=JoinStrategy.Any, hedge_delay=0.0005, engine="native")


async def retried() -> None:
    await fan_out(flaky, range(4), retry=Retry.fixed(3, 0.0002), bulkhead=2, attempt_timeout=5, engine="native")


async def on_threads() -> None:
    assert (await fan_out(lambda item: item, range(5), bulkhead=2, engine="native")).outputs() == [0, 1, 2, 3, 4]


async def on_threads_with_a_limit() -> None:
    assert (await fan_out(lambda item: item, range(5), attempt_timeout=5, engine="native")).outputs() == [0, 1, 2, 3, 4]


async def lazily() -> None:
    async def items() -> Any:
        for item in (0, 1, 3):
            yield item

    await fan_out(branch, items(), bulkhead=2, timeout=5, engine="native")


async def row_by_row() -> None:
    async with aclosing(as_completed(branch, [0, 1, 3], buffer=1, bulkhead=2, engine="native")) as rows:
        assert len([row async for row in rows]) == 3


async def whole_run() -> None:
    async def choose() -> TaskResult[str]:
        return TaskResult.Split([lambda: branch(0), lambda: branch(1)], JoinConfig(JoinStrategy.All, "fan"))

    async def once(tries: list[int] = []) -> str:  # noqa: B006
        tries.append(1)
        if len(tries) % 2:
            raise ValueError
        return "choose"

    flow = Workflow[str](engine="native").register("start", once, retry=Retry.fixed(1, 0), attempt_timeout=5)
    flow.register("choose", choose).add_exit_state("done")
    flow.register_map("fan", branch, [0, 1], JoinConfig(JoinStrategy.All, "done", timeout=5))
    assert await flow.orchestrate("start", timeout=5) == "done"


async def in_a_store() -> None:
    store = MemoryStore()
    store.put("key", 0)
    try:
        for _ in range(3):
            store.update("key", lambda value: value + 1)
    finally:
        # Nobody holds it, and nothing is torn.
        there = store.get("key")
        await asyncio.to_thread(store.put, "key", there + 1)
        assert store.get("key") == there + 1


async def given_up() -> None:
    task = asyncio.create_task(_await(fan_out(branch, range(5), engine="native")))
    await asyncio.sleep(0.0005)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


SHAPES: list[Callable[[], Awaitable[None]]] = [
    plain,
    nothing_waits,
    with_losers,
    hedged,
    retried,
    on_threads,
    on_threads_with_a_limit,
    lazily,
    row_by_row,
    whole_run,
    in_a_store,
    given_up,
]
# One alone; one that is followed by another; and five, one after the other.
IN_A_ROW = (1, 2, 5)


async def with_a_panic(shape: Callable[[], Awaitable[None]], point: int, in_a_row: int) -> tuple[bool, bool]:
    """Run a shape whose n-th point panics, and others behind it; whether it got there, and whether that surfaced."""
    surfaced = False
    _core.fail_at(point, in_a_row)
    task = asyncio.create_task(_await(shape()))
    try:
        await asyncio.wait_for(asyncio.shield(task), 60)
    except InternalError as error:
        surfaced = True
        assert "injected" in str(error), error
    except TimeoutError:
        task.print_stack()
        raise AssertionError(f"{shape.__name__} hangs after a panic at point {point}, {in_a_row} in a row") from None
    passed = _core.fail_at(0)
    await asyncio.sleep(0.001)
    assert asyncio.all_tasks() == {asyncio.current_task()}, (shape.__name__, point, asyncio.all_tasks())
    assert live == 0, f"{shape.__name__}: {live} branches go on after a panic at point {point}"
    await plain()
    return passed >= point, surfaced


async def main() -> None:
    total = 0
    unraisable: list[Any] = []
    sys.unraisablehook = unraisable.append
    for shape, in_a_row in [(shape, in_a_row) for in_a_row in IN_A_ROW for shape in SHAPES]:
        if in_a_row > 1:
            # The second panic may fall between the call of a branch's function and its first step; Python says so.
            warnings.simplefilter("ignore", RuntimeWarning)
        for point in range(1, 200):
            reached, surfaced = await with_a_panic(shape, point, in_a_row)
            # In a destructor that Python calls, it tells this hook.
            surfaced = surfaced or any("injected" in str(found.exc_value) for found in unraisable)
            unraisable.clear()
            if not reached:
                break
            # A run that is cancelled ends cancelled, whatever else befell it; and a worker that has nothing in hand any more can
            # harm nobody, once the run has its result.
            silent = shape in (given_up, on_threads, on_threads_with_a_limit)
            assert surfaced or silent, f"{shape.__name__}: a panic at point {point} was swallowed ({in_a_row} in a row)"
            total += 1
    print(total)


if __name__ == "__main__":
    assert "fail-points" in _core.build_info()["features"]
    threading.excepthook = lambda args: sys.exit(3)
    asyncio.run(main())
