"""The words of a run's errors: who, where, why, what to try; and never a value."""

from __future__ import annotations

import asyncio
import enum

import pytest

from cano import (
    AttemptTimeoutError,
    BranchCancelledError,
    ConfigurationError,
    JoinError,
    JoinStrategy,
    JoinVerdict,
    RetryExhaustedError,
    RunCancelledError,
    SplitResult,
    SplitTimeoutError,
    TaskError,
    WorkflowError,
    WorkflowTimeoutError,
    fan_out,
)
from cano._engine import failures
from cano.results import ListColumns

pytestmark = pytest.mark.fault("F2")

CANARY = "canary-a90c"


class DataState(enum.Enum):
    START = "start"
    END = CANARY


class Place(enum.Flag):
    HERE = 1
    THERE = 2


class Opaque:
    def __repr__(self) -> str:
        return CANARY


WHERE = {"state": DataState.START, "task": "load", "path": (DataState.START,)}


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (DataState.END, "DataState.END"),
        (Place.HERE | Place.THERE, "Place.HERE|THERE"),
        ("start", "'start'"),
        (3, "3"),
        (("load", DataState.START), "('load', DataState.START)"),
        (("load",), "('load',)"),
        (int, "int"),
        ("x" * 500, "'" + "x" * 98 + "…"),
    ],
)
def test_how_states_are_shown(state: object, shown: str) -> None:
    assert failures.describe_state(state) == shown


def test_other_states_are_shown_by_their_type() -> None:
    assert failures.describe_state(Opaque()).endswith("Opaque")
    assert failures.describe_state(frozenset({CANARY})) == "frozenset"


# --- tasks ---


def test_a_failed_task() -> None:
    cause = ValueError("bad\nsecond line")
    error = failures.task_failed(cause, attempts=1, retried=False, **WHERE)  # type: ignore[arg-type]
    assert type(error) is TaskError
    assert str(error) == "task load of state DataState.START failed with ValueError: bad"
    assert (error.state, error.task, error.attempt, error.path) == (DataState.START, "load", 1, (DataState.START,))
    assert error.__cause__ is cause


def test_a_failed_task_after_retries() -> None:
    cause = ValueError("bad")
    error = failures.task_failed(cause, attempts=3, retried=True, **WHERE)  # type: ignore[arg-type]
    assert isinstance(error, RetryExhaustedError)
    assert (error.attempts, error.attempt, error.__cause__) == (3, 3, cause)
    assert "3 attempts" in str(error)
    assert "ValueError: bad" in str(error)


def test_a_message_that_cannot_be_shown_hides_nothing() -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise OSError

    error = failures.task_failed(SilentError(), attempts=1, retried=False, **WHERE)  # type: ignore[arg-type]
    assert "SilentError" in str(error)


def test_endless_messages_end() -> None:
    error = failures.task_failed(ValueError("x" * 10_000), attempts=1, retried=False, **WHERE)  # type: ignore[arg-type]
    assert len(str(error)) < 400


def test_an_attempt_timeout_is_raised_as_it_is() -> None:
    late = failures.attempt_timed_out(0.5, state="s", task="load", attempt=1, cause=asyncio.CancelledError())
    assert isinstance(late, AttemptTimeoutError)
    assert (late.limit, late.attempt, type(late.__cause__)) == (0.5, 1, asyncio.CancelledError)
    assert failures.task_failed(late, state="s", task="load", attempts=1, retried=False, path=("s",)) is late
    assert late.path == ("s",)


def test_an_attempt_timeout_after_retries_is_the_cause() -> None:
    late = failures.attempt_timed_out(0.5, state="s", task="load", attempt=2)
    error = failures.task_failed(late, state="s", task="load", attempts=2, retried=True, path=())
    assert isinstance(error, RetryExhaustedError)
    assert error.__cause__ is late


def test_an_attempt_timeout_from_inside_the_task_is_the_tasks_own() -> None:
    late = failures.attempt_timed_out(0.5, state="inner", task="load", attempt=1)
    inner = failures.task_failed(late, state="inner", task="load", attempts=1, retried=False, path=())
    outer = failures.task_failed(inner, state="outer", task="nest", attempts=1, retried=False, path=())
    assert type(outer) is TaskError
    assert outer.__cause__ is late


@pytest.mark.parametrize("value", [CANARY, [CANARY], Opaque(), 5, (CANARY, 1)])
def test_what_is_no_state_is_named_by_its_type(value: object) -> None:
    error = failures.bad_result(value, reason="unknown", **WHERE)  # type: ignore[arg-type]
    assert type(error) is WorkflowError
    assert type(value).__name__ in str(error)
    assert CANARY not in str(error)
    assert "task load of state DataState.START" in str(error)


