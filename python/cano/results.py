"""What a split and a run answer with.

A split keeps its results in columns: values by index, the order of completion, and what is not usual (errors,
attempts above 1). The rows, one `SplitTaskResult` per branch, are made when somebody looks; a million
branches whose outputs alone are wanted never cost a million objects.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, final

from ._frozen import Frozen, fill
from ._naming import shorten, type_name
from ._portable import Rebuilt, portable

__all__ = ["Columns", "ListColumns", "RunReport", "SplitResult", "SplitTaskResult", "StateVisit"]

S = TypeVar("S", bound=Hashable)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@final
class SplitTaskResult(Frozen, Generic[T_co]):
    """How one branch of a split ended.

    Args:
        task_index: Its index: the position of its task or item.
        result: What it returned, or `None` if it failed.
        error: Its own last exception, or `None` if it succeeded.
        attempts: How many attempts it took, 1 without a retry.
        duration: Seconds from its start to its end, retries and their delays included.
    """

    __slots__ = ("attempts", "duration", "error", "result", "task_index")
    __match_args__ = ("task_index", "result", "error", "attempts", "duration")

    task_index: int
    result: T_co | None
    error: BaseException | None
    attempts: int
    duration: float

    def __init__(
        self,
        task_index: int,
        result: T_co | None = None,
        error: BaseException | None = None,
        attempts: int = 1,
        duration: float = 0.0,
    ) -> None:
        _set_task_index(self, task_index)
        _set_result(self, result)
        _set_error(self, error)
        _set_attempts(self, attempts)
        _set_duration(self, duration)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return cls.__match_args__

    def __repr__(self) -> str:
        # The outcome only: a value may be huge, or nothing that belongs into a log.
        if self.error is not None:
            outcome = f"failed with {type_name(type(self.error))}"
        else:
            outcome = f"ok, {type_name(type(self.result))}"
        tries = "" if self.attempts == 1 else f", {self.attempts} attempts"
        return f"<SplitTaskResult {self.task_index}: {outcome}{tries}, {self.duration:.3g} s>"


# One of these is made per branch that is looked at; by name, filling it would take half as long again.
_set_task_index, _set_result, _set_error, _set_attempts, _set_duration = (
    vars(SplitTaskResult)[name].__set__ for name in SplitTaskResult.__match_args__
)


class Columns(Protocol):
    """Where a `SplitResult` reads from; each engine has its own."""

    @property
    def total(self) -> int:
        """How many branches there were: ok, failed and cancelled."""
        ...

    def ok_order(self) -> Sequence[int]:
        """The indices of the successes, in order of completion."""
        ...

    def bad_order(self) -> Sequence[int]:
        """The indices of the failures, in order of completion."""
        ...

    def ok_count(self) -> int:
        """How many branches succeeded."""
        ...

    def bad_count(self) -> int:
        """How many branches failed."""
        ...

    def value(self, index: int, /) -> Any:
        """What a successful branch returned."""
        ...

    def error(self, index: int, /) -> BaseException:
        """What a failed branch raised last."""
        ...

    def attempts(self, index: int, /) -> int:
        """How many attempts a branch that ended took."""
        ...

    def duration(self, index: int, /) -> float:
        """How long a branch that ended took, in seconds."""
        ...

    def values_in_order(self) -> list[Any]:
        """The successes' values in index order."""
        ...

    def errors_in_order(self) -> list[BaseException]:
        """The failed branches' exceptions in order of completion."""
        ...


@final
class ListColumns:
    """Columns in plain Python containers: those of the Python engine, and of a result that was unpickled.

    Args:
        total: How many branches there were.
        values: Values by index; what stands at the index of a branch without a value is not read.
        ok_order: Indices of the successes, in order of completion.
        bad_order: Indices of the failures, in order of completion.
        errors: Exceptions by index.
        attempts: Attempts by index, where they are not 1.
        durations: Seconds by index; a missing one reads as 0.
    """

    __slots__ = ("_attempts", "_bad", "_durations", "_errors", "_ok", "_values", "total")

    def __init__(
        self,
        total: int,
        values: Sequence[Any] | Mapping[int, Any],
        ok_order: Sequence[int],
        bad_order: Sequence[int] = (),
        errors: Mapping[int, BaseException] | None = None,
        attempts: Mapping[int, int] | None = None,
        durations: Sequence[float] | Mapping[int, float] | None = None,
    ) -> None:
        self.total = total
        self._values = values
        self._ok = ok_order
        self._bad = bad_order
        self._errors: Mapping[int, BaseException] = {} if errors is None else errors
        self._attempts: Mapping[int, int] = {} if attempts is None else attempts
        self._durations: Sequence[float] | Mapping[int, float] = {} if durations is None else durations

    def ok_order(self) -> Sequence[int]:
        """The indices of the successes, in order of completion."""
        return self._ok

    def bad_order(self) -> Sequence[int]:
        """The indices of the failures, in order of completion."""
        return self._bad

    def ok_count(self) -> int:
        """How many branches succeeded."""
        return len(self._ok)

    def bad_count(self) -> int:
        """How many branches failed."""
        return len(self._bad)

    def value(self, index: int, /) -> Any:
        """What a successful branch returned."""
        return self._values[index]

    def error(self, index: int, /) -> BaseException:
        """What a failed branch raised last."""
        return self._errors[index]

    def attempts(self, index: int, /) -> int:
        """How many attempts a branch that ended took."""
        return self._attempts.get(index, 1)

    def duration(self, index: int, /) -> float:
        """How long a branch that ended took, in seconds."""
        try:
            return max(0.0, self._durations[index])  # a clock that was set back took no time from anybody
        except (LookupError, TypeError):
            return 0.0

    def values_in_order(self) -> list[Any]:
        """The successes' values in index order, in a new list."""
        values = self._values
        if len(self._ok) == self.total == len(values) and isinstance(values, list):
            return values.copy()
        return [values[index] for index in sorted(self._ok)]

    def errors_in_order(self) -> list[BaseException]:
        """The failed branches' exceptions in order of completion, in a new list."""
        errors = self._errors
        return [errors[index] for index in self._bad]


