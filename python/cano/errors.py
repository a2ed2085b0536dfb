"""Every error the package raises on its own account.

    CanoError                      Exception
    ├── ConfigurationError         + ValueError      what was written cannot work; .problems
    ├── WorkflowError                                the run cannot go on: no handler, no state, too long
    ├── TaskError                                    a task failed and has no retry left
    │   └── RetryExhaustedError                      ... after retries; .attempts
    ├── AttemptTimeoutError        + TimeoutError    one attempt took longer than attempt_timeout; .limit
    ├── WorkflowTimeoutError       + TimeoutError    the run took longer than timeout; .elapsed .limit
    ├── SplitTimeoutError          + TimeoutError    a split was undecided at its deadline; .result .limit
    ├── JoinError                  + ExceptionGroup  a join failed; .exceptions .result
    ├── BranchCancelledError                         a branch was cancelled, and not by the engine
    ├── RunCancelledError                            a CancelToken ended the run; .reason
    ├── StoreError
    │   ├── KeyNotFoundError       + KeyError        .key
    │   └── TypeMismatchError      + TypeError       .key .expected .found
    ├── EngineUnavailableError     + RuntimeError    the engine asked for is not here
    └── InternalError              + RuntimeError    a defect of this package

Facts are attributes, so nobody has to parse a message: `category`, `state`, `task`, `attempt`, `path`, and
those above. The user's own exception is the `__cause__`, untouched. A pickled error keeps its facts and loses
`__cause__`, and pickling one never raises: a fact that cannot travel is replaced by a description of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from ._naming import describe_error, shorten, type_name
from ._portable import Cycle, portable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self, Unpack

    from .results import SplitResult

__all__ = [
    "AttemptTimeoutError",
    "BranchCancelledError",
    "CanoError",
    "ConfigurationError",
    "EngineUnavailableError",
    "InternalError",
    "JoinError",
    "KeyNotFoundError",
    "RetryExhaustedError",
    "RunCancelledError",
    "SplitTimeoutError",
    "StoreError",
    "TaskError",
    "TypeMismatchError",
    "WorkflowError",
    "WorkflowTimeoutError",
]


class Where(TypedDict, total=False):
    """Where an error happened: the keywords that every error here takes (see `CanoError`)."""

    state: Any
    task: str | None
    attempt: int | None
    path: Iterable[Any]


class CanoError(Exception):
    """The base of every error raised by `cano`.

    Args:
        message: What was expected, what came, and what to try.
        state: The state whose task or split failed, if one was entered.
        task: The name of the task.
        attempt: The number of the attempt that failed, 1 for the first.
        path: The states entered so far, first to last (the last 1,000).
    """

    category: ClassVar[str] = "generic"
    """A stable word for the kind of error, for logs and metrics."""

    state: Any
    """The state in which it happened, or `None`."""
    task: str | None
    """The name of the task, or `None`."""
    attempt: int | None
    """The attempt that failed, 1 for the first, or `None`."""
    path: tuple[Any, ...]
    """The states entered, first to last (the last 1,000)."""

    def __init__(
        self,
        message: str,
        *,
        state: Any = None,
        task: str | None = None,
        attempt: int | None = None,
        path: Iterable[Any] = (),
    ) -> None:
        super().__init__(message)
        self.state = state
        self.task = task
        self.attempt = attempt
        self.path = tuple(path)

    def __reduce__(self) -> tuple[Any, ...]:
        with Cycle(self) as again:
            if again:
                return CanoError, (describe_error(self),)
            return _rebuild, (type(self), portable(self.args), portable(self.__dict__))

    def __copy__(self) -> Any:
        """Make a shallow copy: the same facts, and the same objects in them."""
        return _rebuild(type(self), self.args, self.__dict__)


class ConfigurationError(CanoError, ValueError):
    """What was written cannot work: a bad number, an unknown state, a join that nothing can satisfy.

    Args:
        problems: One message, or all that were found.
        state: The state it is about, if it is about one.
        task: The task it is about, if it is about one.
        path: The states entered, where the problem only shows during a run.
    """

    category = "configuration"

    problems: tuple[str, ...]
    """Every problem that was found, one sentence each."""

    def __init__(
        self,
        problems: str | Iterable[str],
        **where: Unpack[Where],
    ) -> None:
        found = (problems,) if isinstance(problems, str) else tuple(problems)
        if len(found) == 1:
            message = found[0]
        else:
            message = "\n".join([f"{len(found)} problems:", *(f"- {problem}" for problem in found)])
        super().__init__(message, **where)
        self.problems = found


class WorkflowError(CanoError):
    """The run cannot go on: a state without a handler, a result that is no state, too many transitions."""

    category = "workflow"


class TaskError(CanoError):
    """A task failed and no retry was left; its own exception is the `__cause__`."""

    category = "task_execution"


class RetryExhaustedError(TaskError):
    """A task failed on every attempt it had; the last exception is the `__cause__`.

    Args:
        message: What happened.
        attempts: How many attempts were made, the first one included.
        state: The state in which it happened.
        task: The name of the task.
        path: The states entered so far.
    """

    category = "retry_exhausted"

    attempts: int
    """How many attempts were made, the first one included."""

    def __init__(self, message: str, *, attempts: int, **where: Unpack[Where]) -> None:
        where.setdefault("attempt", attempts)
        super().__init__(message, **where)
        self.attempts = attempts


class AttemptTimeoutError(CanoError, TimeoutError):
    """One attempt of a task took longer than its `attempt_timeout`."""

    category = "timeout"

    limit: float
    """The limit, in seconds."""

    def __init__(self, message: str, *, limit: float, **where: Unpack[Where]) -> None:
        super().__init__(message, **where)
        self.limit = limit


class WorkflowTimeoutError(CanoError, TimeoutError):
    """The run took longer than the `timeout` it was given."""

    category = "workflow_timeout"

    elapsed: float
    """How long the run had taken when it was ended, in seconds."""
    limit: float
    """The limit, in seconds."""

    def __init__(self, message: str, *, elapsed: float, limit: float, **where: Unpack[Where]) -> None:
        super().__init__(message, **where)
        self.elapsed = elapsed
        self.limit = limit


class SplitTimeoutError(CanoError, TimeoutError):
    """A split was undecided at its deadline; what failed until then is in `result.errors`.

    It is no exception group: a class cannot be both a group and a `TimeoutError`.
    """

    category = "workflow"

    limit: float
    """The limit, in seconds."""
    result: SplitResult[Any] | None
    """What had ended, and what was cancelled."""

    def __init__(
        self, message: str, *, limit: float, result: SplitResult[Any] | None = None, **where: Unpack[Where]
    ) -> None:
        super().__init__(message, **where)
        self.limit = limit
        self.result = result


class JoinError(CanoError, ExceptionGroup[Exception]):
    """A join failed. The exceptions in the group are the branches' own, in order of completion.

    `except*` and `split` reach them; a note on each says which branch it came from. A branch's exception that
    is no `Exception` cannot stand in the group; a `TaskError` with it as its cause stands for it.

    Args:
        message: Why the join failed.
        exceptions: The exceptions of the failed branches (at least one).
        result: What succeeded, failed and was cancelled.
        state: The state of the split.
        task: The name of the split.
        path: The states entered so far.
    """

    category = "workflow"

    result: SplitResult[Any] | None
    """What succeeded, failed and was cancelled."""

    def __new__(cls, message: str, exceptions: Sequence[BaseException], **_facts: Any) -> Self:
        """Make the group; a branch's exception that cannot stand in it is replaced."""
        # The group reads its members here, before __init__ runs; args has to agree with them for repr.
        return super().__new__(cls, message, _as_exceptions(exceptions))

    def __init__(
        self,
        message: str,
        exceptions: Sequence[BaseException],
        *,
        result: SplitResult[Any] | None = None,
        **where: Unpack[Where],
    ) -> None:
        super().__init__(message, **where)
        self.args = (message, list(self.exceptions))
        self.result = result

    def derive(self, excs: Sequence[Exception], /) -> JoinError:  # type: ignore[override]
        """Make the group that `split` and `subgroup` answer with: the same facts, other members."""
        return JoinError(
            self.message,
            excs,
            result=self.result,
            state=self.state,
            task=self.task,
            attempt=self.attempt,
            path=self.path,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        with Cycle(self) as again:
            if again:
                return CanoError, (describe_error(self),)
            # Members and facts travel as one where they can: a member stays the same object as in `result`.
            return _rebuild_group, (type(self), self.message, portable(([*self.exceptions], self.__dict__)))

    def __copy__(self) -> Any:
        """Make a shallow copy: the same facts, and the same objects in them."""
        return _rebuild_group(type(self), self.message, ([*self.exceptions], self.__dict__))


class BranchCancelledError(CanoError):
    """A branch ended with `CancelledError` though the engine had not cancelled it.

    Its own task was cancelled from elsewhere, or what it awaited was. For the join it has failed.
    """

    category = "branch_cancelled"


class RunCancelledError(CanoError):
    """A `CancelToken` ended the run, after every branch was cancelled and awaited."""

    category = "cancelled"

    reason: str | None
    """What was given to `CancelToken.cancel`."""

    def __init__(
        self,
        message: str = "the run was cancelled by its CancelToken",
        *,
        reason: str | None = None,
        **where: Unpack[Where],
    ) -> None:
        super().__init__(message, **where)
        self.reason = reason


class StoreError(CanoError):
    """A store could not do what was asked."""

    category = "store"


class KeyNotFoundError(StoreError, KeyError):
    """There is no value under a key.

    Args:
        key: The key that was asked for.
    """

    key: str
    """The key that was asked for."""

    def __init__(self, key: str) -> None:
        advice = "put() one first, or ask with get(key, default=...) where it may be missing"
        if key == "split_results":
            advice = "a split puts its result there with JoinConfig(..., store_partial_results=True)"
        super().__init__(f"the store has no value under the key {shorten(key)}; {advice}")
        self.key = key

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which turns a sentence into a quoted string.
        return str(self.args[0])


class TypeMismatchError(StoreError, TypeError):
    """The value under a key has another type than the caller asked for; it is left alone.

    Args:
        key: The key that was asked for.
        expected: The type that was asked for.
        found: The type of the value.
    """

    key: str
    """The key that was asked for."""
    expected: Any
    """The type that was asked for."""
    found: type
    """The type of the value that is there."""

    def __init__(self, key: str, expected: Any, found: type) -> None:
        super().__init__(
            f"the value under the key {shorten(key)} is of type {type_name(found)}, "
            f"expected {type_name(expected)}; ask with get(key) to take it as it is"
        )
        self.key = key
        self.expected = expected
        self.found = found


class EngineUnavailableError(CanoError, RuntimeError):
    """The engine that was asked for is not available here; the message says why and how to get it."""

    category = "engine_unavailable"


class InternalError(CanoError, RuntimeError):
    """A defect of this package, such as a panic in the native engine; the process goes on. Please report."""

    category = "internal"


def _as_exceptions(found: Sequence[BaseException]) -> list[Exception]:
    return [error if isinstance(error, Exception) else _stand_in(error) for error in found]


def _stand_in(error: BaseException) -> TaskError:
    """What stands for an exception that cannot be a member of a group; it is the `__cause__`."""
    wrapper = TaskError(f"a branch raised {type_name(type(error))}, which is no Exception")
    wrapper.__cause__ = error
    with suppress(Exception):  # what a user's exception has under that name may be anything
        for note in error.__notes__:
            wrapper.add_note(note)
    return wrapper


def _rebuild(cls: type[CanoError], args: tuple[Any, ...], facts: dict[str, Any]) -> CanoError:
    # Not through the constructor: subclasses have required keywords, and OSError's __new__ forgets args
    # without it.
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


def _rebuild_group(cls: type[JoinError], message: str, content: tuple[list[Exception], dict[str, Any]]) -> JoinError:
    exceptions, facts = content
    error = cls.__new__(cls, message, exceptions)
    error.args = (message, exceptions)
    error.__dict__.update(facts)
    return error
