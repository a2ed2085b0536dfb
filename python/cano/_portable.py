"""Pickling that never raises: facts that cannot travel are replaced by a description of them.

An error is pickled at the worst moment there is: when it is to tell another process what went wrong. If one
of its facts cannot be pickled (a lock in a state, a branch's exception with required keywords), a pickling
error would hide the error that matters.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from ._naming import describe_error, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Cycle", "Rebuilt", "portable"]


class Rebuilt:
    """Stands in a pickle for what calling `function(*arguments)` gives when it is read back."""

    __slots__ = ("_arguments", "_function")

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._function = function
        self._arguments = arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickle as the call."""
        return self._function, self._arguments


class Cycle:
    """Tells an object that is being pickled that it has come upon itself, through one of its own parts.

    Each part is pickled on its own first, to see whether it can be, so the pickle protocol's own memory of
    what it has met does not reach from one to the other.
    """

    _met: Final = threading.local()

    def __init__(self, thing: object) -> None:
        self._id = id(thing)
        self._first = False

    def __enter__(self) -> bool:
        """Return whether it is met for the second time."""
        met: set[int] = self._met.__dict__.setdefault("ids", set())
        self._first = self._id not in met
        met.add(self._id)
        return not self._first

    def __exit__(self, *_: object) -> None:
        """Forget it, if it was met here."""
        if self._first:
            self._met.ids.discard(self._id)


def portable(value: Any) -> Any:
    """Make of `value` something that is sure to survive pickling **and** unpickling.

    The whole value is tried first; only if that fails are its parts looked at one by one, and a part that
    cannot travel becomes a description. Many exceptions can be pickled and not read back (a constructor with
    required keywords), so both ways are tried here, where there is still something to put in their place.
    """
    if value is None or type(value) in {str, int, float, bool, bytes}:
        return value
    packed = _try_pack(value)
    if packed is not None:
        return packed
    if type(value) is tuple:
        return tuple(portable(item) for item in value)
    if type(value) is list:
        return [portable(item) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, BaseException):
        from .errors import TaskError

        return TaskError(describe_error(value))
    replace = getattr(value, "_portable", None)
    if replace is not None:
        return replace()
    return f"<{type_name(type(value))} that cannot be pickled>"


def _try_pack(value: Any) -> Rebuilt | None:
    import pickle

    try:
        data = pickle.dumps(value)
        pickle.loads(data)  # noqa: S301 - what was dumped a line above
    except Exception:  # noqa: BLE001 - whatever a user's __reduce__ or constructor raises
        return None
    return Rebuilt(pickle.loads, data)