def test_a_member_of_another_enum_is_named() -> None:
    assert "Place.HERE" in str(failures.bad_result(Place.HERE, reason="unknown", **WHERE))  # type: ignore[arg-type]


def test_none_gets_its_own_words() -> None:
    error = failures.bad_result(None, reason="none", **WHERE)  # type: ignore[arg-type]
    assert "returned None, expected the next state" in str(error)


def test_an_undeclared_transition_names_what_is_declared() -> None:
    error = failures.bad_result("x", reason="undeclared", declared=["b", "a"], **WHERE)  # type: ignore[arg-type]
    assert "returned 'x'" in str(error)
    assert "declared: 'a', 'b'" in str(error)


# --- runs ---


def test_errors_of_runs() -> None:
    missing = failures.no_handler(DataState.END, path=("a",))
    assert "DataState.END" in str(missing)
    assert (missing.state, missing.path) == (DataState.END, ("a",))
    many = failures.too_many_transitions(5, list("abcdefghijklm"), state="m", path=("l", "m"))
    assert "more than 5 transitions" in str(many)
    assert "'d' -> 'e'" in str(many)
    assert "'c'" not in str(many)
    late = failures.run_timed_out(1.25, 1.0, state="s", path=("s",))
    assert isinstance(late, WorkflowTimeoutError)
    assert (late.elapsed, late.limit, late.path) == (1.25, 1.0, ("s",))
    cancelled = failures.run_cancelled("shutting down", state="s", path=("s",))
    assert isinstance(cancelled, RunCancelledError)
    assert cancelled.reason == "shutting down"
    assert str(cancelled).endswith("in the state 's': shutting down")
    assert str(failures.run_cancelled(None)) == "the run was cancelled by its CancelToken"


def test_where_it_happened_is_added_and_never_changed() -> None:
    error = ConfigurationError("no", state="inner")
    failures.locate(error, state="outer", task="load", attempt=2, path=("a",))
    assert (error.state, error.task, error.attempt, error.path) == ("inner", "load", 2, ("a",))
    failures.locate(ValueError("no"), state="outer")


# --- splits ---


def result_of(total: int, ok: int, *errors: BaseException) -> SplitResult[object]:
    bad = range(ok, ok + len(errors))
    return SplitResult(ListColumns(total, [CANARY] * total, range(ok), bad, dict(zip(bad, errors, strict=True))))


def test_a_failed_join_holds_the_branches_own_exceptions() -> None:
    one, two = ValueError("one"), TypeError("two")
    result = result_of(5, 2, one, two)
    error = failures.join_failed(result, JoinStrategy.Quorum(4), state="s", task="fan", path=("s",))
    assert isinstance(error, JoinError)
    assert error.exceptions == (one, two)
    assert error.result is result
    assert (error.state, error.task, error.path) == ("s", "fan", ("s",))
    assert error.message == (
        "the join of split fan of state 's' failed: JoinStrategy.Quorum(4) needs 4 successes; "
        "2 of 5 branches succeeded, 2 failed"
    )


def test_one_exception_of_two_branches_has_both_notes_once() -> None:
    same = ValueError("same")
    for index in (1, 2, 1, 2):
        failures.note_branch(same, index)
    assert same.__notes__ == ["branch 1", "branch 2"]


def test_one_exception_of_very_many_branches_names_the_first_of_them() -> None:
    same = ValueError("same")
    for index in range(100_000):
        failures.note_branch(same, index)
    assert same.__notes__ == [f"branch {index}" for index in range(100)]


def test_an_exception_that_refuses_notes_is_taken_without() -> None:
    class StubbornError(Exception):
        __notes__ = 5

    failures.note_branch(StubbornError(), 1)


