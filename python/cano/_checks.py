"""Argument checks shared by every constructor, so that a bad number is refused where it is written.

A wrong value and a wrong type both raise `ConfigurationError`, which is a `ValueError`.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from ._naming import shorten, type_name
from .errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    Seconds = float | timedelta
    """How a duration is given: seconds, or a `timedelta`."""

__all__ = ["boolean", "came", "count", "fraction", "is_async", "optional_seconds", "seconds"]

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


def came(value: object) -> str:
    """Show a refused value: its type, and its repr where that is harmless (a number, a string)."""
    if value is None:
        return "None"
    if isinstance(value, int | float | str):
        return f"{type_name(type(value))} {shorten(value, 60)}"
    return type_name(type(value))


def is_async(function: object) -> bool:
    """Whether a function that nobody would await is an `async def`."""
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & _CO_COROUTINE)


def seconds(value: Seconds, what: str, *, zero: bool = False, infinite: bool = False) -> float:
    """Check a duration.

    Args:
        value: Seconds, or a `timedelta`.
        what: What the duration is, for the message: `"timeout"`.
        zero: Whether 0 is allowed.
        infinite: Whether infinity is allowed.

    Returns:
        The duration in seconds.

    Raises:
        ConfigurationError: It is no number, NaN, negative, or 0 or infinite where that is not allowed.
    """
    number: float | None = None
    # Whoever holds a timedelta has imported datetime; nobody else pays for it.
    datetime = sys.modules.get("datetime")
    if datetime is not None and isinstance(value, datetime.timedelta):
        span: Any = value
        number = span.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf if value > 0 else -math.inf
    least = "0 or more" if zero else "more than 0"
    if number is None or math.isnan(number) or number < 0 or (number == 0 and not zero):
        raise ConfigurationError(f"{what} must be a number of seconds, {least}, or a timedelta; got {came(value)}")
    if math.isinf(number) and not infinite:
        raise ConfigurationError(f"{what} must be finite; got {came(value)}. For no limit, leave it out (None)")
    return number


def optional_seconds(value: Seconds | None, what: str, *, zero: bool = False) -> float | None:
    """Check a duration that may be left out; like `seconds`, and `None` stays `None`."""
    return None if value is None else seconds(value, what, zero=zero)


def count(value: Any, what: str, minimum: int | None = 0) -> int:
    """Check a whole number.

    Args:
        value: The number.
        what: What it counts, for the message.
        minimum: The smallest number that is allowed; `None` allows any.

    Raises:
        ConfigurationError: It is no `int`, a `bool`, too small, or larger than any machine counts.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"{what} must be a whole number; got {came(value)}")
    if minimum is not None and value < minimum:
        raise ConfigurationError(f"{what} must be {minimum} or more; got {came(value)}")
    if abs(value) > sys.maxsize:
        raise ConfigurationError(f"{what} must be {sys.maxsize} or less; got an int of {value.bit_length()} bits")
    return int(value)


def fraction(value: Any, what: str) -> float:
    """Check a share of a whole: more than 0, at most 1.

    Raises:
        ConfigurationError: It is no number, NaN, or outside (0, 1].
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    hint = ""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 < value <= 100:
        hint = f"; for {value:g} percent write {value / 100:g}"
    raise ConfigurationError(f"{what} must be more than 0 and at most 1; got {came(value)}{hint}")


def boolean(value: Any, what: str) -> bool:
    """Check a switch.

    Raises:
        ConfigurationError: It is neither `True` nor `False`.
    """
    if isinstance(value, bool):
        return value
    raise ConfigurationError(f"{what} must be True or False; got {came(value)}")
