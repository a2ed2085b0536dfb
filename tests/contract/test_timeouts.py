"""Limits on an attempt and on a run: contract section 6."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from tests.contract.given import Boom, Observer, S, join, never, simple, sleeper, to

from cano import (
    AttemptTimeoutError,
    CancelToken,
    CanoError,
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    RunCancelledError,
    SplitTimeoutError,
    TaskError,
    Workflow,
    WorkflowTimeoutError,
)

pytestmark = pytest.mark.fault("F1")


def now() -> float:
    return asyncio.get_running_loop().time()


def clean() -> bool:
    """Whether nobody has left a request for cancellation behind in this task."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling() == 0


# --- an attempt's -------------------------------------------------------------------------------------------------


async def test_attempt_timeout_bounds_one_attempt(engine: str) -> None:
    observer = Observer()
    with pytest.raises(AttemptTimeoutError) as caught:
        await simple(engine, never, attempt_timeout=2, name="stuck").add_observer(observer).orchestrate(S.START)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert not isinstance(error, TaskError)  # itself raised when no retry is set
    assert (error.limit, error.state, error.task, error.attempt, error.path) == (2, S.START, "stuck", 1, (S.START,))
    assert "attempt 1 of task stuck of state S.START took longer than its attempt_timeout of 2 s" in str(error)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert now() == 2
    assert clean()
    assert observer.kinds == [
        "workflow_start", "state_enter", "task_start", "timeout", "task_failure", "state_exit", "workflow_end",
    ]  # fmt: skip
    assert observer.one("timeout").value == 2


@pytest.mark.parametrize("limit", [1.5, timedelta(seconds=1.5)])
async def test_a_limit_is_seconds_or_a_timedelta(engine: str, limit: Any) -> None:
    with pytest.raises(AttemptTimeoutError, match=r"of 1\.5 s"):
        await simple(engine, never, attempt_timeout=limit).orchestrate(S.START)
    with pytest.raises(WorkflowTimeoutError) as caught:
        await simple(engine, never).orchestrate(S.START, timeout=limit)
    assert caught.value.limit == 1.5
    assert now() == 3


async def test_an_attempt_that_ends_in_time_is_not_touched(engine: str) -> None:
    assert await simple(engine, sleeper(1.999), attempt_timeout=2).orchestrate(S.START) is S.DONE
    await asyncio.sleep(5)
    assert clean()


async def test_clean_up_of_an_attempt_runs_before_the_error(engine: str) -> None:
    log: list[str] = []

    async def careful() -> Any:
        try:
            await never()
        finally:
            await asyncio.sleep(1)
            log.append("cleaned")

    with pytest.raises(AttemptTimeoutError):
        await simple(engine, careful, attempt_timeout=2).orchestrate(S.START)
    assert (log, now(), clean()) == (["cleaned"], 3, True)


async def test_an_attempt_that_answers_its_timeout_with_a_value_has_succeeded(engine: str) -> None:
    async def stubborn() -> S:
        try:
            await never()
        except asyncio.CancelledError:
            pass
        return S.DONE

    assert await simple(engine, stubborn, attempt_timeout=2).orchestrate(S.START) is S.DONE
    assert clean()
    await asyncio.sleep(1)  # the cancellation must not hit what the caller awaits next


async def test_an_attempt_that_answers_its_timeout_with_an_error_has_failed_with_it(engine: str) -> None:
    async def bad() -> S:
        try:
            await never()
        finally:
            raise Boom

    with pytest.raises(TaskError) as caught:
        await simple(engine, bad, attempt_timeout=2).orchestrate(S.START)
    assert isinstance(caught.value.__cause__, Boom)
    assert clean()


async def test_the_users_own_timeout_passes_through_as_the_users(engine: str) -> None:
    async def own() -> S:
        async with asyncio.timeout(1):
            return await never()  # type: ignore[no-any-return]

    with pytest.raises(TaskError) as caught:
        await simple(engine, own, attempt_timeout=5).orchestrate(S.START)
    assert type(caught.value.__cause__) is TimeoutError
    assert now() == 1


async def test_an_attempt_that_never_suspends_is_not_interrupted(engine: str) -> None:
    assert await simple(engine, to(S.DONE), attempt_timeout=1e-9).orchestrate(S.START) is S.DONE


