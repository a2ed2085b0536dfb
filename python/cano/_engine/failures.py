"""The errors of a run, built in one place, so that both engines say the same in the same words.

Every message says what was expected, what came, and what to try. What a task returned, got or stored is named
by its type, never quoted: errors end up in logs, and values do not belong there. States are names and are
shown. The text of a user's own exception is the user's to choose, and is shown, cut to one line.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeGuard, TypeVar

from cano._naming import describe_error, shorten, type_name
from cano.errors import (
    AttemptTimeoutError,
    BranchCancelledError,
    CanoError,
    ConfigurationError,
    JoinError,
    RetryExhaustedError,
    RunCancelledError,
    SplitTimeoutError,
    TaskError,
    WorkflowError,
    WorkflowTimeoutError,
)
from cano.join import JoinProgress, JoinStrategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cano.results import SplitResult

__all__ = [
    "ask_strategy",
    "attempt_timed_out",
    "bad_result",
    "bad_verdict",
    "branch_cancelled",
    "describe_error",
    "describe_state",
    "join_failed",
    "locate",
    "no_handler",
    "note_branch",
    "run_cancelled",
    "run_timed_out",
    "source_failed",
    "split_timed_out",
    "strategy_failed",
    "task_failed",
    "too_many_transitions",
]

E = TypeVar("E", bound=BaseException)

_PARTS: Final = 5
"""Up to how many parts a tuple is shown part by part."""

_NOTES: Final = 100
"""Up to how many notes an exception gets: a hundred thousand branches may fail with the same one."""

_VERDICTS: Final = {"wait": 0, "proceed": 1, "fail": 2}
"""The numbers of the machines (`pure/join.py`, `join.rs`)."""


def describe_state(state: object) -> str:
    """Show a state in a message: `DataState.START`, `'start'`, `('load', 3)`; other objects by their type."""
    if isinstance(state, Enum):
        return f"{type(state).__name__}.{state.name}"
    if state is None or isinstance(state, str | int | float):
        return shorten(state)
    if type(state) is tuple and len(state) <= _PARTS:
        parts: tuple[object, ...] = state
        inside = ", ".join(describe_state(part) for part in parts)
        return f"({inside},)" if len(parts) == 1 else f"({inside})"
    return type_name(state) if isinstance(state, type) else type_name(type(state))


def _is(error: BaseException, kind: type[E]) -> TypeGuard[E]:
    """`isinstance`, which asks an exception for its `__class__` as well: a user's may raise there."""
    return issubclass(type(error), kind)


def locate(
    error: BaseException,
    *,
    state: Any = None,
    task: str | None = None,
    attempt: int | None = None,
    path: Iterable[Any] = (),
) -> None:
    """Write into an error of ours where it happened, as far as it does not say so already."""
    if not _is(error, CanoError):
        return
    if error.state is None:
        error.state = state
    if error.task is None:
        error.task = task
    if error.attempt is None:
        error.attempt = attempt
    if not error.path:
        error.path = tuple(path)


# --- tasks ---


def task_failed(
    error: BaseException, *, state: Any, task: str | None, attempts: int, retried: bool, path: Iterable[Any]
) -> CanoError:
    """A state's task has failed and no retry is left.

    Args:
        error: What the last attempt raised.
        state: The state.
        task: The task's name.
        attempts: How many attempts were made.
        retried: Whether the error stands for several attempts (`RetryExhaustedError`) or for one
            (`TaskError`).
        path: The states entered.
    """
    failed: CanoError
    if retried:
        failed = RetryExhaustedError(
            f"{_task(state, task)} failed on each of {attempts} attempts, last with {describe_error(error)}",
            attempts=attempts,
            state=state,
            task=task,
            path=path,
        )
    elif _is(error, AttemptTimeoutError) and error.__dict__.pop("_of_this_attempt", False):
        # Ours, and raised as it is. One from a workflow inside the task is the task's own exception, like any
        # other.
        locate(error, state=state, task=task, attempt=attempts, path=path)
        return error
    else:
        failed = TaskError(
            f"{_task(state, task)} failed with {describe_error(error)}",
            state=state,
            task=task,
            attempt=attempts,
            path=path,
        )
    failed.__cause__ = error
    return failed


def attempt_timed_out(
    limit: float,
    *,
    state: Any,
    task: str | None,
    attempt: int | None,
    cause: BaseException | None = None,
    path: Iterable[Any] = (),
) -> AttemptTimeoutError:
    """One attempt was cancelled at its `attempt_timeout`; `cause` is the cancellation it ended with."""
    number = "" if attempt is None else f" {attempt}"
    error = AttemptTimeoutError(
        f"attempt{number} of {_task(state, task)} took longer than its attempt_timeout of {limit:g} s",
        limit=limit,
        state=state,
        task=task,
        attempt=attempt,
        path=path,
    )
    error.__dict__["_of_this_attempt"] = True
    error.__cause__ = cause
    return error


