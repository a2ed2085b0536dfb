"""The store that the tasks of a run share, in plain Python. The native engine has its own with the same behaviour.

Values are kept by reference: what is put is what is got. Every method is safe from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeVar, overload

from .errors import KeyNotFoundError, TypeMismatchError, shorten, type_name

__all__ = ["MemoryStore", "ScopedStore", "Store"]

T = TypeVar("T")
D = TypeVar("D")


class _Missing:
    """The default of `get` where none was given; `None` is a value like any other."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<no default>"


_MISSING: Final = _Missing()
_SHOWN: Final = 5


class Store(Protocol):
    """What every store offers: `MemoryStore`, a scope of one, the native one."""

    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, type: type[T]) -> T: ...
    @overload
    def get(self, key: str, *, default: D) -> Any | D: ...
    @overload
    def get(self, key: str, type: type[T], *, default: D) -> T | D: ...
    def put(self, key: str, value: object) -> None: ...
    def remove(self, key: str) -> Any: ...
    def append(self, key: str, item: object) -> None: ...
    def update(self, key: str, fn: Callable[[Any], T]) -> T: ...
    def contains_key(self, key: object) -> bool: ...
    def keys(self) -> list[str]: ...
    def values(self) -> list[Any]: ...
    def items(self) -> list[tuple[str, Any]]: ...
    def len(self) -> int: ...
    def is_empty(self) -> bool: ...
    def clear(self) -> None: ...
    def snapshot(self) -> dict[str, Any]: ...
    def scoped(self, prefix: str) -> ScopedStore: ...
    def __getitem__(self, key: str) -> Any: ...
    def __setitem__(self, key: str, value: object) -> None: ...
    def __delitem__(self, key: str) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...