async def test_a_sync_task_on_a_thread_is_bounded_too(engine: str) -> None:
    release = threading.Event()

    def block() -> S:
        release.wait(200)
        return S.DONE

    loop = asyncio.get_running_loop()
    loop.call_later(3, release.set)
    loop.patience = 0.01  # type: ignore[attr-defined]  # the clock moves on though the thread is busy
    with pytest.raises(AttemptTimeoutError):
        await simple(engine, block, attempt_timeout=2).orchestrate(S.START)
    assert now() == 2
    release.set()


@pytest.mark.parametrize("kind", ["async", "inline awaitable"])
async def test_attempt_timeout_holds_for_each_branch(engine: str, kind: str) -> None:
    observer = Observer()

    async def work(item: int) -> int:
        await asyncio.sleep(item)
        return item

    def start(item: int) -> Any:
        return work(item)

    workflow = Workflow(engine=engine).add_exit_state(S.DONE).add_observer(observer)
    fn = work if kind == "async" else start
    config = join(strategy=JoinStrategy.Quorum(2), store_partial_results=True)
    workflow.register_map(S.START, fn, [1, 3, 5, 2], config, attempt_timeout=2.5, name="map", inline=True)
    report = await workflow.execute(S.START)
    assert [row.task_index for row in report.splits[0].successes] == [0, 3]
    workflow.register_map(S.START, fn, [1, 3, 2], join(), attempt_timeout=2.5, name="map", inline=True, replace=True)
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate(S.START)
    (error,) = caught.value.exceptions
    assert isinstance(error, AttemptTimeoutError)
    assert (error.limit, error.state, error.task, error.attempt) == (2.5, S.START, "map", 1)
    event = observer.one("timeout")
    assert (event.branch, event.attempt, event.value) == (1, 1, 2.5)
    assert isinstance(observer.one("branch_failure").error, AttemptTimeoutError)


