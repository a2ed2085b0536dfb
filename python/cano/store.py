"""The store that the tasks of a run share, in plain Python; the native engine has its twin (`cano-py/src/store.rs`).

The keys in the dict are all of the exact type `str`: no lookup runs code of the user's, and each single
operation of the dict is atomic, also on free-threaded builds. What takes more than one such operation holds
the lock; reads never wait, and see what was there before a running `update`.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterator, MutableMapping
from types import CoroutineType, UnionType
from typing import Any, Final, TypeVar, final, overload

from ._forks import new_lock
from ._naming import shorten, type_name
from .errors import KeyNotFoundError, TypeMismatchError

__all__ = ["MemoryStore", "ScopedStore"]

T = TypeVar("T")
D = TypeVar("D")

_MISSING: Final = object()
_SHOWN: Final = 5


class MemoryStore:
    """Values under string keys, which the tasks of a run share; kept by reference.

    Safe from any thread. `append`, `update`, `pop`, `setdefault` and `clear` are atomic: nobody changes the
    value in between. Reads never wait. What lists keys or values shows one moment. A subclass of `str`, such
    as a member of a `StrEnum`, counts as the plain string. Counts as a `MutableMapping`, except that `update`
    changes one value, that the second argument of `get` is a type, and that two stores are only equal if they
    are one.

    Examples:
        >>> from cano import MemoryStore
        >>> store = MemoryStore()
        >>> store.put("count", 1)
        >>> store.update("count", lambda count: count + 1)
        2
        >>> store.append("names", "ada")
        >>> store.get("count", int), store.get("missing", default=0), store["names"]
        (2, 0, ['ada'])
        >>> store.get("count", str)
        Traceback (most recent call last):
        cano.errors.TypeMismatchError: the value under the key 'count' is of type int, expected str; ...
        >>> store.scoped("user").put("name", "bo")
        >>> store
        <MemoryStore 3 keys: 'count', 'names', 'user/name'>
    """

    __slots__ = ("__weakref__", "_data", "_lock", "_prefix")

    _data: dict[str, Any]
    _lock: threading.RLock
    _prefix: str

    def __init__(self) -> None:
        self._data = {}
        # Re-entrant: the function given to update may use the store, and so may a finaliser, at any moment.
        self._lock = new_lock()
        self._prefix = ""

    def put(self, key: str, value: object) -> None:
        """Put a value under a key; what was there is replaced.

        Raises:
            TypeError: The key is no string.
        """
        key = self._key(key)
        with self._lock:
            old = self._data.get(key)
            self._data[key] = value
        del old  # now: a finaliser may use the store

    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, type: type[T]) -> T: ...
    @overload
    def get(self, key: str, *, default: D) -> Any | D: ...
    @overload
    def get(self, key: str, type: type[T], *, default: D) -> T | D: ...
    def get(self, key: str, type: Any = _MISSING, *, default: Any = _MISSING) -> Any:  # noqa: A002 - its name
        """Get the value under a key, the very object that was put there.

        Args:
            key: The key.
            type: A type the value has to be an instance of, a union or a tuple of them. Of `list[int]` only
                `list` is checked. A `bool` is no `int` here. A bare `object()` in its place is taken for the
                default: so asks `match` with a mapping pattern.
            default: What to return where there is no value; it is not checked.

        Raises:
            KeyNotFoundError: There is no value and no default.
            TypeMismatchError: The value is not of that type; it is left alone.
            TypeError: The key is no string, or `type` no type.
        """
        wanted = type
        if default is _MISSING and type is not _MISSING and builtins.type(type) is object:
            if not _is_text(key):
                return type
            wanted, default = _MISSING, type
        key = self._key(key)
        value = self._data.get(key, _MISSING)
        if value is _MISSING:
            if default is _MISSING:
                raise KeyNotFoundError(key)
            return default
        if wanted is not _MISSING and not _is_of_type(value, wanted):
            raise TypeMismatchError(key, wanted, value.__class__)
        return value

    def remove(self, key: str) -> Any:
        """Remove a key and return the value that was there.

        Raises:
            KeyNotFoundError: There is none.
        """
        return self.pop(key)

    def append(self, key: str, item: object) -> None:
        """Append an item to the list under a key, atomically; a missing key gets a new list.

        The list is changed in place: whoever holds it sees the item.

        Raises:
            TypeMismatchError: The value is no list; it is left alone.
        """
        key = self._key(key)
        with self._lock:
            value = self._data.get(key, _MISSING)
            if value is _MISSING:
                self._data[key] = [item]
            elif isinstance(value, list):
                value.append(item)
            else:
                raise TypeMismatchError(key, list, type(value))

    def update(self, key: str, fn: Callable[[Any], T]) -> T:
        """Replace the value under a key by what a function makes of it, atomically.

        Args:
            key: The key.
            fn: Called with the value. Other threads that change the store wait meanwhile, so it has to be
                quick; it may use the store itself, and must not wait for another thread that does.

        Returns:
            The new value.

        Raises:
            KeyNotFoundError: There is no value.
            TypeError: `fn` is no function, or an async one.
            BaseException: Whatever `fn` raises; the value is left alone.
        """
        key = self._key(key)
        if not callable(fn):
            raise TypeError(
                f"update() needs a function that takes the old value and returns the new one; got {type_name(type(fn))}"
            )
        with self._lock:
            old = self._data.get(key, _MISSING)
            if old is _MISSING:
                raise KeyNotFoundError(key)
            new: Any = fn(old)
            if type(new) is CoroutineType:
                new.close()  # or Python warns that it was never awaited
                raise TypeError(
                    "update() needs a plain function; this one is async. "
                    "Await first, then update() with what came of it"
                )
            replaced = self._data.get(key)  # not `old`, if the function put something there itself
            self._data[key] = new
        del old, replaced
        result: T = new
        return result

    def contains_key(self, key: object) -> bool:
        """Whether there is a value under a key. What is no string is no key."""
        return isinstance(key, str) and self._key(key) in self._data

    def keys(self) -> list[str]:
        """List the keys, in the order they were first put."""
        return list(self.snapshot())

    def values(self) -> list[Any]:
        """List the values, in the order their keys were first put."""
        return list(self.snapshot().values())

    def items(self) -> list[tuple[str, Any]]:
        """List the keys with their values, in the order the keys were first put."""
        return list(self.snapshot().items())

    def len(self) -> int:
        """Count the keys."""
        return len(self.snapshot()) if self._prefix else len(self._data)

    def is_empty(self) -> bool:
        """Whether there is no key."""
        return self.len() == 0

    def clear(self) -> None:
        """Remove every key."""
        with self._lock:
            old = self.snapshot()
            if self._prefix:
                for key in old:
                    self._data.pop(self._prefix + key, None)
            else:
                self._data.clear()
        del old

    def snapshot(self) -> dict[str, Any]:
        """Copy the store as it is at one moment: a new dictionary with the same values in it."""
        everything = self._data.copy()
        prefix = self._prefix
        if not prefix:
            return everything
        return {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}

    def scoped(self, prefix: str) -> ScopedStore:
        """Look at the keys that begin with `prefix/` as a store of their own; nothing is copied.

        Raises:
            TypeError: The prefix is no string.
            ValueError: It is empty.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"a scope's prefix must be a string; got {type_name(type(prefix))}")
        if not prefix:
            raise ValueError("a scope's prefix must not be empty; use the store itself instead")
        scope = ScopedStore.__new__(ScopedStore)
        scope._data = self._data
        scope._lock = self._lock
        scope._prefix = f"{self._key(prefix)}/"
        return scope

    @overload
    def pop(self, key: str, /) -> Any: ...
    @overload
    def pop(self, key: str, default: D, /) -> Any | D: ...
    def pop(self, key: str, default: Any = _MISSING, /) -> Any:
        """Remove a key and return its value, or the default if there is none.

        Raises:
            KeyNotFoundError: There is no value and no default.
        """
        key = self._key(key)
        with self._lock:
            value = self._data.pop(key, default)
        if value is _MISSING:
            raise KeyNotFoundError(key)
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the key that was first put last, and return it with its value.

        Raises:
            KeyError: The store is empty.
        """
        with self._lock:
            keys = self.keys()
            if not keys:
                raise KeyError("popitem(): the store is empty")
            return keys[-1], self.pop(keys[-1])

    def setdefault(self, key: str, default: object = None, /) -> Any:
        """Return the value under a key; where there is none, put the default there first, atomically."""
        key = self._key(key)
        with self._lock:
            return self._data.setdefault(key, default)

    def __getitem__(self, key: str, /) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: object, /) -> None:
        self.put(key, value)

    def __delitem__(self, key: str, /) -> None:
        self.pop(key)

    def __contains__(self, key: object, /) -> bool:
        return self.contains_key(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return self.len()

    def __repr__(self) -> str:
        return f"<MemoryStore {_describe_keys(self.keys())}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a store cannot be pickled or copied; its snapshot() can, if its values can")

    def _key(self, key: str) -> str:
        """The key under which `key` lies in the dict."""
        if type(key) is not str:
            if not isinstance(key, str):
                raise TypeError(f"a store's keys are strings; got {type_name(type(key))}")
            key = str.__str__(key)
        return self._prefix + key


@final
class ScopedStore(MemoryStore):
    """The part of a store whose keys begin with `prefix/`, seen without the prefix; made by `store.scoped(prefix)`.

    It shares the values with its parent and with every other scope of the same prefix. Scopes nest. An error
    names the key as the parent knows it. Listing and counting look at every key of the parent.
    """

    __slots__ = ()

    def __init__(self) -> None:
        raise TypeError("a ScopedStore is made by store.scoped(prefix)")

    def __repr__(self) -> str:
        return f"<ScopedStore {self._prefix[:-1]!r} {_describe_keys(self.keys())}>"


MutableMapping.register(MemoryStore)  # pyright: ignore - an ABCMeta, which typeshed hides


def _is_text(key: object) -> bool:
    return isinstance(key, str)


def _is_of_type(value: object, wanted: Any) -> bool:
    """Whether a value is of the type asked for: a class, a union, a tuple of them, or the class of a `list[int]`.

    A `bool` is no `int` here: who asks for a number is not served with a truth.
    """
    if type(value) is wanted:
        return True
    if type(wanted) is type:
        return isinstance(value, wanted) and not (wanted is int and type(value) is bool)
    if isinstance(wanted, tuple):
        several: tuple[Any, ...] = wanted
        return any(_is_of_type(value, one) for one in several)
    if isinstance(wanted, UnionType):
        return _is_of_type(value, wanted.__args__)
    # list[int] is a types.GenericAlias, SplitResult[int] is of a private class of typing: both name their class here.
    origin = getattr(wanted, "__origin__", None)
    if isinstance(origin, type) and not isinstance(wanted, type):
        return _is_of_type(value, origin)
    try:
        return isinstance(value, wanted)
    except TypeError as error:
        raise TypeError(
            f"the type to get() must be a class, a union or a tuple of classes; got {wanted!r}. "
            "What to answer for a missing key is written get(key, default=...)"
        ) from error


def _describe_keys(keys: list[str]) -> str:
    """The keys, not the values: those may be huge, or nothing that belongs into a log."""
    count = f"{len(keys)} key{'' if len(keys) == 1 else 's'}"
    if not keys:
        return count
    shown = ", ".join(shorten(key, 40) for key in keys[:_SHOWN])
    return f"{count}: {shown}{', …' if len(keys) > _SHOWN else ''}"