@pytest.mark.parametrize(
    ("strategy", "why"),
    [
        (JoinStrategy.Any, "there are no branches"),
        (JoinStrategy.Quorum(2), "more than there are"),
        (JoinStrategy.PartialResults(2), "more than there are"),
        (JoinStrategy.PartialTimeout, "has no branches"),
        (JoinStrategy.Custom(lambda progress: JoinVerdict.FAIL), "decided so"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_join_that_failed_without_a_failed_branch_says_why(strategy: JoinStrategy, why: str) -> None:
    error = failures.join_failed(result_of(0, 0), strategy, state="s", path=())
    (inner,) = error.exceptions
    assert type(inner) is WorkflowError
    assert why in str(inner)
    assert why in str(error)


def test_a_split_at_its_deadline() -> None:
    error = failures.split_timed_out(result_of(5, 2, ValueError()), 1.5, state="s", task="fan", path=("s",))
    assert isinstance(error, SplitTimeoutError)
    assert (error.limit, error.task) == (1.5, "fan")
    assert "2 of 5 branches had succeeded, 1 had failed" in str(error)


def test_a_source_that_failed() -> None:
    cause = OSError("gone")
    error = failures.source_failed(cause, state="s", task="fan", path=("s",))
    assert type(error) is TaskError
    assert error.__cause__ is cause
    used_up = ConfigurationError("used up")
    assert failures.source_failed(used_up, state="s", task="fan", path=("s",)) is used_up
    assert used_up.state == "s"


def test_a_branch_cancelled_from_elsewhere() -> None:
    cause = asyncio.CancelledError("why")
    error = failures.branch_cancelled(cause, state="s", task="fan")
    assert isinstance(error, BranchCancelledError)
    assert error.__cause__ is cause


# --- custom joins ---


@pytest.mark.parametrize(
    ("answer", "number"),
    [("wait", 0), ("proceed", 1), ("fail", 2), (JoinVerdict.WAIT, 0), (JoinVerdict.PROCEED, 1), (JoinVerdict.FAIL, 2)],
)
def test_a_verdict_is_understood(answer: str, number: int) -> None:
    assert failures.ask_strategy(JoinStrategy.Custom(lambda _: answer), (0, 0, 1, 1), 0.0) == (number, None)


def test_a_custom_join_sees_the_progress() -> None:
    seen = []

    def decide(progress: object) -> str:
        seen.append(progress)
        return "wait"

    failures.ask_strategy(JoinStrategy.Custom(decide), (2, 1, None, None), 0.5)
    (progress,) = seen
    assert (progress.succeeded, progress.failed, progress.pending, progress.total) == (2, 1, None, None)
    assert progress.elapsed == 0.5


@pytest.mark.parametrize("answer", [None, True, 1, "", CANARY, "PROCEED", [], Opaque()])
def test_any_other_answer_is_an_error(answer: object) -> None:
    number, error = failures.ask_strategy(JoinStrategy.Custom(lambda _: answer), (1, 0, 0, 1), 0.0)  # type: ignore[arg-type,return-value]
    assert number == 0
    assert type(error) is WorkflowError
    assert "PROCEED, FAIL or WAIT" in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize("raised", [ValueError("x"), StopIteration(), asyncio.CancelledError(), GeneratorExit()])
def test_an_error_in_a_custom_join(raised: BaseException) -> None:
    def broken(progress: object) -> str:
        raise raised

    number, error = failures.ask_strategy(JoinStrategy.Custom(broken), (1, 0, 0, 1), 0.0)
    assert number == 0
    assert type(error) is TaskError
    assert error.__cause__ is raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_custom_join_comes_through(raised: type[BaseException]) -> None:
    def interrupted(progress: object) -> str:
        raise raised

    with pytest.raises(raised):
        failures.ask_strategy(JoinStrategy.Custom(interrupted), (1, 0, 0, 1), 0.0)


def test_a_custom_join_that_turns_out_async() -> None:
    async def later() -> str:
        return "proceed"

    _, error = failures.ask_strategy(JoinStrategy.Custom(lambda _: later()), (1, 0, 0, 1), 0.0)  # type: ignore[arg-type,return-value]
    assert "coroutine" in str(error)


class Odd(BaseException):
    """No Exception, so no member of a group."""


async def test_what_stands_for_another_error_says_which_branch_it_is_of(engine):
    async def fail(item: int) -> None:
        raise Odd

    with pytest.raises(JoinError) as caught:
        await fan_out(fail, range(1), engine=engine)
    (stand_in,) = caught.value.exceptions
    assert type(stand_in.__cause__) is Odd
    assert stand_in.__notes__ == ["branch 0"]


async def test_an_error_that_is_no_exception_may_refuse_notes(engine):
    class Refuses(Odd):
        __notes__ = 5  # type: ignore[assignment]

    async def fail(item: int) -> None:
        raise Refuses

    with pytest.raises(JoinError) as caught:
        await fan_out(fail, range(1), engine=engine)
    (stand_in,) = caught.value.exceptions
    assert type(stand_in.__cause__) is Refuses