@pytest.mark.parametrize("introspect", [False, True], ids=["branch", "introspect"])
@pytest.mark.parametrize("how", ["the join", "the run's timeout", "a token", "a common wake-up"])
async def test_a_branch_is_told_once_when_its_attempts_limit_comes_first(
    engine: str, introspect: bool, how: str
) -> None:
    """It is cleaning up when the join is decided, and is not told to stop a second time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    log: list[Any] = []
    gate = loop.create_future()
    token = CancelToken()

    async def slow() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            if how == "a common wake-up":  # it goes on at the decision, before its turn to be told has come
                await gate
            await asyncio.sleep(5)
            log.append(loop.time() - began)

    async def quick() -> None:
        await asyncio.sleep(3)
        if how == "a token":
            token.cancel()
        if how in ("a token", "the run's timeout"):
            await asyncio.sleep(100)
        if not gate.done():
            gate.set_result(None)

    class Slow:
        config: ClassVar[dict[str, Any]] = {"attempt_timeout": 1}
        run = staticmethod(slow)

    workflow: Workflow[S] = Workflow(engine=engine, introspect=introspect).add_exit_state(S.DONE)
    workflow.register_split(S.START, [Slow(), quick], JoinConfig(JoinStrategy.Any, S.DONE))
    timeout = 3 if how == "the run's timeout" else None
    try:
        await workflow.orchestrate(S.START, timeout=timeout, cancel=token)
    except (WorkflowTimeoutError, RunCancelledError):
        assert how in ("a token", "the run's timeout")
    assert log == [8 if how == "a common wake-up" else 6]


async def test_many_that_clean_up_are_told_once(engine: str) -> None:
    """So many that not all are told of the decision in its turn; then all go on, before theirs has come."""
    loop = asyncio.get_running_loop()
    gate = loop.create_future()
    cleaned: list[int] = []

    async def branch(item: int) -> None:
        if item == 0:
            await asyncio.sleep(3)
            loop.call_soon(gate.set_result, None)
            return
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.shield(gate)
            await asyncio.sleep(1)
            cleaned.append(item)

    class Limited:
        def __init__(self, item: int) -> None:
            self.config = {"attempt_timeout": 1 if item else None}
            self.item = item

        async def run(self) -> None:
            await branch(self.item)

    workflow: Workflow[S] = Workflow(engine=engine).add_exit_state(S.DONE)
    tasks: list[Any] = [Limited(item) for item in range(600)]
    await workflow.register_split(S.START, tasks, JoinConfig(JoinStrategy.Any, S.DONE)).orchestrate(S.START)
    assert sorted(cleaned) == list(range(1, 600))


@pytest.mark.parametrize("introspect", [False, True], ids=["branch", "introspect"])
async def test_a_branch_that_took_its_limits_cancellation_back_is_told_of_the_decision(
    engine: str, introspect: bool
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    log: list[Any] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        try:
            await asyncio.sleep(100)
        finally:
            log.append(loop.time() - began)

    class Stubborn:
        config: ClassVar[dict[str, Any]] = {"attempt_timeout": 1}
        run = staticmethod(stubborn)

    workflow: Workflow[S] = Workflow(engine=engine, introspect=introspect).add_exit_state(S.DONE)
    tasks: list[Any] = [Stubborn(), sleeper(3)]
    await workflow.register_split(S.START, tasks, JoinConfig(JoinStrategy.Any, S.DONE)).orchestrate(S.START)
    assert log == [3]


async def test_a_branch_that_times_out_is_retried(engine: str) -> None:
    calls: list[float] = []

    async def slow_at_first() -> int:
        calls.append(now())
        await asyncio.sleep(5 if len(calls) < 3 else 1)
        return 1

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [slow_at_first], join(), retry=Retry.fixed(2, 1), attempt_timeout=2)
    report = await workflow.execute(S.START)
    assert calls == [0, 3, 6]
    assert report.splits[0].successes[0].attempts == 3


# --- the run's ----------------------------------------------------------------------------------------------------


async def test_timeout_bounds_the_run(engine: str) -> None:
    observer = Observer()
    workflow = simple(engine, sleeper(1, S.WORK)).register(S.WORK, sleeper(5)).add_observer(observer)
    with pytest.raises(WorkflowTimeoutError) as caught:
        await workflow.orchestrate(S.START, timeout=3)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert isinstance(error, CanoError)
    assert (error.elapsed, error.limit, error.state, error.path) == (3, 3, S.WORK, (S.START, S.WORK))
    assert "ended in the state S.WORK after 3 s, past its timeout of 3 s" in str(error)
    assert clean()
    assert now() == 3
    assert observer.kinds[-3:] == ["state_exit", "timeout", "workflow_end"]
    assert observer.one("timeout").value == 3
    assert observer.one("workflow_end").error is error


async def test_a_run_that_ends_in_time_is_not_touched(engine: str) -> None:
    workflow = simple(engine, sleeper(2))
    assert await workflow.orchestrate(S.START, timeout=2.001) is S.DONE
    await asyncio.sleep(5)
    assert clean()


async def test_a_run_that_times_out_in_a_split_has_awaited_every_branch(engine: str) -> None:
    ended: list[int] = []

    async def careful(item: int) -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(item)
            ended.append(item)

    workflow = Workflow(engine=engine).register_map(S.START, careful, [1, 2, 3], join()).add_exit_state(S.DONE)
    with pytest.raises(WorkflowTimeoutError) as caught:
        await workflow.orchestrate(S.START, timeout=5)
    assert ended == [1, 2, 3]
    assert now() == 8
    assert (caught.value.elapsed, caught.value.limit) == (8, 5)
    assert clean()


async def test_a_run_can_time_out_in_a_back_off(engine: str) -> None:
    async def bad() -> S:
        raise Boom

    with pytest.raises(WorkflowTimeoutError):
        await simple(engine, bad, retry=Retry.fixed(3, 10)).orchestrate(S.START, timeout=15)
    assert now() == 15


@pytest.mark.real_time
async def test_a_chain_that_never_suspends_ends_between_two_states(engine: str) -> None:
    async def again() -> S:
        return S.START

    began = time.monotonic()
    with pytest.raises(WorkflowTimeoutError) as caught:
        await simple(engine, again).orchestrate(S.START, timeout=0.02)
    assert caught.value.elapsed >= 0.02
    assert time.monotonic() - began < 200
    assert clean()


async def test_a_cpu_bound_state_past_the_deadline_ends_the_run_before_the_next(engine: str) -> None:
    """Only the loop can interrupt a state; what comes after it is never begun."""
    loop: Any = asyncio.get_running_loop()
    begun: list[str] = []

    async def busy() -> S:
        loop.jump(10)  # as if it had computed for ten seconds
        return S.WORK

    async def following() -> S:
        begun.append("following")
        return S.DONE

    workflow = simple(engine, busy).register(S.WORK, following)
    with pytest.raises(WorkflowTimeoutError) as caught:
        await workflow.orchestrate(S.START, timeout=3)
    assert begun == []
    assert (caught.value.elapsed, caught.value.path) == (10, (S.START, S.WORK))
    assert clean()


async def test_a_run_that_answers_its_timeout_with_a_state_has_ended_all_the_same(engine: str) -> None:
    async def stubborn() -> S:
        try:
            await never()
        except asyncio.CancelledError:
            return S.DONE

    assert await simple(engine, stubborn).orchestrate(S.START, timeout=2) is S.DONE
    assert clean()
    await asyncio.sleep(1)


async def test_a_run_that_swallows_its_timeout_does_not_get_far(engine: str) -> None:
    begun: list[str] = []

    async def stubborn() -> S:
        try:
            await never()
        except asyncio.CancelledError:
            return S.WORK

    async def following() -> S:
        begun.append("following")
        await asyncio.sleep(100)
        return S.DONE

    workflow = simple(engine, stubborn).register(S.WORK, following)
    with pytest.raises(WorkflowTimeoutError):
        await workflow.orchestrate(S.START, timeout=2)
    assert begun == []
    assert clean()


async def test_an_error_wins_over_the_timeout_it_was_answered_with(engine: str) -> None:
    async def bad() -> S:
        try:
            await never()
        finally:
            raise Boom

    with pytest.raises(TaskError):
        await simple(engine, bad).orchestrate(S.START, timeout=2)
    assert clean()


async def test_attempt_and_run_may_time_out_in_the_same_moment(engine: str) -> None:
    with pytest.raises((WorkflowTimeoutError, AttemptTimeoutError)):
        await simple(engine, never, attempt_timeout=2).orchestrate(S.START, timeout=2)
    assert clean()
    await asyncio.sleep(1)


async def test_the_shorter_of_two_limits_counts(engine: str) -> None:
    with pytest.raises(AttemptTimeoutError):
        await simple(engine, never, attempt_timeout=1).orchestrate(S.START, timeout=2)
    with pytest.raises(WorkflowTimeoutError):
        await simple(engine, never, attempt_timeout=2).orchestrate(S.START, timeout=1)
    workflow = Workflow(engine=engine).register_split(S.START, [never], join(timeout=3)).add_exit_state(S.DONE)
    with pytest.raises(SplitTimeoutError):
        await workflow.orchestrate(S.START, timeout=4)
    with pytest.raises(WorkflowTimeoutError):
        await workflow.orchestrate(S.START, timeout=2)
    assert clean()


async def test_a_timeout_around_a_run_works_as_everywhere(engine: str) -> None:
    workflow = simple(engine, never)
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(1):
            await workflow.orchestrate(S.START, timeout=5)
    assert not isinstance(caught.value, CanoError)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(workflow.orchestrate(S.START), 1)
    assert clean()


async def test_nested_runs_have_their_own_limits(engine: str) -> None:
    inner = simple(engine, never)

    async def outer_task() -> S:
        with pytest.raises(WorkflowTimeoutError):
            await inner.orchestrate(S.START, timeout=1)
        await asyncio.sleep(1)
        return S.DONE

    assert await simple(engine, outer_task, attempt_timeout=5).orchestrate(S.START, timeout=6) is S.DONE
    assert now() == 2
    assert clean()


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "1", True, [1], timedelta(0)])
async def test_bad_limits_are_refused_where_they_are_written(engine: str, bad: Any) -> None:
    workflow = simple(engine, to(S.DONE))
    with pytest.raises(ConfigurationError, match="attempt_timeout must be"):
        simple(engine, never, attempt_timeout=bad)
    with pytest.raises(ConfigurationError, match="timeout must be"):
        await workflow.orchestrate(S.START, timeout=bad)