def bad_result(
    value: object,
    *,
    state: Any,
    task: str | None,
    path: Iterable[Any],
    reason: str,
    declared: Iterable[Any] = (),
) -> WorkflowError:
    """A task returned what cannot steer the run.

    Args:
        value: What it returned; only its type is named, unless it is an enum member or `reason` is
            `"undeclared"`.
        state: The state.
        task: The task's name.
        path: The states entered.
        reason: `"none"` for `None`, `"unknown"` for anything that is no state of this workflow,
            `"undeclared"` for a state that the task's declared transitions do not name.
        declared: The declared transitions, for `"undeclared"`.
    """
    subject = _task(state, task)
    if reason == "none":
        message = (
            f"{subject} returned None, expected the next state; "
            "return a state or TaskResult.Single(state) on every way out of it"
        )
    elif reason == "undeclared":
        names = ", ".join(sorted(describe_state(one) for one in declared)) or "none"
        message = (
            f"{subject} returned {describe_state(value)}, which its declared transitions do not name; "
            f"declared: {names}. Add it to next= or to the return annotation, or return one of these"
        )
    else:
        shown = describe_state(value) if isinstance(value, Enum) else f"a value of type {type_name(type(value))}"
        message = (
            f"{subject} returned {shown}, which is no state of this workflow; "
            "return a state that is registered or an exit state"
        )
    return WorkflowError(message, state=state, task=task, path=path)


# --- runs ---


def no_handler(state: Any, *, path: Iterable[Any] = ()) -> WorkflowError:
    """A run came to a state that nobody registered."""
    return WorkflowError(
        f"no handler for the state {describe_state(state)}; register(...) a task, or add_exit_state(...)",
        state=state,
        path=path,
    )


def too_many_transitions(
    limit: int, last_states: Sequence[Any], *, state: Any = None, path: Iterable[Any] = ()
) -> WorkflowError:
    """A run made more transitions than `max_transitions`."""
    shown = " -> ".join(describe_state(one) for one in last_states[-10:])
    return WorkflowError(
        f"more than {limit} transitions, the limit set by max_transitions; the last states were {shown}. "
        "Look for a cycle that never ends, or raise the limit",
        state=state,
        path=path,
    )


def run_timed_out(elapsed: float, limit: float, *, state: Any, path: Iterable[Any]) -> WorkflowTimeoutError:
    """A run did not end within its `timeout`."""
    return WorkflowTimeoutError(
        f"the run was ended in the state {describe_state(state)} after {elapsed:.3g} s, "
        f"past its timeout of {limit:g} s",
        elapsed=elapsed,
        limit=limit,
        state=state,
        path=path,
    )


def run_cancelled(reason: str | None, *, state: Any = None, path: Iterable[Any] = ()) -> RunCancelledError:
    """A token ended a run."""
    why = "" if reason is None else f": {reason}"
    where = "" if state is None else f" in the state {describe_state(state)}"
    return RunCancelledError(
        f"the run was cancelled by its CancelToken{where}{why}", reason=reason, state=state, path=path
    )


# --- splits ---


def join_failed(
    result: SplitResult[Any],
    strategy: JoinStrategy,
    *,
    state: Any,
    path: Iterable[Any],
    task: str | None = None,
    reason: str | None = None,
) -> JoinError:
    """A join has failed: the branches' own exceptions, in order of completion; `note_branch` has said whose they are."""
    exceptions = result._errors_in_order()
    ok, total = result.completed_count - result._failed_count, result.total_count
    counts = f"{ok} of {total} branches succeeded, {len(exceptions)} failed"
    why = reason or _unmet(strategy, ok, total)
    message = f"the join of {_split(state, task)} failed: {strategy!r} {why}; {counts}"
    if not exceptions:
        exceptions.append(WorkflowError(f"{strategy!r} {why}; {counts}", state=state, task=task, path=path))
    return JoinError(message, exceptions, result=result, state=state, task=task, path=path)


def split_timed_out(
    result: SplitResult[Any], limit: float, *, state: Any, path: Iterable[Any], task: str | None = None
) -> SplitTimeoutError:
    """A split was undecided at its deadline."""
    bad = result._failed_count
    ok = result.completed_count - bad
    return SplitTimeoutError(
        f"{_split(state, task)} was undecided at its timeout of {limit:g} s: "
        f"{ok} of {result.total_count} branches had succeeded, {bad} had failed. "
        "Give it more time or a larger bulkhead, or take what is there with JoinStrategy.PartialTimeout",
        limit=limit,
        result=result,
        state=state,
        task=task,
        path=path,
    )