@final
class SplitResult(Generic[T_co]):
    """How a split ended: what succeeded, what failed, what was cancelled. The three add up to N, always.

    Immutable. Two results are equal if their successes, errors and cancelled branches are.

    Examples:
        >>> import asyncio
        >>> from cano import JoinStrategy, fan_out
        >>> async def ask(seconds):
        ...     await asyncio.sleep(seconds)
        ...     return seconds
        >>> split = asyncio.run(fan_out(ask, [0.2, 0.1, 9.0], strategy=JoinStrategy.Quorum(2)))
        >>> split
        <SplitResult 2 ok, 0 failed, 1 cancelled of 3>
        >>> [row.task_index for row in split.successes], split.outputs(), split.cancelled
        ([1, 0], [0.2, 0.1], (2,))
        >>> print(split.by_index(2))
        None
    """

    __slots__ = ("_cancelled", "_columns", "_errors", "_rows", "_successes")
    __match_args__ = ("successes", "errors", "cancelled")

    _columns: Columns
    _successes: tuple[SplitTaskResult[T_co], ...] | None
    _errors: tuple[SplitTaskResult[T_co], ...] | None
    _cancelled: tuple[int, ...] | None
    _rows: dict[int, SplitTaskResult[T_co]] | None

    def __init__(self, columns: Columns) -> None:
        fill(self, "_columns", columns)
        fill(self, "_successes", None)
        fill(self, "_errors", None)
        fill(self, "_cancelled", None)
        fill(self, "_rows", None)

    @property
    def successes(self) -> tuple[SplitTaskResult[T_co], ...]:
        """The branches that succeeded, in order of completion."""
        rows = self._successes
        if rows is None:
            columns = self._columns
            rows = self._successes = tuple(
                SplitTaskResult(i, columns.value(i), None, columns.attempts(i), columns.duration(i))
                for i in columns.ok_order()
            )
        return rows

    @property
    def errors(self) -> tuple[SplitTaskResult[T_co], ...]:
        """The branches that failed after their own retries, in order of completion."""
        rows = self._errors
        if rows is None:
            columns = self._columns
            rows = self._errors = tuple(
                SplitTaskResult(i, None, columns.error(i), columns.attempts(i), columns.duration(i))
                for i in columns.bad_order()
            )
        return rows

    @property
    def cancelled(self) -> tuple[int, ...]:
        """The indices of the branches that were cancelled or never started, ascending."""
        indices = self._cancelled
        if indices is None:
            columns = self._columns
            if self.completed_count == columns.total:
                indices = ()
            else:
                ended = {*columns.ok_order(), *columns.bad_order()}
                indices = tuple(i for i in range(columns.total) if i not in ended)
            self._cancelled = indices
        return indices

    @property
    def completed_count(self) -> int:
        """How many branches ended by themselves: successes and errors."""
        return self._columns.ok_count() + self._columns.bad_count()

    @property
    def _failed_count(self) -> int:
        """How many branches failed, without making a row of each."""
        return self._columns.bad_count()

    def _errors_in_order(self) -> list[BaseException]:
        """The failed branches' exceptions in order of completion, without making a row of each."""
        return self._columns.errors_in_order()

    @property
    def total_count(self) -> int:
        """How many branches there were, cancelled ones included."""
        return self._columns.total

    def outputs(self) -> list[T_co]:
        """What the successful branches returned, in index order; a new list at each call."""
        return self._columns.values_in_order()

    def by_index(self, index: int) -> SplitTaskResult[T_co] | None:
        """How the branch with this index ended, or `None` if it was cancelled.

        Args:
            index: From 0 to `total_count - 1`.

        Raises:
            IndexError: There is no such branch.
        """
        total = self._columns.total
        if not 0 <= index < total:
            there = f"indices are 0 to {total - 1}" if total else "it has no branches"
            raise IndexError(f"the split has no branch {shorten(index)}; {there}")
        rows = self._rows
        if rows is None:
            rows = self._rows = {row.task_index: row for row in (*self.successes, *self.errors)}
        return rows.get(index)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in SplitResult.__slots__:
            raise AttributeError(f"a SplitResult is immutable: {name!r} cannot be set")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, SplitResult):
            return NotImplemented
        return (
            self.total_count == other.total_count and self.successes == other.successes and self.errors == other.errors
        )

    def __hash__(self) -> int:
        # Values need not be hashable; equal results have equal orders.
        return hash((self.total_count, tuple(self._columns.ok_order()), tuple(self._columns.bad_order())))

    def __repr__(self) -> str:
        ok, bad = self._columns.ok_count(), self._columns.bad_count()
        total = self._columns.total
        return f"<SplitResult {ok} ok, {bad} failed, {total - ok - bad} cancelled of {total}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_split, (self.total_count, self.successes, self.errors)

    def _portable(self) -> Rebuilt:
        """Pickle everything that can be and a description of the rest; for errors that carry a result."""
        columns = self._columns
        ok, bad = tuple(columns.ok_order()), tuple(columns.bad_order())
        return Rebuilt(
            _restore_columns,
            self.total_count,
            ok,
            bad,
            [portable(columns.value(i)) for i in ok],
            [portable(columns.error(i)) for i in bad],
            [columns.attempts(i) for i in (*ok, *bad)],
            [columns.duration(i) for i in (*ok, *bad)],
        )


