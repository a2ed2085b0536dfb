"""Retries of a state's task and of branches: contract section 6."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join

from cano import (
    AttemptTimeoutError,
    BranchCancelledError,
    ConfigurationError,
    JoinError,
    Retry,
    RetryExhaustedError,
    RunCancelledError,
    TaskError,
    TaskResult,
    Workflow,
)
from cano.testing import flaky


def workflow_of(engine: str, task: Any, retry: Retry | None, **options: Any) -> Workflow[Any]:
    return Workflow(engine=engine).register(S.START, task, retry=retry, **options).add_exit_state(S.DONE)


def delays(observer: Observer) -> list[float]:
    return [event.value for event in observer.of("retry")]


class Always:
    """Fails each time, and counts."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls: list[float] = []
        self.error = error or Boom("again")

    async def run(self) -> Any:
        self.calls.append(asyncio.get_running_loop().time())
        raise self.error


async def test_none_is_the_default(engine: str) -> None:
    for retry in (None, Retry.none()):
        task = Always()
        with pytest.raises(TaskError) as caught:
            await workflow_of(engine, task, retry).orchestrate(S.START)
        assert type(caught.value) is TaskError
        assert caught.value.__cause__ is task.error
        assert len(task.calls) == 1


async def test_fixed_waits_the_same_each_time(engine: str) -> None:
    task = Always()
    with pytest.raises(RetryExhaustedError) as caught:
        await workflow_of(engine, task, Retry.fixed(3, 2.5)).orchestrate(S.START)
    assert task.calls == [0, 2.5, 5, 7.5]  # retries are the attempts after the first
    assert caught.value.attempts == caught.value.attempt == 4
    assert caught.value.__cause__ is task.error
    assert isinstance(caught.value, TaskError)
    assert "failed on each of 4 attempts, last with" in str(caught.value)


async def test_exponential_grows_up_to_its_longest_delay(engine: str) -> None:
    task = Always()
    retry = Retry.exponential(5, base=1, factor=3, max_delay=10, jitter=0)
    with pytest.raises(RetryExhaustedError):
        await workflow_of(engine, task, retry).orchestrate(S.START)
    assert task.calls == [0, 1, 4, 13, 23, 33]


async def test_jitter_moves_a_delay_by_at_most_its_share(engine: str) -> None:
    task, observer = Always(), Observer()
    retry = Retry.exponential(40, base=1, factor=1, jitter=0.5)
    with pytest.raises(RetryExhaustedError):
        await workflow_of(engine, task, retry).add_observer(observer).orchestrate(S.START)
    assert all(0.5 <= delay <= 1.5 for delay in delays(observer))
    assert len(set(delays(observer))) > 1
    waited = [after - before for before, after in zip(task.calls, task.calls[1:], strict=False)]
    assert waited == pytest.approx(delays(observer))


async def test_a_retry_delay_may_be_0(engine: str) -> None:
    task = Always()
    with pytest.raises(RetryExhaustedError):
        await workflow_of(engine, task, Retry.fixed(3, 0)).orchestrate(S.START)
    assert task.calls == [0, 0, 0, 0]


async def test_a_retry_with_delay_0_gives_the_loop_its_turn(engine: str) -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count)

    asyncio.get_running_loop().call_soon(count)
    with pytest.raises(RetryExhaustedError):
        await workflow_of(engine, Always(), Retry.fixed(20, 0)).orchestrate(S.START)
    assert turns >= 20


async def test_durations_may_be_timedeltas(engine: str) -> None:
    task = Always()
    with pytest.raises(RetryExhaustedError):
        await workflow_of(engine, task, Retry.fixed(1, timedelta(minutes=1))).orchestrate(S.START)
    assert task.calls == [0, 60]


async def test_a_task_that_recovers_goes_on(engine: str) -> None:
    observer = Observer()
    task = flaky(2, S.DONE)
    report = await workflow_of(engine, task, Retry.fixed(5, 1), name="flaky").add_observer(observer).execute(S.START)
    assert (task.calls, report.elapsed, report.visits[0].attempts) == (3, 2, 3)
    assert observer.kinds == [
        "workflow_start", "state_enter", "task_start", "retry", "task_start", "retry", "task_start", "task_success",
        "state_exit", "state_enter", "workflow_end",
    ]  # fmt: skip
    assert [event.attempt for event in observer.of("task_start")] == [1, 2, 3]
    assert [event.attempt for event in observer.of("retry")] == [1, 2]  # the attempt that failed
    assert all(isinstance(event.error, RuntimeError) for event in observer.of("retry"))