def note_branch(error: BaseException, index: int) -> None:
    """Write on a branch's exception which branch it came from, when the branch has failed.

    Then and not when the join fails: there may be a hundred thousand of them, and the loop would stand still. One
    exception may pass here again, when it was raised by several branches or runs; it is told of the first of them.

    Raises:
        KeyboardInterrupt: A signal came meanwhile; so with `SystemExit`.
    """
    try:  # not suppress(), which costs more than the note
        notes = getattr(error, "__notes__", ())
        if len(notes) < _NOTES and (text := f"branch {index}") not in notes:
            error.add_note(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: S110 - a user's exception that refuses a note is reported without one
        pass


def branch_cancelled(
    error: BaseException | None = None, *, state: Any = None, task: str | None = None
) -> BranchCancelledError:
    """A branch ended with `CancelledError` though the engine had not cancelled it."""
    failed = BranchCancelledError(
        f"a branch of {_split(state, task)} was cancelled, and not by the engine: "
        "its own task was, or what it awaited was",
        state=state,
        task=task,
    )
    failed.__cause__ = error
    return failed


def source_failed(error: BaseException, *, state: Any, path: Iterable[Any], task: str | None = None) -> CanoError:
    """Where the branches come from has raised. A `ConfigurationError` stays what it is."""
    if _is(error, ConfigurationError):
        locate(error, state=state, task=task, path=path)
        return error
    what = f"the source of the branches of {_split(state, task)} failed"
    return _task_error(what, error, state=state, task=task, path=path)


def result_not_kept(error: BaseException, *, state: Any, path: Iterable[Any], task: str | None = None) -> TaskError:
    """The store has refused the result of a split."""
    what = f"the store refused the result of {_split(state, task)}"
    return _task_error(what, error, state=state, task=task, path=path)


def _task_error(what: str, error: BaseException, **place: Any) -> TaskError:
    failed = TaskError(f"{what} with {describe_error(error)}", **place)
    failed.__cause__ = error
    return failed


def ask_strategy(
    strategy: JoinStrategy, progress: tuple[int, int, int | None, int | None], elapsed: float
) -> tuple[int, CanoError | None]:
    """Ask a custom join.

    Args:
        strategy: The `Custom` strategy.
        progress: (succeeded, failed, pending, total), as the machines count.
        elapsed: Seconds since the split was entered.

    Returns:
        The machines' number of the verdict and `None`, or 0 and what the state fails with.

    Raises:
        KeyboardInterrupt: The function raised it; so with `SystemExit`. Everything else it raises is
            returned.
    """
    function = strategy.function
    assert function is not None
    handled = sys.exception()
    try:
        answer: Any = function(JoinProgress(*progress, elapsed))
        verdict = _VERDICTS.get(answer) if isinstance(answer, str) else None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if handled is not None:
            _forget_context(error, handled)
        return 0, strategy_failed(error)
    if verdict is None:
        close = getattr(answer, "close", None)
        if close is not None and hasattr(answer, "__await__"):
            close()  # or Python warns that it was never awaited
        return 0, bad_verdict(answer)
    return verdict, None


def _forget_context(error: BaseException, handled: BaseException) -> None:
    """What the engine was handling when it asked is no context of the user's error."""
    for _ in range(100):  # a chain may be a circle
        context = error.__context__
        if context is handled:
            error.__context__ = None
        if context is None or context is handled:
            return
        error = context


def strategy_failed(error: BaseException, *, state: Any = None, path: Iterable[Any] = ()) -> TaskError:
    """The function of a custom join has raised."""
    failed = TaskError(
        f"the function of JoinStrategy.Custom failed with {describe_error(error)}", state=state, path=path
    )
    failed.__cause__ = error
    return failed


def bad_verdict(answer: object, *, state: Any = None, path: Iterable[Any] = ()) -> WorkflowError:
    """The function of a custom join answered with something else than a verdict."""
    shown = "None" if answer is None else f"a value of type {type_name(type(answer))}"
    if isinstance(answer, str):
        shown = "another word"
    return WorkflowError(
        "the function of JoinStrategy.Custom must answer JoinVerdict.PROCEED, FAIL or WAIT "
        f"(or the words 'proceed', 'fail', 'wait'); it answered {shown}",
        state=state,
        path=path,
    )


def _unmet(strategy: JoinStrategy, ok: int, total: int) -> str:
    """Why a strategy is not satisfied, as the rest of a sentence that begins with its name."""
    kind, need = strategy.kind, strategy.threshold
    if kind == "all":
        return "needs every branch to succeed"
    if kind == "any":
        return "needs one success" if total else "needs one success, and there are no branches"
    if kind in ("quorum", "partial_results"):
        return f"needs {need} successes" if need is not None and need <= total else f"needs {need}, more than there are"
    if kind == "percentage":
        from .pure.join import percentage_need

        return f"needs {percentage_need(float(need or 0), total)} of {total} branches to succeed"
    if kind == "partial_timeout":
        return "needs at least one branch to end in time, and its min_successes" if total else "has no branches"
    return "decided so"


def _task(state: Any, task: str | None) -> str:
    name = "the task" if task is None else f"task {task}"
    return name if state is None else f"{name} of state {describe_state(state)}"


def _split(state: Any, task: str | None) -> str:
    name = "the split" if task is None else f"split {task}"
    return name if state is None else f"{name} of state {describe_state(state)}"
