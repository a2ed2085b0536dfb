"""What is due after the decision, while losers still clean up, changes nothing: timers, retries, sources, limits."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import types
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.contract.given import Boom, S, join, to

from cano import (
    CancelToken,
    ConfigurationError,
    JoinError,
    JoinStrategy,
    Retry,
    RunCancelledError,
    SplitTimeoutError,
    TaskError,
    Workflow,
    WorkflowError,
    as_completed,
    fan_out,
)
from cano._engine.threads import Pool

pytestmark = pytest.mark.fault("F14")


class Branches:
    """Branches by a script: (seconds, what then), and how long each cleans up when it is cancelled."""

    def __init__(self, clean_up: float = 3) -> None:
        self.clean_up = clean_up
        self.started: list[int] = []

    async def run(self, item: tuple[int, float, bool]) -> int:
        index, seconds, succeeds = item
        self.started.append(index)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(self.clean_up)
            raise
        if not succeeds:
            raise Boom(index)
        return index


async def test_a_hedge_delay(engine: str) -> None:
    branches = Branches()
    result = await fan_out(
        branches.run,
        [(0, 1e6, True), (1, 0.25, True), (2, 1, True)],
        strategy=JoinStrategy.Any,
        hedge_delay=1,
        engine=engine,
    )
    assert branches.started == [0, 1]
    assert (result.outputs(), result.cancelled) == ([1], (0, 2))


async def test_a_back_off(engine: str) -> None:
    branches = Branches()
    result = await fan_out(
        branches.run,
        [(0, 0.25, False), (1, 0.5, True), (2, 1e6, True)],
        strategy=JoinStrategy.Any,
        retry=Retry.fixed(5, 1),
        engine=engine,
    )
    assert branches.started == [0, 1, 2]
    assert (result.outputs(), result.cancelled) == ([1], (0, 2))


async def test_the_deadline_and_an_attempts_limit(engine: str) -> None:
    branches = Branches()
    result = await fan_out(
        branches.run,
        [(0, 0.5, True), (1, 1e6, True)],
        strategy=JoinStrategy.Any,
        timeout=1,
        attempt_timeout=2,
        engine=engine,
    )
    assert (result.outputs(), result.cancelled) == ([0], (1,))


async def test_a_source_that_swallows_its_cancellation(engine: str) -> None:
    """It answers with a list, and a length, when the split has long run out of time."""

    async def source() -> list[int]:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return [1, 2, 3]

    started: list[int] = []
    with pytest.raises(SplitTimeoutError) as caught:
        await fan_out(started.append, source, timeout=1, inline=True, engine=engine)
    assert started == []
    assert caught.value.result.total_count == 0


async def test_a_source_that_fails_when_it_is_cancelled(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            raise Boom("in the source") from None

    caplog.set_level(logging.WARNING, "cano")
    result = await fan_out(lambda item: item, source(), strategy=JoinStrategy.PartialTimeout, timeout=1, engine=engine)
    assert result.outputs() == [0]
    assert "Boom" in caplog.text


async def test_a_source_that_takes_its_time_to_close(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    """Longer than a loser may without being named; but a source is none."""

    async def source() -> AsyncIterator[tuple[int, float, bool]]:
        try:
            yield 0, 1e6, True
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(20)

    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(SplitTimeoutError):
        await fan_out(Branches(1).run, source(), timeout=1, engine=engine)
    assert loop.time() - began == 21
    assert caplog.text == ""


async def test_an_item_of_an_asynchronous_source_that_is_no_task(engine: str) -> None:
    async def source() -> AsyncIterator[Any]:
        yield to("a value")
        yield 5

    workflow: Workflow[Any] = Workflow(engine=engine)
    workflow.register_split(S.FAN, source(), join(strategy=JoinStrategy.All)).add_exit_state(S.DONE)
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate(S.FAN)
    [error] = caught.value.exceptions
    assert isinstance(error, ConfigurationError)


class Pretends:
    """Looks like a coroutine function, as a mock does, and is none."""

    def __init__(self, like: Any) -> None:
        for name in ("__name__", "__code__", "__defaults__", "__kwdefaults__", "__annotations__"):
            setattr(self, name, getattr(like, name))

    def __call__(self, item: int) -> int:
        return item + 1


async def test_a_coroutine_function_that_returns_a_plain_value(engine: str) -> None:
    """It says that it is one, and is not: then what it returned is the output."""

    async def like(item: int) -> None: ...

    pretends = Pretends(like)
    assert inspect.iscoroutinefunction(pretends)
    assert (await fan_out(pretends, [1, 2], engine=engine)).outputs() == [2, 3]


async def test_a_generator_that_is_a_coroutine(engine: str) -> None:
    """`types.coroutine`: what it returns can be awaited, though it has no `__await__`."""

    @types.coroutine
    def branch(item: int) -> Any:
        yield
        return item + 1

    @types.coroutine
    def state() -> Any:
        yield
        return S.DONE

    for function in (branch, functools.partial(branch)):
        assert (await fan_out(function, [1, 2], engine=engine)).outputs() == [2, 3]
    assert (
        await Workflow(engine=engine)
        .register_split(S.FAN, [state, state], join())
        .add_exit_state(S.DONE)
        .orchestrate(S.FAN)
        is S.DONE
    )
    assert await Workflow(engine=engine).register(S.START, state).add_exit_state(S.DONE).orchestrate(S.START) is S.DONE


async def test_results_that_were_handed_over_are_not_kept(engine: str) -> None:
    taken = []
    with pytest.raises(SplitTimeoutError) as caught:
        async for row in as_completed(Branches(0).run, [(0, 0.5, True), (1, 1e6, True)], timeout=1, engine=engine):
            taken.append(row.result)
    assert taken == [0]
    assert caught.value.result.outputs() == [None]
    assert caught.value.result.cancelled == (1,)


async def test_a_state_that_only_a_whole_enum_declares(engine: str) -> None:
    workflow: Workflow[S] = Workflow(engine=engine)
    workflow.register(S.START, to(S.WORK), next=S).add_exit_state(S.DONE)
    with pytest.raises(WorkflowError, match="WORK") as caught:
        await workflow.orchestrate(S.START)
    assert caught.value.path == (S.START, S.WORK)


# --- limits that a state's task does not heed ---------------------------------------------------------------------


async def swallow() -> S:
    try:
        await asyncio.sleep(1e6)
    except asyncio.CancelledError:
        pass
    return S.DONE


async def swallow_elsewhere() -> S:
    """What it awaits swallows the cancellation: it never arrives here."""
    return await asyncio.create_task(swallow())


@pytest.mark.parametrize("limit", ["run", "attempt"])
@pytest.mark.parametrize("task", [swallow, swallow_elsewhere])
async def test_what_ends_in_spite_of_its_limit(engine: str, task: Any, limit: str) -> None:
    """The task swallows the cancellation and ends the run; nothing of it may reach the caller's next await."""
    options: Any = {"attempt_timeout": 1} if limit == "attempt" else {}
    workflow: Workflow[S] = Workflow(engine=engine).register(S.START, task, **options).add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START, timeout=1 if limit == "run" else None) is S.DONE
    await is_unharmed()