async def test_a_sync_task_is_retried_too(engine: str) -> None:
    calls: list[int] = []

    def work() -> S:
        calls.append(1)
        if len(calls) < 3:
            raise Boom
        return S.DONE

    for inline in (False, True):
        calls.clear()
        assert await workflow_of(engine, work, Retry.fixed(2, 0), inline=inline).orchestrate(S.START) is S.DONE
        assert len(calls) == 3


async def test_retries_used_up_by_zero_is_one_attempt(engine: str) -> None:
    task = Always()
    with pytest.raises(TaskError) as caught:
        await workflow_of(engine, task, Retry.fixed(0, 1)).orchestrate(S.START)
    assert type(caught.value) is TaskError
    assert task.calls == [0]


# --- which errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({}, 4),
        ({"retry_on": Boom}, 4),
        ({"retry_on": (OSError, Boom)}, 4),
        ({"retry_on": lambda error: "again" in str(error)}, 4),
        ({"retry_on": OSError}, 1),
        ({"retry_on": lambda _: False}, 1),
        ({"give_up_on": Boom}, 1),
        ({"give_up_on": lambda _: True}, 1),
        ({"give_up_on": OSError}, 4),
        ({"retry_on": Boom, "give_up_on": Exception}, 1),
    ],
)
@pytest.mark.parametrize("place", ["state", "branch"])
async def test_retry_on_and_give_up_on(engine: str, place: str, options: dict[str, Any], attempts: int) -> None:
    task = Always()
    retry = Retry.fixed(3, 1, **options)
    if place == "state":
        with pytest.raises(TaskError) as caught:
            await workflow_of(engine, task, retry).orchestrate(S.START)
        assert isinstance(caught.value, RetryExhaustedError) == (attempts > 1)
    else:
        workflow = Workflow(engine=engine).register_split(S.START, [task], join(), retry=retry)
        with pytest.raises(JoinError) as failed:
            await workflow.add_exit_state(S.DONE).orchestrate(S.START)
        assert failed.value.exceptions == (task.error,)
        assert failed.value.result is not None
        assert failed.value.result.errors[0].attempts == attempts
    assert len(task.calls) == attempts


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("wrong"),
        RunCancelledError(),
        BranchCancelledError("gone"),
    ],
)
@pytest.mark.parametrize("place", ["state", "branch"])
async def test_configuration_errors_and_cancellation_are_never_retried(
    engine: str, place: str, error: BaseException
) -> None:
    task = Always(error)
    retry = Retry.fixed(3, 0, retry_on=BaseException)
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    if place == "state":
        workflow.register(S.START, task, retry=retry)
    else:
        workflow.register_split(S.START, [task], join(), retry=retry)
    with pytest.raises((TaskError, JoinError)):
        await workflow.orchestrate(S.START)
    assert len(task.calls) == 1


async def test_a_state_that_is_cancelled_is_not_retried(engine: str) -> None:
    task = Always(asyncio.CancelledError("from inside"))
    with pytest.raises(asyncio.CancelledError, match="from inside"):
        await workflow_of(engine, task, Retry.fixed(3, 0, retry_on=BaseException)).orchestrate(S.START)
    assert len(task.calls) == 1


async def test_a_branch_that_is_cancelled_is_not_retried(engine: str) -> None:
    task = Always(asyncio.CancelledError())
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [task], join(), retry=Retry.fixed(3, 0, retry_on=BaseException))
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate(S.START)
    assert isinstance(caught.value.exceptions[0], BranchCancelledError)
    assert len(task.calls) == 1


@pytest.mark.parametrize("which", ["retry_on", "give_up_on"])
@pytest.mark.parametrize("place", ["state", "branch"])
async def test_a_filter_that_raises_is_a_failure_of_its_own(engine: str, which: str, place: str) -> None:
    def broken(error: BaseException) -> bool:
        raise ZeroDivisionError

    task = Always()
    retry: Any = Retry.fixed(3, 0, **{which: broken})
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    if place == "state":
        workflow.register(S.START, task, retry=retry)
        with pytest.raises(TaskError) as caught:
            await workflow.orchestrate(S.START)
        error: BaseException | None = caught.value.__cause__
    else:
        workflow.register_split(S.START, [task], join(), retry=retry)
        with pytest.raises(JoinError) as failed:
            await workflow.orchestrate(S.START)
        error = failed.value.exceptions[0]
    assert isinstance(error, ZeroDivisionError)
    assert error.__context__ is task.error
    assert len(task.calls) == 1


