"""The native engine. Private: import from `cano`, which has the same names for both engines."""

from collections.abc import Callable, Iterator
from typing import Any, Self, TypedDict, TypeVar, final, overload

from typing_extensions import disjoint_base

__all__ = ["MemoryStore", "ScopedStore", "build_info"]

_T = TypeVar("_T")
_D = TypeVar("_D")

class _BuildInfo(TypedDict):
    version: str
    """The version of the package the module was built for."""
    profile: str
    """`"release"`, or `"debug"`: unoptimised, and no measure of anything."""
    features: tuple[str, ...]
    """The Cargo features it was built with."""
    rustc: str
    """The version of the compiler."""
    pyo3: str
    """The version of PyO3, which binds it to Python."""
    free_threaded: bool
    """Whether it was built for a Python without a GIL."""

def build_info() -> _BuildInfo:
    """Return the facts of this build."""

@disjoint_base
class MemoryStore:
    """Values under string keys, which the tasks of a run share; kept by reference.

    Safe from any thread. `append`, `update`, `pop`, `setdefault` and `clear` are atomic: nobody changes the
    value in between. Reads never wait. What lists keys or values shows one moment. A subclass of `str`, such
    as a member of a `StrEnum`, counts as the plain string. Counts as a `MutableMapping`, except that `update`
    changes one value, and that two stores are only equal if they are one.
    """

    def __new__(cls) -> Self: ...
    def put(self, key: str, value: object) -> None:
        """Put a value under a key; what was there is replaced.

        Raises:
            TypeError: The key is no string.
        """

    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, type: type[_T]) -> _T: ...
    @overload
    def get(self, key: str, *, default: _D) -> Any | _D: ...
    @overload
    def get(self, key: str, type: type[_T], *, default: _D) -> _T | _D:
        """Get the value under a key, the very object that was put there.

        Args:
            key: The key.
            type: A type the value has to be an instance of, a union or a tuple of them. Of `list[int]` only
                `list` is checked. A `bool` is no `int` here.
            default: What to return where there is no value; it is not checked.

        Raises:
            KeyNotFoundError: There is no value and no default.
            TypeMismatchError: The value is not of that type; it is left alone.
            TypeError: The key is no string, or `type` no type.
        """

    def remove(self, key: str) -> Any:
        """Remove a key and return the value that was there.

        Raises:
            KeyNotFoundError: There is none.
        """

    def append(self, key: str, item: object) -> None:
        """Append an item to the list under a key, atomically; a missing key gets a new list.

        The list is changed in place: whoever holds it sees the item.

        Raises:
            TypeMismatchError: The value is no list; it is left alone.
        """

    def update(self, key: str, fn: Callable[[Any], _T]) -> _T:
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

    def contains_key(self, key: object) -> bool:
        """Whether there is a value under a key. What is no string is no key."""

    def keys(self) -> list[str]:
        """List the keys, in the order they were first put."""

    def values(self) -> list[Any]:
        """List the values, in the order their keys were first put."""

    def items(self) -> list[tuple[str, Any]]:
        """List the keys with their values, in the order the keys were first put."""

    def len(self) -> int:
        """Count the keys."""

    def is_empty(self) -> bool:
        """Whether there is no key."""

    def clear(self) -> None:
        """Remove every key."""

    def snapshot(self) -> dict[str, Any]:
        """Copy the store as it is at one moment: a new dictionary with the same values in it."""

    def scoped(self, prefix: str) -> ScopedStore:
        """Look at the keys that begin with `prefix/` as a store of their own; nothing is copied.

        Raises:
            TypeError: The prefix is no string.
            ValueError: It is empty.
        """

    @overload
    def pop(self, key: str, /) -> Any: ...
    @overload
    def pop(self, key: str, default: _D, /) -> Any | _D:
        """Remove a key and return its value, or the default if there is none.

        Raises:
            KeyNotFoundError: There is no value and no default.
        """

    def popitem(self) -> tuple[str, Any]:
        """Remove the key that was first put last, and return it with its value.

        Raises:
            KeyError: The store is empty.
        """

    def setdefault(self, key: str, default: object = None, /) -> Any:
        """Return the value under a key; where there is none, put the default there first, atomically."""

    def __getitem__(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, value: object, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

@final
class ScopedStore(MemoryStore):
    """The part of a store whose keys begin with `prefix/`, without the prefix; made by `store.scoped(prefix)`.

    It shares the values with its parent and with every other scope of the same prefix. Scopes nest. An error
    names the key as the parent knows it. Listing and counting look at every key of the parent.
    """