@pytest.mark.parametrize("limit", ["run", "attempt"])
async def test_a_task_that_fails_when_its_time_is_up(engine: str, limit: str) -> None:
    async def fails() -> S:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            raise Boom from None
        return S.DONE

    options: Any = {"attempt_timeout": 1} if limit == "attempt" else {}
    workflow: Workflow[S] = Workflow(engine=engine).register(S.START, fails, **options).add_exit_state(S.DONE)
    with pytest.raises(TaskError) as caught:
        await workflow.orchestrate(S.START, timeout=1 if limit == "run" else None)
    assert isinstance(caught.value.__cause__, Boom)
    await is_unharmed()


async def test_between_states_a_token_that_was_swallowed_still_counts(engine: str) -> None:
    token = CancelToken()
    workflow: Workflow[S] = Workflow(engine=engine)
    workflow.register(S.START, go_on).register(S.WORK, to(S.DONE)).add_exit_state(S.DONE)
    asyncio.get_running_loop().call_later(1, token.cancel)
    with pytest.raises(RunCancelledError):
        await workflow.orchestrate(S.START, cancel=token)
    await is_unharmed()


async def go_on() -> S:
    await swallow()
    return S.WORK


@pytest.mark.parametrize("limit", ["run", "attempt"])
async def test_a_cancellation_of_ones_own_survives_the_limit(engine: str, limit: str) -> None:
    """A task that swallows the limit's cancellation and then asks for one itself gets that one, as with asyncio.timeout."""

    async def asks_itself() -> S:
        await swallow()
        task = asyncio.current_task()
        assert task is not None
        task.cancel("my own")
        return S.DONE

    async def caller() -> str:
        options: Any = {"attempt_timeout": 1} if limit == "attempt" else {}
        workflow: Workflow[S] = Workflow(engine=engine).register(S.START, asks_itself, **options)
        await workflow.add_exit_state(S.DONE).orchestrate(S.START, timeout=1 if limit == "run" else None)
        await asyncio.sleep(0)
        return "went on"

    async def plain() -> str:
        async with asyncio.timeout(1):
            await asks_itself()
        await asyncio.sleep(0)
        return "went on"

    for way in (plain, caller):
        task = asyncio.create_task(way())
        await asyncio.wait([task])
        assert task.cancelled(), way.__name__


