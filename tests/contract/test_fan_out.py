"""`fan_out`: a split without a workflow. The rules of splits are tested in their own files; here is what is its own."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from cano import (
    ConfigurationError,
    EngineUnavailableError,
    JoinError,
    JoinStrategy,
    Retry,
    SplitTimeoutError,
    fan_out,
)


async def echo(item: Any) -> Any:
    await asyncio.sleep(0)
    return item


async def test_all_is_the_default_strategy(engine):
    result = await fan_out(echo, range(5), engine=engine)
    assert result.outputs() == [0, 1, 2, 3, 4]
    with pytest.raises(JoinError):
        await fan_out(lambda item: 1 / item, [1, 0], inline=True, engine=engine)


async def test_without_an_engine_the_default_one_runs():
    assert (await fan_out(echo, [1])).outputs() == [1]


async def test_every_option(engine):
    result = await fan_out(
        echo,
        range(5),
        strategy=JoinStrategy.PartialTimeout,
        bulkhead=2,
        timeout=timedelta(seconds=5),
        retry=Retry.fixed(1, 1),
        attempt_timeout=timedelta(seconds=1),
        fail_fast=False,
        min_successes=3,
        engine=engine,
    )
    assert result.outputs() == [0, 1, 2, 3, 4]
    result = await fan_out(echo, range(5), strategy=JoinStrategy.Any, hedge_delay=timedelta(seconds=1), engine=engine)
    assert result.completed_count == 1


@pytest.mark.parametrize(
    "options",
    [
        {"bulkhead": 0},
        {"bulkhead": True},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": -1},
        {"attempt_timeout": -1},
        {"hedge_delay": 1},
        {"min_successes": 1},
        {"strategy": "all"},
        {"strategy": JoinStrategy.Quorum},
        {"retry": 3},
        {"inline": 1},
        {"fail_fast": None},
        {"engine": "fast"},
    ],
    ids=str,
)
async def test_bad_options_are_refused_before_anything_runs(engine, options):
    def source():
        raise AssertionError("asked for items")

    with pytest.raises(ConfigurationError):
        await fan_out(echo, source, **{"engine": engine, **options})


async def test_an_attempt_timeout_of_zero_is_refused(engine):
    """0 is not "no limit": only a retry delay may be 0."""
    with pytest.raises(ConfigurationError, match="attempt_timeout"):
        await fan_out(echo, [1], attempt_timeout=0, engine=engine)


async def test_there_is_no_store(engine):
    async def two(item: int, store: Any) -> None: ...

    with pytest.raises(ConfigurationError):
        await fan_out(two, [1], engine=engine)
    with pytest.raises(ConfigurationError, match="asks for a store"):
        await fan_out(echo, lambda store: [1], engine=engine)

    async def optional(item: int, store: Any = "default") -> Any:
        return store

    assert (await fan_out(optional, [1], engine=engine)).outputs() == ["default"]


async def test_an_engine_that_is_not_there_says_so(engine):
    from cano._engine import why_unavailable

    if why_unavailable("native") is None:
        assert (await fan_out(echo, [1], engine="native")).outputs() == [1]
    else:
        with pytest.raises(EngineUnavailableError):
            await fan_out(echo, [1], engine="native")


# --- inside branches ---


async def test_nested(engine):
    async def outer(item: int) -> list[int]:
        result = await fan_out(echo, [10 * item, 10 * item + 1], engine=engine)
        return result.outputs()

    assert (await fan_out(outer, range(3), engine=engine)).outputs() == [[0, 1], [10, 11], [20, 21]]


@pytest.mark.parametrize("suspend", [False, True])
async def test_nested_3000_levels_deep(engine, suspend):
    async def dive(depth: int) -> int:
        if depth == 3000:
            if suspend:
                await asyncio.sleep(0)
            return depth
        (deepest,) = (await fan_out(dive, [depth + 1], engine=engine)).outputs()
        return deepest

    assert (await fan_out(dive, [1], engine=engine)).outputs() == [3000]


async def test_an_error_from_3000_levels_deep(engine):
    """Each level wraps it once more, like nested exception groups do."""

    async def dive(depth: int) -> None:
        if depth == 200:
            raise ValueError(depth)
        await fan_out(dive, [depth + 1], engine=engine)

    with pytest.raises(JoinError) as caught:
        await fan_out(dive, [1], engine=engine)
    error: BaseException = caught.value
    depth = 0
    while isinstance(error, JoinError):
        (error,) = error.exceptions
        depth += 1
    assert (depth, type(error)) == (200, ValueError)


async def test_engines_nest_in_each_other(engine):
    async def outer(item: int) -> list[int]:
        return (await fan_out(echo, range(item), engine="python")).outputs()

    assert (await fan_out(outer, range(3), engine=engine)).outputs() == [[], [0], [0, 1]]


# --- the exception that is being handled ---


async def test_branches_do_not_see_the_exception_the_caller_handles(engine):
    seen: list[BaseException | None] = []

    async def branch(item: int) -> None:
        seen.append(sys.exception())
        await asyncio.sleep(0)
        seen.append(sys.exception())
        if item == 2:
            raise KeyError(item)

    try:
        raise ValueError("handled")
    except ValueError as handled:
        with pytest.raises(JoinError) as caught:
            await fan_out(branch, range(3), engine=engine)
        assert sys.exception() is handled
    assert seen == [None] * 6
    assert caught.value.exceptions[0].__context__ is None


async def test_the_join_error_has_the_handled_exception_as_its_context(engine):
    async def branch(item: int) -> None:
        raise KeyError(item)

    handled = ValueError("handled")
    with pytest.raises(JoinError) as caught:
        try:
            raise handled
        except ValueError:
            await fan_out(branch, [1], engine=engine)
    assert caught.value.__context__ is handled


async def test_a_branch_that_handled_an_exception_has_none_afterwards(engine):
    """Also when it was woken by one: by a future that failed."""
    seen: list[BaseException | None] = []
    loop = asyncio.get_running_loop()

    async def branch(_: int) -> None:
        future = loop.create_future()
        loop.call_later(1, future.set_exception, OSError())
        with suppress(OSError):
            await future
        seen.append(sys.exception())
        await asyncio.sleep(0)
        seen.append(sys.exception())

    await fan_out(branch, range(2), engine=engine)
    assert seen == [None] * 4


async def test_a_late_starter_does_not_see_the_exception_of_the_branch_before_it(engine):
    seen: list[BaseException | None] = []

    async def branch(item: int) -> None:
        seen.append(sys.exception())
        if item == 0:
            await asyncio.sleep(1)
            raise ValueError
        await asyncio.sleep(0)
        seen.append(sys.exception())

    with pytest.raises(JoinError):
        await fan_out(branch, range(3), bulkhead=1, fail_fast=False, engine=engine)
    assert seen == [None] * 5


# --- order among everything else on the loop ---


async def test_a_bare_yield_goes_behind_what_was_scheduled_before_it(engine):
    """FIFO, as with tasks: a callback that a branch schedules before it yields runs before the branch goes on."""
    loop = asyncio.get_running_loop()
    log: list[str] = []

    async def branch(item: int) -> None:
        for step in range(3):
            loop.call_soon(log.append, f"callback {item}.{step}")
            await asyncio.sleep(0)
            log.append(f"branch {item}.{step}")

    await fan_out(branch, range(2), engine=engine)
    for item in range(2):
        for step in range(3):
            assert log.index(f"callback {item}.{step}") < log.index(f"branch {item}.{step}")
    assert [line for line in log if line.startswith("branch")] == [
        f"branch {item}.{step}" for step in range(3) for item in range(2)
    ]


async def test_a_batch_of_bare_yields_leaves_others_their_turn(engine):
    turns = 0
    done = False

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    async def branch(_: int) -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await fan_out(branch, range(10), engine=engine)
    done = True
    await task
    assert turns >= 50


async def test_branches_waiting_for_one_future_wake_in_order(engine):
    gate = asyncio.get_running_loop().create_future()
    log: list[int] = []

    async def branch(item: int) -> None:
        await gate
        log.append(item)

    asyncio.get_running_loop().call_later(1, gate.set_result, None)
    await fan_out(branch, range(10), engine=engine)
    assert log == list(range(10))


async def test_wake_ups_are_fifo_among_branches_and_tasks(engine):
    """Waiters of one lock are served in the order they came, whether branch or task."""
    lock = asyncio.Lock()
    log: list[str] = []

    async def use(name: str) -> None:
        async with lock:
            log.append(name)
            await asyncio.sleep(1)

    async def task(name: str) -> None:
        await asyncio.sleep(0.5)
        await use(name)

    other = asyncio.create_task(task("task"))

    async def branch(item: int) -> None:
        await asyncio.sleep(0.25 + 0.5 * item)
        await use(f"branch {item}")

    await fan_out(branch, range(3), engine=engine)
    await other
    assert log == ["branch 0", "task", "branch 1", "branch 2"]


async def test_a_split_that_never_suspends_needs_no_turn_of_the_loop(engine):
    called = False

    def callback() -> None:
        nonlocal called
        called = True

    async def branch(item: int) -> int:
        return item

    asyncio.get_running_loop().call_soon(callback)
    await fan_out(branch, range(5), engine=engine)
    assert not called


async def test_wrong_awaitables_are_the_branchs_error(engine):
    class Odd:
        def __await__(self):
            yield "not a future"

    async def branch(_: int) -> None:
        await Odd()

    with pytest.raises(JoinError) as caught:
        await fan_out(branch, [1], engine=engine)
    assert isinstance(caught.value.exceptions[0], RuntimeError)
    assert "bad yield" in str(caught.value.exceptions[0])


async def test_a_future_of_another_loop_is_the_branchs_error(engine):
    other = asyncio.new_event_loop()
    future = other.create_future()

    async def branch(_: int) -> None:
        await future

    try:
        with pytest.raises(JoinError) as caught:
            await fan_out(branch, [1], engine=engine)
    finally:
        other.close()
    assert "attached to a different loop" in str(caught.value.exceptions[0])


async def test_awaiting_a_custom_awaitable_object(engine):
    class Answer:
        def __await__(self):
            yield from asyncio.sleep(1).__await__()
            return 5

    assert (await fan_out(lambda _: Answer(), [1], inline=True, engine=engine)).outputs() == [5]


async def test_the_time_it_takes_is_that_of_the_slowest(engine):
    began = asyncio.get_running_loop().time()
    await fan_out(asyncio.sleep, [1, 5, 3], engine=engine)
    assert asyncio.get_running_loop().time() - began == 5


async def test_the_timeout_of_a_fan_out(engine):
    with pytest.raises(SplitTimeoutError):
        await fan_out(asyncio.sleep, [1, 5, 3], timeout=4, engine=engine)