def _restore_split(
    total: int, successes: tuple[SplitTaskResult[Any], ...], errors: tuple[SplitTaskResult[Any], ...]
) -> SplitResult[Any]:
    rows = (*successes, *errors)
    return SplitResult(
        ListColumns(
            total,
            {row.task_index: row.result for row in successes},
            tuple(row.task_index for row in successes),
            tuple(row.task_index for row in errors),
            {row.task_index: row.error for row in errors if row.error is not None},
            {row.task_index: row.attempts for row in rows if row.attempts != 1},
            {row.task_index: row.duration for row in rows},
        )
    )


def _restore_columns(
    total: int,
    ok: tuple[int, ...],
    bad: tuple[int, ...],
    values: list[Any],
    errors: list[Any],
    attempts: list[int],
    durations: list[float],
) -> SplitResult[Any]:
    ended = (*ok, *bad)
    return SplitResult(
        ListColumns(
            total,
            dict(zip(ok, values, strict=True)),
            ok,
            bad,
            dict(zip(bad, errors, strict=True)),
            dict(zip(ended, attempts, strict=True)),
            dict(zip(ended, durations, strict=True)),
        )
    )


@final
class StateVisit(Frozen, Generic[S]):
    """One state a run entered.

    Args:
        state: The state.
        duration: Seconds spent in it, retries and their delays included; 0 for an exit state.
        attempts: How many attempts its task took; 0 for an exit state.
    """

    __slots__ = ("attempts", "duration", "state")
    __match_args__ = ("state", "duration", "attempts")

    state: S
    duration: float
    attempts: int

    def __init__(self, state: S, duration: float, attempts: int) -> None:
        fill(self, "state", state)
        fill(self, "duration", duration)
        fill(self, "attempts", attempts)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return cls.__match_args__


@final
class RunReport(Frozen, Generic[S]):
    """What a run did.

    Args:
        state: The exit state it reached.
        path: The states it entered, first to last.
        elapsed: Seconds from its first state to its end.
        visits: One `StateVisit` per entered state, in order.
        splits: One `SplitResult` per split, in order.
    """

    __slots__ = ("elapsed", "path", "splits", "state", "visits")
    __match_args__ = ("state", "path", "elapsed", "visits", "splits")

    state: S
    path: tuple[S, ...]
    elapsed: float
    visits: tuple[StateVisit[S], ...]
    splits: tuple[SplitResult[Any], ...]

    def __init__(
        self,
        state: S,
        path: Sequence[S],
        elapsed: float,
        visits: Sequence[StateVisit[S]] = (),
        splits: Sequence[SplitResult[Any]] = (),
    ) -> None:
        fill(self, "state", state)
        fill(self, "path", tuple(path))
        fill(self, "elapsed", elapsed)
        fill(self, "visits", tuple(visits))
        fill(self, "splits", tuple(splits))

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return cls.__match_args__

    def __repr__(self) -> str:
        steps = len(self.path)
        splits = f", {len(self.splits)} splits" if len(self.splits) > 1 else ", 1 split" if self.splits else ""
        return (
            f"<RunReport reached {shorten(self.state)} through {steps} state{'' if steps == 1 else 's'}"
            f"{splits} in {self.elapsed:.3g} s>"
        )