class _Shared:
    """What a store and a scope do alike, on top of the few operations that differ."""

    __slots__ = ()

    def put(self, key: str, value: object) -> None:
        raise NotImplementedError

    def _get(self, key: str, wanted: Any, default: Any) -> Any:
        raise NotImplementedError

    def remove(self, key: str) -> Any:
        raise NotImplementedError

    def snapshot(self) -> dict[str, Any]:
        raise NotImplementedError

    def contains_key(self, key: object) -> bool:
        raise NotImplementedError

    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, type: type[T]) -> T: ...
    @overload
    def get(self, key: str, *, default: D) -> Any | D: ...
    @overload
    def get(self, key: str, type: type[T], *, default: D) -> T | D: ...
    def get(self, key: str, type: Any = _MISSING, *, default: Any = _MISSING) -> Any:
        """Get the value under a key, the very object that was put there.

        Args:
            key: The key.
            type: A type the value has to be an instance of, or a union of types. Of `list[int]` only `list` is
                checked.
            default: What to return where there is no value; it is not checked.

        Raises:
            KeyNotFoundError: There is no value and no default.
            TypeMismatchError: The value is not of that type; it is left alone.
        """
        return self._get(key, type, default)

    def values(self) -> list[Any]:
        """List the values, in the order their keys were first put."""
        return list(self.snapshot().values())

    def items(self) -> list[tuple[str, Any]]:
        """List the keys with their values, in the order the keys were first put."""
        return list(self.snapshot().items())

    def keys(self) -> list[str]:
        """List the keys, in the order they were first put."""
        return list(self.snapshot())

    def len(self) -> int:
        """Count the keys."""
        return len(self.snapshot())

    def is_empty(self) -> bool:
        """Whether there is no key."""
        return self.len() == 0

    def __getitem__(self, key: str) -> Any:
        return self._get(key, _MISSING, _MISSING)

    def __setitem__(self, key: str, value: object) -> None:
        self.put(key, value)

    def __delitem__(self, key: str) -> None:
        self.remove(key)

    def __contains__(self, key: object) -> bool:
        return self.contains_key(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return self.len()


class MemoryStore(_Shared):
    """A dictionary that the tasks of a run share. Keys are strings; values are kept by reference.

    Safe from any thread. `append` and `update` are atomic: nobody sees or changes the value in between. Iterating, and
    `keys`, `values`, `items`, `snapshot`, look at one moment.
    """

    __slots__ = ("__weakref__", "_data", "_lock")

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}
        # Re-entrant: the function given to update may look into the store.
        self._lock = threading.RLock()

    def put(self, key: str, value: object) -> None:
        """Put a value under a key; what was there is replaced.

        Raises:
            TypeError: The key is no string.
        """
        _check_key(key)
        with self._lock:
            self._data[key] = value

    def _get(self, key: str, wanted: Any, default: Any) -> Any:
        _check_key(key)
        value = self._data.get(key, _MISSING)  # one dict operation: atomic without the lock
        if value is _MISSING:
            if default is _MISSING:
                raise KeyNotFoundError(key)
            return default
        if wanted is not _MISSING and not _is_instance(value, wanted):
            raise TypeMismatchError(key, wanted, type(value))
        return value

    def remove(self, key: str) -> Any:
        """Remove a key.

        Returns:
            The value that was there.

        Raises:
            KeyNotFoundError: There is none.
        """
        _check_key(key)
        with self._lock:
            value = self._data.pop(key, _MISSING)
        if value is _MISSING:
            raise KeyNotFoundError(key)
        return value

    def append(self, key: str, item: object) -> None:
        """Append an item to the list under a key, atomically; a missing key gets a new list.

        The list is changed in place: whoever holds it sees the item.

        Raises:
            TypeMismatchError: The value is no list; it is left alone.
        """
        _check_key(key)
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
            fn: Called with the value. Other threads that change the store wait meanwhile, so it has to be quick; it
                may use the store itself, and must not wait for another thread that does.

        Returns:
            The new value.

        Raises:
            KeyNotFoundError: There is no value.
            BaseException: Whatever `fn` raises; the value is left alone.
        """
        _check_key(key)
        with self._lock:
            value = self._data.get(key, _MISSING)
            if value is _MISSING:
                raise KeyNotFoundError(key)
            new = fn(value)
            self._data[key] = new
        return new

    def contains_key(self, key: object) -> bool:
        """Whether there is a value under a key."""
        return isinstance(key, str) and key in self._data

    def len(self) -> int:
        """Count the keys."""
        return len(self._data)

    def clear(self) -> None:
        """Remove every key."""
        with self._lock:
            # Not clear(): dropping the values may run their __del__, which may use the store.
            old, self._data = self._data, {}
        del old

    def snapshot(self) -> dict[str, Any]:
        """Copy the store as it is at one moment: a new dictionary with the same values in it."""
        with self._lock:
            return self._data.copy()

    def scoped(self, prefix: str) -> ScopedStore:
        """Look at the keys that begin with `prefix/` as a store of their own; nothing is copied.

        Raises:
            TypeError: The prefix is no string.
            ValueError: It is empty.
        """
        return ScopedStore(self, prefix)

    def __repr__(self) -> str:
        return f"<MemoryStore {_describe_keys(self.keys())}>"


class ScopedStore(_Shared):
    """The part of a store whose keys begin with `prefix/`, seen without the prefix; made by `store.scoped(prefix)`.

    It shares the values with its parent and with every other scope of the same prefix. Scopes nest. An error names the
    key as the parent knows it.
    """

    __slots__ = ("__weakref__", "_prefix", "_root")

    def __init__(self, parent: Any, prefix: str) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"a scope's prefix must be a string; got {type_name(type(prefix))}")
        if not prefix:
            raise ValueError("a scope's prefix must not be empty; use the store itself instead")
        # Straight to the store at the bottom: depth costs nothing at use.
        if isinstance(parent, ScopedStore):
            self._root: Any = parent._root
            self._prefix = f"{parent._prefix}{prefix}/"
        else:
            self._root = parent
            self._prefix = f"{prefix}/"

    def put(self, key: str, value: object) -> None:
        """Put a value under a key of the scope."""
        self._root.put(self._full(key), value)

    def _get(self, key: str, wanted: Any, default: Any) -> Any:
        extra = {} if default is _MISSING else {"default": default}
        if wanted is _MISSING:
            return self._root.get(self._full(key), **extra)
        return self._root.get(self._full(key), wanted, **extra)

    def remove(self, key: str) -> Any:
        """Remove a key of the scope and return its value."""
        return self._root.remove(self._full(key))

    def append(self, key: str, item: object) -> None:
        """Append to the list under a key of the scope, atomically."""
        self._root.append(self._full(key), item)

    def update(self, key: str, fn: Callable[[Any], T]) -> T:
        """Replace the value under a key of the scope, atomically."""
        new: T = self._root.update(self._full(key), fn)
        return new

    def contains_key(self, key: object) -> bool:
        """Whether the scope has a value under a key."""
        return isinstance(key, str) and self._root.contains_key(self._prefix + key)

    def clear(self) -> None:
        """Remove every key of the scope; the rest of the parent stays."""
        for key in self.keys():
            try:
                self._root.remove(self._prefix + key)
            except KeyNotFoundError:
                pass  # another thread was quicker

    def snapshot(self) -> dict[str, Any]:
        """Copy the scope as it is at one moment, its keys without the prefix."""
        cut = len(self._prefix)
        return {key[cut:]: value for key, value in self._root.snapshot().items() if key.startswith(self._prefix)}

    def scoped(self, prefix: str) -> ScopedStore:
        """Make a scope inside this one."""
        return ScopedStore(self, prefix)

    def _full(self, key: str) -> str:
        _check_key(key)
        return self._prefix + key

    def __repr__(self) -> str:
        return f"<ScopedStore {self._prefix[:-1]!r} {_describe_keys(self.keys())}>"


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"a store's keys are strings; got {type_name(type(key))}")


def _is_instance(value: object, wanted: Any) -> bool:
    try:
        return isinstance(value, wanted)
    except TypeError:
        origin = getattr(wanted, "__origin__", None)  # list[int]: the items are not looked at
        if isinstance(origin, type):
            return isinstance(value, origin)
        raise


def _describe_keys(keys: list[str]) -> str:
    """The keys, not the values: those may be huge, or nothing that belongs into a log."""
    count = f"{len(keys)} key{'' if len(keys) == 1 else 's'}"
    if not keys:
        return count
    shown = ", ".join(shorten(key, 40) for key in keys[:_SHOWN])
    return f"{count}: {shown}{', …' if len(keys) > _SHOWN else ''}"