@pytest.mark.parametrize("limit", ["run", "attempt"])
async def test_a_limit_that_fires_inside_the_tasks_own_step(engine: str, limit: str) -> None:
    """As it does where a loop is run inside the loop: the task ends before its cancellation could arrive anywhere."""

    async def runs_the_loop() -> S:
        loop: Any = asyncio.get_running_loop()
        [handle] = [handle for handle in loop._scheduled if handle._args == ("timeout",)]
        handle._run()
        handle.cancel()
        return S.DONE

    options: Any = {"attempt_timeout": 1} if limit == "attempt" else {}
    workflow: Workflow[S] = Workflow(engine=engine).register(S.START, runs_the_loop, **options)
    workflow.add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START, timeout=1 if limit == "run" else None) is S.DONE
    await is_unharmed()


async def is_unharmed() -> None:
    """No cancellation is on its way to this task, and none is counted."""
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(1)


# --- from inside a start ------------------------------------------------------------------------------------------


async def test_a_deadline_that_passes_inside_a_first_step(engine: str) -> None:
    """Where a loop is run inside the loop, timers fire in there: the branch that runs it is the first of the losers."""
    ended: list[int] = []

    async def branch(item: int) -> None:
        if item == 1:
            loop: Any = asyncio.get_running_loop()
            loop.jump(2)  # as if it had blocked the loop for so long: the deadline passes meanwhile
            for handle in list(loop._scheduled):
                if handle.when() <= loop.time() and not handle.cancelled():
                    handle._run()
                    handle.cancel()
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(item)

    with pytest.raises(SplitTimeoutError) as caught:
        await fan_out(branch, range(3), timeout=1, engine=engine)
    assert sorted(ended) == [0, 1]
    assert caught.value.result.cancelled == (0, 1, 2)


async def test_a_task_factory_that_interrupts(engine: str) -> None:
    """As an eager task does whose first step is interrupted: it leaves through the start itself."""
    loop = asyncio.get_running_loop()
    made: list[asyncio.Task[Any]] = []

    async def branch(_: int) -> None:
        await asyncio.sleep(30)

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        if len(made) == 2:
            coro.close()
            raise KeyboardInterrupt
        made.append(asyncio.Task(coro, loop=loop, **options))
        return made[-1]

    loop.set_task_factory(factory)
    try:
        with pytest.raises(KeyboardInterrupt):
            await fan_out(branch, range(4), engine=engine)
    finally:
        loop.set_task_factory(None)
    assert [task.cancelled() for task in made] == [True, True]


async def test_no_thread_for_sync_branches(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned_up: list[int] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleaned_up.append(1)

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Pool, "submit", refuse)
    monkeypatch.setattr(Pool, "submit_many", refuse)
    workflow: Workflow[Any] = Workflow(engine=engine)
    workflow.register_split(S.FAN, [waits, lambda: 1, waits], join()).add_exit_state(S.DONE)
    with pytest.raises(TaskError, match="can't start new thread"):
        await workflow.orchestrate(S.FAN)
    assert cleaned_up == [1, 1]
