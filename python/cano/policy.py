"""Retries: how often a failed attempt is repeated, after which delay, and for which errors."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

from ._checks import came, count, is_async, optional_seconds, seconds
from ._frozen import Frozen, fill
from ._naming import type_name
from .errors import BranchCancelledError, ConfigurationError, RunCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._checks import Seconds

__all__ = ["Retry"]

Which: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]"
"""Which errors: an exception class, a tuple of them, or a function of the exception."""

Plan: TypeAlias = tuple[int, int, float, float, float, float, float | None]
"""(kind, retries, delay, factor, max_delay, jitter, max_elapsed), as the engines take it."""

NONE: Final = 0
FIXED: Final = 1
EXPONENTIAL: Final = 2

_NEVER: Final = (
    ConfigurationError,
    BranchCancelledError,
    RunCancelledError,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
)


@final
class Retry(Frozen):
    """When a failed attempt is repeated: `Retry.none()`, `Retry.fixed(...)`, `Retry.exponential(...)`.

    Configuration errors and cancellation are never retried, whatever `retry_on` says. An exception that is no
    `Exception` is retried only where `retry_on` names its class. In Python a `TimeoutError` is an `OSError`: with
    `retry_on=OSError` an attempt that ran into its `attempt_timeout` is repeated, too, unless `give_up_on` names
    `AttemptTimeoutError`.

    Examples:
        >>> from cano import Retry
        >>> Retry.fixed(3, 0.5)
        Retry.fixed(3, delay=0.5)
        >>> retry = Retry.exponential(5, base=0.1, retry_on=OSError, give_up_on=FileNotFoundError)
        >>> retry.wants(ConnectionResetError()), retry.wants(FileNotFoundError())
        (True, False)
    """

    __slots__ = (
        "delay",
        "factor",
        "give_up_on",
        "jitter",
        "kind",
        "max_delay",
        "max_elapsed",
        "retries",
        "retry_on",
    )

    kind: int
    """0 for none, 1 for fixed, 2 for exponential."""
    retries: int
    """Attempts after the first."""
    delay: float
    """Seconds before the first retry (and before each, when fixed)."""
    factor: float
    """What the delay is multiplied with after each retry."""
    max_delay: float
    """The longest delay, in seconds; infinite where there is no limit."""
    jitter: float
    """By which share of itself a delay is moved up or down at random, 0 to 1."""
    retry_on: Which | None
    """Which errors are retried; `None` for every one."""
    give_up_on: Which | None
    """Which errors are not retried; stronger than `retry_on`."""
    max_elapsed: float | None
    """No retry that would start later than this many seconds after the first attempt began."""

    def __init__(self, *_: object, **__: object) -> None:
        raise ConfigurationError("write Retry.none(), Retry.fixed(retries, delay) or Retry.exponential(retries)")

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return (
            "kind",
            "retries",
            "delay",
            "factor",
            "max_delay",
            "jitter",
            "retry_on",
            "give_up_on",
            "max_elapsed",
        )

    @classmethod
    def _make(cls, *facts: Any) -> Retry:
        self = cls.__new__(cls)
        for name, fact in zip(cls._names(), facts, strict=True):
            fill(self, name, fact)
        return self

    @staticmethod
    def none() -> Retry:
        """One attempt and no more: the default."""
        return _ONCE

    @staticmethod
    def fixed(
        retries: int,
        delay: Seconds,
        *,
        retry_on: Which | None = None,
        give_up_on: Which | None = None,
        max_elapsed: Seconds | None = None,
    ) -> Retry:
        """Retry after the same delay each time.

        Args:
            retries: Attempts after the first, 0 or more.
            delay: Seconds (or a `timedelta`) before each retry; may be 0.
            retry_on: Which errors are retried: a class, a tuple of classes, or a function of the exception.
                Default: every `Exception`.
            give_up_on: Which errors are not, in the same form; stronger than `retry_on`.
            max_elapsed: Seconds (or a `timedelta`) since the first attempt began, after which no retry
                starts.

        Raises:
            ConfigurationError: An argument is none of these.
        """
        return Retry._make(
            FIXED,
            count(retries, "retries"),
            seconds(delay, "delay", zero=True),
            1.0,
            math.inf,
            0.0,
            _which(retry_on, "retry_on"),
            _which(give_up_on, "give_up_on"),
            optional_seconds(max_elapsed, "max_elapsed"),
        )

    @staticmethod
    def exponential(
        retries: int,
        base: Seconds = 0.1,
        factor: float = 2,
        max_delay: Seconds | None = 30,
        jitter: float = 0.1,
        *,
        retry_on: Which | None = None,
        give_up_on: Which | None = None,
        max_elapsed: Seconds | None = None,
    ) -> Retry:
        """Retry after delays that grow: `min(base * factor**k, max_delay)`, moved by up to `jitter` of it.

        Args:
            retries: Attempts after the first, 0 or more.
            base: Seconds (or a `timedelta`) before the first retry; may be 0.
            factor: What each delay is multiplied with for the next, 1 or more.
            max_delay: The longest delay, in seconds or as a `timedelta`; `None` for no limit.
            jitter: Up to which share of itself a delay is moved at random, 0 to 1; no delay exceeds
                `max_delay`.
            retry_on: Which errors are retried: a class, a tuple of classes, or a function of the exception.
                Default: every `Exception`.
            give_up_on: Which errors are not, in the same form; stronger than `retry_on`.
            max_elapsed: Seconds (or a `timedelta`) since the first attempt began, after which no retry
                starts.

        Raises:
            ConfigurationError: An argument is none of these.
        """
        return Retry._make(
            EXPONENTIAL,
            count(retries, "retries"),
            seconds(base, "base", zero=True),
            _number(factor, "factor", 1, math.inf),
            math.inf if max_delay is None else seconds(max_delay, "max_delay", infinite=True),
            _number(jitter, "jitter", 0, 1),
            _which(retry_on, "retry_on"),
            _which(give_up_on, "give_up_on"),
            optional_seconds(max_elapsed, "max_elapsed"),
        )

    @property
    def plan(self) -> Plan:
        """The numbers, as the engines take them; `retry_on` and `give_up_on` are asked with `wants`."""
        return (
            self.kind,
            self.retries,
            self.delay,
            self.factor,
            self.max_delay,
            self.jitter,
            self.max_elapsed,
        )

    def wants(self, error: BaseException) -> bool:
        """Whether this error is of a kind that is retried (not whether a retry is left).

        Args:
            error: What the attempt raised.

        Raises:
            BaseException: Whatever a `retry_on` or `give_up_on` function raises; the engine turns it into a
                failure.
        """
        kind = type(error)  # not `isinstance`, which asks for the error's `__class__`: a user's may raise there
        if issubclass(kind, _NEVER) or _is_cancellation(kind):
            return False
        if self.give_up_on is not None and _matches(self.give_up_on, error):
            return False
        if not issubclass(kind, Exception) and not isinstance(self.retry_on, type | tuple):
            return False
        return self.retry_on is None or _matches(self.retry_on, error)

    def __repr__(self) -> str:
        if self.kind == NONE:
            return "Retry.none()"
        if self.kind == FIXED:
            parts = [str(self.retries), f"delay={self.delay:g}"]
        else:
            longest = None if math.isinf(self.max_delay) else f"{self.max_delay:g}"
            parts = [
                str(self.retries),
                f"base={self.delay:g}",
                f"factor={self.factor:g}",
                f"max_delay={longest}",
                f"jitter={self.jitter:g}",
            ]
        if self.retry_on is not None:
            parts.append(f"retry_on={_describe(self.retry_on)}")
        if self.give_up_on is not None:
            parts.append(f"give_up_on={_describe(self.give_up_on)}")
        if self.max_elapsed is not None:
            parts.append(f"max_elapsed={self.max_elapsed:g}")
        return f"Retry.{'fixed' if self.kind == FIXED else 'exponential'}({', '.join(parts)})"

    def __replace__(self, **changes: Any) -> Retry:
        raise TypeError("a Retry has no parts to replace: write Retry.fixed(...) or Retry.exponential(...) again")


_ONCE: Final = Retry._make(NONE, 0, 0.0, 1.0, math.inf, 0.0, None, None, None)


def _is_cancellation(kind: type[BaseException]) -> bool:
    # Whoever raised asyncio's CancelledError has imported it; nobody else pays for asyncio.
    module = sys.modules.get("asyncio.exceptions")
    return module is not None and issubclass(kind, module.CancelledError)


def _matches(which: Which, error: BaseException) -> bool:
    if isinstance(which, type | tuple):
        return issubclass(type(error), which)
    return bool(which(error))


def _number(value: Any, what: str, least: float, most: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most and value < math.inf:
        try:
            return float(value)
        except OverflowError:
            pass
    limits = f"{least:g} or more, and finite" if math.isinf(most) else f"from {least:g} to {most:g}"
    raise ConfigurationError(f"{what} must be a number, {limits}; got {came(value)}")


def _which(value: Any, what: str) -> Which | None:
    """Check which errors; any collection of classes becomes a tuple, so that the value can be hashed."""
    if value is None:
        return None
    if isinstance(value, type):
        if issubclass(value, BaseException):
            return value
    elif isinstance(value, tuple | list | set | frozenset):
        several: Iterable[Any] = value
        classes = tuple(_ordered(several))
        if classes and all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
            return classes
    elif callable(value):
        if is_async(value):
            raise ConfigurationError(
                f"{what} must be a plain function: the engine asks it between two attempts and does not await it; "
                "got an async function"
            )
        return cast("Callable[[BaseException], bool]", value)
    shown = type_name(value) if isinstance(value, type) else came(value)
    raise ConfigurationError(
        f"{what} must be an exception class, a tuple of exception classes, or a function of the exception; got {shown}"
    )


def _ordered(classes: Iterable[Any]) -> Iterable[Any]:
    # A set has no order of its own, and equal policies have to compare equal.
    return sorted(classes, key=type_name) if isinstance(classes, set | frozenset) else classes


def _describe(which: Which) -> str:
    if isinstance(which, type):
        return type_name(which)
    if isinstance(which, tuple):
        return f"({', '.join(type_name(one) for one in which)})"
    return getattr(which, "__qualname__", None) or type_name(type(which))