# --- max_elapsed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["state", "branch"])
async def test_no_retry_would_start_later_than_max_elapsed(engine: str, place: str) -> None:
    task = Always()
    retry = Retry.fixed(100, 2, max_elapsed=7)
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    if place == "state":
        workflow.register(S.START, task, retry=retry)
    else:
        workflow.register_split(S.START, [task], join(), retry=retry)
    with pytest.raises((RetryExhaustedError, JoinError)):
        await workflow.orchestrate(S.START)
    assert task.calls == [0, 2, 4, 6]
    assert asyncio.get_running_loop().time() == 6  # it does not wait for a retry that would come too late


async def test_max_elapsed_counts_from_the_first_attempt_of_this_state(engine: str) -> None:
    task = Always()

    async def before() -> S:
        await asyncio.sleep(100)
        return S.WORK

    workflow = Workflow(engine=engine).register(S.START, before).add_exit_state(S.DONE)
    workflow.register(S.WORK, task, retry=Retry.fixed(9, 2, max_elapsed=5))
    with pytest.raises(RetryExhaustedError):
        await workflow.orchestrate(S.START)
    assert task.calls == [100, 102, 104]


async def test_each_visit_of_a_state_has_its_own_retries(engine: str) -> None:
    calls: list[int] = []

    async def work() -> S:
        calls.append(1)
        if len(calls) % 2:
            raise Boom
        return S.DONE if len(calls) >= 6 else S.START

    report = await workflow_of(engine, work, Retry.fixed(1, 1)).execute(S.START)
    assert len(calls) == 6
    assert [visit.attempts for visit in report.visits] == [2, 2, 2, 0]
    assert [visit.duration for visit in report.visits] == [1, 1, 1, 0]


# --- with an attempt's timeout ------------------------------------------------------------------------------------


async def test_an_attempt_that_takes_too_long_is_made_again(engine: str) -> None:
    seen: list[float] = []

    async def slow_at_first() -> S:
        seen.append(asyncio.get_running_loop().time())
        await asyncio.sleep(10 if len(seen) < 3 else 1)
        return S.DONE

    report = await workflow_of(engine, slow_at_first, Retry.fixed(5, 1), attempt_timeout=2).execute(S.START)
    assert seen == [0, 3, 6]
    assert (report.elapsed, report.visits[0].attempts) == (7, 3)


async def test_attempt_timeouts_can_be_told_from_other_errors(engine: str) -> None:
    async def slow() -> S:
        await asyncio.sleep(10)
        return S.DONE

    retry = Retry.fixed(2, 0, give_up_on=TimeoutError)
    with pytest.raises(AttemptTimeoutError) as caught:  # no retry was made, so it is raised as it is
        await workflow_of(engine, slow, retry, attempt_timeout=1).orchestrate(S.START)
    assert caught.value.attempt == 1
    with pytest.raises(RetryExhaustedError) as exhausted:
        await workflow_of(engine, slow, Retry.fixed(2, 0), attempt_timeout=1).orchestrate(S.START)
    assert isinstance(exhausted.value.__cause__, AttemptTimeoutError)
    assert exhausted.value.__cause__.attempt == 3


async def test_the_retry_of_a_state_that_fans_out_holds_for_its_branches(engine: str) -> None:
    tasks = [flaky(2, "a"), flaky(1, "b")]

    async def fan_out() -> Any:
        return TaskResult.Split(tasks, join())

    report = await workflow_of(engine, fan_out, Retry.fixed(2, 1)).execute(S.START)
    assert report.splits[0].outputs() == ["a", "b"]
    assert [row.attempts for row in report.splits[0].successes] == [2, 3]


async def test_branches_retry_on_their_own(engine: str) -> None:
    observer = Observer()
    tasks = [flaky(3, "a"), flaky(0, "b"), flaky(1, "c")]
    workflow = Workflow(engine=engine).register_split(S.START, tasks, join(), retry=Retry.fixed(3, 1), name="three")
    report = await workflow.add_exit_state(S.DONE).add_observer(observer).execute(S.START)
    split = report.splits[0]
    assert [(row.task_index, row.attempts, row.duration) for row in split.successes] == [
        (1, 1, 0),
        (2, 2, 1),
        (0, 4, 3),
    ]
    assert [(event.branch, event.attempt, event.value) for event in observer.of("retry")] == [
        (0, 1, 1), (2, 1, 1), (0, 2, 1), (0, 3, 1),
    ]  # fmt: skip
    assert {event.task for event in observer.of("retry")} == {"three"}
