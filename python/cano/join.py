"""How a split ends: the strategy that decides a join, and the settings around it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar, final
from typing import Any as Anything  # JoinStrategy.Any is a strategy

from ._checks import boolean, came, count, fraction, is_async, optional_seconds
from ._frozen import Frozen, fill
from ._naming import shorten, type_name
from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._checks import Seconds

__all__ = ["JoinConfig", "JoinProgress", "JoinStrategy", "JoinVerdict"]

S = TypeVar("S", bound=Hashable)
S2 = TypeVar("S2", bound=Hashable)


class JoinVerdict(StrEnum):
    """What a custom join answers; the plain words `"proceed"`, `"fail"` and `"wait"` do too."""

    PROCEED = "proceed"
    """The join has what it needs: cancel what still runs, go on."""
    FAIL = "fail"
    """The join cannot be satisfied any more: cancel what still runs, fail with `JoinError`."""
    WAIT = "wait"
    """Undecided: ask again after the next completion."""


@final
class JoinProgress(Frozen):
    """How far a split has come, for a custom join.

    Args:
        succeeded: Branches that ended with a result.
        failed: Branches that failed after their own retries.
        pending: Branches that have not ended, started or not; `None` while a lazy source is not exhausted.
        total: All branches; `None` while a lazy source is not exhausted.
        elapsed: Seconds since the split was entered.
    """

    __slots__ = ("elapsed", "failed", "pending", "succeeded", "total")
    __match_args__ = ("succeeded", "failed", "pending", "total", "elapsed")

    succeeded: int
    failed: int
    pending: int | None
    total: int | None
    elapsed: float

    def __init__(self, succeeded: int, failed: int, pending: int | None, total: int | None, elapsed: float) -> None:
        fill(self, "succeeded", succeeded)
        fill(self, "failed", failed)
        fill(self, "pending", pending)
        fill(self, "total", total)
        fill(self, "elapsed", elapsed)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return cls.__match_args__


@final
class JoinStrategy(Frozen):
    """What a join needs in order to proceed. `N` is the number of branches.

    | strategy | proceeds when | fails as soon as |
    |---|---|---|
    | `All` | every branch succeeded | one failed (`fail_fast=False`: when all have ended) |
    | `Any` | one succeeded | all failed |
    | `Quorum(n)` | n succeeded | more than N - n failed |
    | `Percentage(p)` | the share p of N succeeded | that cannot be reached any more |
    | `PartialResults(n)` | n succeeded | more than N - n failed |
    | `PartialTimeout` | all ended or the deadline passed, with `min_successes` ok | otherwise |
    | `Custom(fn)` | `fn` says so | `fn` says so |

    A strategy is a value: it can be compared, hashed, pickled, and matched by `case JoinStrategy("quorum",
    n)`.

    Examples:
        >>> from cano import JoinStrategy
        >>> JoinStrategy.Quorum(2)
        JoinStrategy.Quorum(2)
        >>> JoinStrategy.Quorum(2) == JoinStrategy.Quorum(2)
        True
        >>> def two_of_three(progress):
        ...     return "proceed" if 3 * progress.succeeded >= 2 * progress.total else "wait"
        >>> JoinStrategy.Custom(two_of_three)
        JoinStrategy.Custom(two_of_three)
    """

    __slots__ = ("function", "kind", "threshold")
    __match_args__ = ("kind", "threshold")

    All: ClassVar[JoinStrategy]
    """Every branch has to succeed."""
    Any: ClassVar[JoinStrategy]
    """The first success is enough."""
    PartialTimeout: ClassVar[JoinStrategy]
    """Take what is there at the deadline; needs a `timeout`."""

    kind: str
    """`all`, `any`, `quorum`, `percentage`, `partial_results`, `partial_timeout` or `custom`."""
    threshold: int | float | None
    """The n of `Quorum` and `PartialResults`, the p of `Percentage`, else `None`."""
    function: Callable[[JoinProgress], JoinVerdict | str] | None
    """The function of `Custom`, else `None`."""

    def __init__(self, *_: object, **__: object) -> None:
        raise ConfigurationError(f"a JoinStrategy is not called; {_CHOICE}")

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return ("kind", "threshold", "function")

    @classmethod
    def _make(
        cls,
        kind: str,
        threshold: float | None = None,
        function: Callable[[JoinProgress], JoinVerdict | str] | None = None,
    ) -> JoinStrategy:
        self = cls.__new__(cls)
        fill(self, "kind", kind)
        fill(self, "threshold", threshold)
        fill(self, "function", function)
        return self

    @staticmethod
    def Quorum(n: int) -> JoinStrategy:  # noqa: N802 - the members read alike, with a number or without
        """Proceed when `n` branches have succeeded.

        Args:
            n: How many successes are needed; 0 proceeds at once.

        Raises:
            ConfigurationError: `n` is no whole number, or negative. More than there are branches is reported
                by `Workflow.validate`, which knows their number.
        """
        return JoinStrategy._make("quorum", count(n, "Quorum(n)"))

    @staticmethod
    def Percentage(p: float) -> JoinStrategy:  # noqa: N802
        """Proceed when the share `p` of the branches has succeeded.

        Args:
            p: More than 0, at most 1. 0.5 of 5 branches are 3: the smallest number that is at least the
                share.

        Raises:
            ConfigurationError: `p` is outside (0, 1], or no number.
        """
        return JoinStrategy._make("percentage", fraction(p, "Percentage(p)"))

    @staticmethod
    def PartialResults(n: int) -> JoinStrategy:  # noqa: N802
        """Proceed when `n` branches have succeeded, with whatever failed until then beside them.

        Args:
            n: How many successes are needed; 0 proceeds at once.

        Raises:
            ConfigurationError: `n` is no whole number, or negative.
        """
        return JoinStrategy._make("partial_results", count(n, "PartialResults(n)"))

    @staticmethod
    def Custom(fn: Callable[[JoinProgress], JoinVerdict | str]) -> JoinStrategy:  # noqa: N802
        """Let a function decide.

        Args:
            fn: Called with a `JoinProgress` after each completion, on the event loop's thread, and once more
                when a lazy source ends. It answers with a `JoinVerdict`. An error in it, or any other answer,
                fails the state; so does `WAIT` with nothing pending.

        Raises:
            ConfigurationError: `fn` cannot be called, or is an `async def`.
        """
        given: Anything = fn
        if not callable(given) or isinstance(given, type):
            raise ConfigurationError(f"Custom(fn) needs a function of a JoinProgress; got {came(fn)}")
        if is_async(fn):
            raise ConfigurationError(
                "Custom(fn) needs a plain function; got an async one. A join is decided at a completion, "
                "so there is nothing to await: look things up in the branches and count here"
            )
        return JoinStrategy._make("custom", None, fn)

    def __repr__(self) -> str:
        name = _NAMES[self.kind]
        if self.function is not None:
            inner = getattr(self.function, "__qualname__", None) or type_name(type(self.function))
            return f"JoinStrategy.{name}({inner})"
        return f"JoinStrategy.{name}" if self.threshold is None else f"JoinStrategy.{name}({self.threshold!r})"

    def __reduce__(self) -> tuple[Anything, ...]:
        if self.threshold is None and self.function is None:
            return getattr, (JoinStrategy, _NAMES[self.kind])  # the one instance, also in another process
        return super().__reduce__()

    def __copy__(self) -> JoinStrategy:
        return self

    def __replace__(self, **changes: Anything) -> JoinStrategy:
        raise TypeError("a JoinStrategy has no parts to replace: write the other strategy")


_NAMES: Final = {
    "all": "All",
    "any": "Any",
    "quorum": "Quorum",
    "percentage": "Percentage",
    "partial_results": "PartialResults",
    "partial_timeout": "PartialTimeout",
    "custom": "Custom",
}
_CHOICE: Final = (
    "choose JoinStrategy.All, .Any, .Quorum(n), .Percentage(p), .PartialResults(n), .PartialTimeout or .Custom(fn)"
)

JoinStrategy.All = JoinStrategy._make("all")
JoinStrategy.Any = JoinStrategy._make("any")
JoinStrategy.PartialTimeout = JoinStrategy._make("partial_timeout")


@final
class JoinConfig(Frozen, Generic[S]):
    """How a split is run and joined. Immutable; the `with_…` methods give changed copies.

    Args:
        strategy: What the join needs.
        join_state: The state the run goes on with.
        timeout: Seconds (or a `timedelta`) from entering the split to its deadline. Waiting for the bulkhead
            and retries count. At the deadline `PartialTimeout` takes what is there; any other strategy fails
            with `SplitTimeoutError`.
        bulkhead: How many branches may be live at once; branches beyond it do not exist yet. `None`: no
            limit.
        store_partial_results: Whether the `SplitResult` is put into the store under `split_results`, before
            the join state's task runs, and also when the join fails.
        fail_fast: Whether `All` fails at the first failure, or only when every branch has ended. No other
            strategy reads it.
        hedge_delay: Seconds (or a `timedelta`) a branch has to answer before the next one is started beside
            it; only with `Any`.
        min_successes: How many successes `PartialTimeout` needs; only with it.

    Raises:
        ConfigurationError: A number is none, NaN, negative or zero, or two settings contradict each other.
            What can only be judged with the branches at hand is reported by `Workflow.validate`.

    Examples:
        >>> from cano import JoinConfig, JoinStrategy
        >>> JoinConfig(JoinStrategy.PartialTimeout, "merge", timeout=0.5).with_bulkhead(8)
        JoinConfig(JoinStrategy.PartialTimeout, 'merge', timeout=0.5, bulkhead=8)
        >>> JoinConfig(JoinStrategy.All, "merge", timeout=-1)
        Traceback (most recent call last):
        cano.errors.ConfigurationError: timeout must be a number of seconds, more than 0, or a timedelta; got int -1
    """

    __slots__ = (
        "bulkhead",
        "fail_fast",
        "hedge_delay",
        "join_state",
        "min_successes",
        "store_partial_results",
        "strategy",
        "timeout",
    )
    __match_args__ = ("strategy", "join_state")

    strategy: JoinStrategy
    join_state: S
    timeout: float | None
    bulkhead: int | None
    store_partial_results: bool
    fail_fast: bool
    hedge_delay: float | None
    min_successes: int

    def __init__(
        self,
        strategy: JoinStrategy,
        join_state: S,
        *,
        timeout: Seconds | None = None,
        bulkhead: int | None = None,
        store_partial_results: bool = False,
        fail_fast: bool = True,
        hedge_delay: Seconds | None = None,
        min_successes: int = 0,
    ) -> None:
        if not isinstance(strategy, JoinStrategy):
            raise ConfigurationError(_no_strategy(strategy))
        _check_state(join_state)
        fill(self, "strategy", strategy)
        fill(self, "join_state", join_state)
        fill(self, "timeout", optional_seconds(timeout, "timeout"))
        # A bulkhead below 1 is a whole number like any other here: validate() reports it with the split's
        # name.
        fill(self, "bulkhead", None if bulkhead is None else count(bulkhead, "bulkhead", None))
        fill(self, "store_partial_results", boolean(store_partial_results, "store_partial_results"))
        fill(self, "fail_fast", boolean(fail_fast, "fail_fast"))
        fill(self, "hedge_delay", optional_seconds(hedge_delay, "hedge_delay"))
        fill(self, "min_successes", count(min_successes, "min_successes"))
        if self.hedge_delay is not None and strategy.kind != "any":
            raise ConfigurationError(
                f"hedge_delay works only with JoinStrategy.Any, where one answer is enough; got it with {strategy!r}"
            )
        if self.min_successes and strategy.kind != "partial_timeout":
            raise ConfigurationError(
                f"min_successes works only with JoinStrategy.PartialTimeout; got it with {strategy!r}. "
                "To need n successes, use Quorum(n) or PartialResults(n)"
            )

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return (
            "strategy",
            "join_state",
            "timeout",
            "bulkhead",
            "store_partial_results",
            "fail_fast",
            "hedge_delay",
            "min_successes",
        )

    def with_timeout(self, timeout: Seconds | None) -> JoinConfig[S]:
        """Copy with another timeout, in seconds or as a `timedelta`; `None` takes it away."""
        return self._with("timeout", optional_seconds(timeout, "timeout"))

    def with_bulkhead(self, bulkhead: int | None) -> JoinConfig[S]:
        """Copy with another limit on live branches; `None` takes it away."""
        return self._with("bulkhead", None if bulkhead is None else count(bulkhead, "bulkhead", None))

    def with_join_state(self, join_state: S2) -> JoinConfig[S2]:
        """Copy that goes on with another state."""
        _check_state(join_state)
        copy: JoinConfig[Anything] = self._with("join_state", join_state)
        return copy

    def with_store_partial_results(self, store_partial_results: bool = True) -> JoinConfig[S]:
        """Copy that puts the `SplitResult` into the store, or no longer does."""
        return self._with("store_partial_results", boolean(store_partial_results, "store_partial_results"))

    def problems(self, total: int | None) -> list[str]:
        """Everything wrong with these settings that shows only beside the branches; `Workflow.validate` asks.

        Args:
            total: How many branches there are, or `None` where a source decides at run time.

        Returns:
            One sentence per problem; they do not name the split.
        """
        found: list[str] = []
        kind, need = self.strategy.kind, self.strategy.threshold
        if self.bulkhead is not None and self.bulkhead < 1:
            found.append(f"bulkhead is {self.bulkhead}, so no branch could ever start; use 1 or more, or None")
        if kind == "partial_timeout" and self.timeout is None:
            found.append("PartialTimeout needs a timeout: without one there is no moment to take what is there")
        if total is not None and kind in ("quorum", "partial_results") and need is not None and need > total:
            found.append(f"{_NAMES[kind]}({need}) needs more successes than there are branches ({total})")
        if total is not None and self.min_successes > total:
            found.append(f"min_successes is {self.min_successes}, more than there are branches ({total})")
        return found

    def _with(self, name: str, value: object) -> JoinConfig[S]:
        copy = type(self).__new__(type(self))
        for field in self._names():
            fill(copy, field, getattr(self, field))
        fill(copy, name, value)
        return copy

    def __repr__(self) -> str:
        parts = [repr(self.strategy), shorten(self.join_state)]
        for name, usual in _USUAL.items():
            value = getattr(self, name)
            if value != usual:
                parts.append(f"{name}={value!r}")
        return f"JoinConfig({', '.join(parts)})"


_USUAL: Final = {
    "timeout": None,
    "bulkhead": None,
    "store_partial_results": False,
    "fail_fast": True,
    "hedge_delay": None,
    "min_successes": 0,
}


def _check_state(state: object) -> None:
    if state is None:
        raise ConfigurationError("join_state must be a state; got None, which is no state")
    try:
        hash(state)
    except TypeError:
        raise ConfigurationError(f"join_state must be hashable, as every state; got {type_name(type(state))}") from None


def _no_strategy(given: object) -> str:
    for name in ("Quorum", "Percentage", "PartialResults", "Custom"):
        if given is getattr(JoinStrategy, name):
            return f"JoinStrategy.{name} needs its argument: JoinStrategy.{name}(...)"
    return f"expected a JoinStrategy, got {came(given)}; {_CHOICE}"
