"""Branches that wait for the same future are woken as tasks would be: in the order in which they came, with what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cano import JoinError, fan_out

Program = Callable[[int], Awaitable[Any]]


async def as_branches(engine: str, program: Program, count: int) -> list[Any]:
    return (await fan_out(program, range(count), engine=engine)).outputs()


async def as_tasks(_: str, program: Program, count: int) -> list[Any]:
    return await asyncio.gather(*[program(item) for item in range(count)])


async def test_all_wake_in_order(engine):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(1, future.set_result, "it")
    log: list[int] = []

    async def branch(item: int) -> str:
        answer = await future
        log.append(item)
        return f"{answer} {item}"

    result = await fan_out(branch, range(100), engine=engine)
    assert result.outputs() == [f"it {item}" for item in range(100)]
    assert log == list(range(100))


@pytest.mark.parametrize("run", [as_branches, as_tasks])
async def test_what_others_asked_in_between_comes_in_between(engine, run):
    """A branch's own callback on the future, and another's task, keep their places among the branches."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(1, future.set_result, None)
    log: list[object] = []

    async def branch(item: int) -> None:
        if item in (2, 5):
            future.add_done_callback(lambda _: log.append(f"callback of {item}"))
        await future
        log.append(item)

    await run(engine, branch, 7)
    assert log == [0, 1, "callback of 2", 2, 3, 4, "callback of 5", 5, 6]


async def test_two_futures_in_turn(engine):
    loop = asyncio.get_running_loop()
    futures = [loop.create_future(), loop.create_future()]
    loop.call_later(1, futures[1].set_result, "odd")
    loop.call_later(2, futures[0].set_result, "even")
    log: list[int] = []

    async def branch(item: int) -> str:
        try:
            return await futures[item % 2]
        finally:
            log.append(item)

    assert (await fan_out(branch, range(6), engine=engine)).outputs() == ["even", "odd"] * 3
    assert log == [1, 3, 5, 0, 2, 4]


async def test_a_failed_future_fails_each(engine):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(1, future.set_exception, OSError("gone"))

    async def branch(_: int) -> None:
        await future

    with pytest.raises(JoinError) as caught:
        await fan_out(branch, range(5), fail_fast=False, engine=engine)
    assert [type(error) for error in caught.value.exceptions] == [OSError] * 5


async def test_waiting_again_for_another(engine):
    """What a branch waited for first has no hold on it any more."""
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    loop.call_later(1, first.set_result, 1)
    loop.call_later(2, second.set_result, 2)

    async def branch(item: int) -> int:
        return item + await first + await second

    assert (await fan_out(branch, range(5), engine=engine)).outputs() == [3, 4, 5, 6, 7]


async def test_a_timed_out_branch_takes_the_future_with_it(engine):
    """As of a task: to cancel what waits for a bare future cancels the future."""
    future = asyncio.get_running_loop().create_future()

    async def branch(item: int) -> str:
        try:
            async with asyncio.timeout(1 if item == 3 else None):
                await future
        except (TimeoutError, asyncio.CancelledError) as error:
            return type(error).__name__
        return "answered"

    outputs = (await fan_out(branch, range(5), engine=engine)).outputs()
    assert outputs == ["CancelledError"] * 3 + ["TimeoutError", "CancelledError"]
