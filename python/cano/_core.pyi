"""The native engine. Private: import from `cano`, which has the same names for both engines."""

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextvars import Context
from types import FrameType
from typing import Any, Self, TextIO, TypedDict, TypeVar, final, overload

from typing_extensions import disjoint_base

from ._engine.contract import Plan, SplitPlan
from ._engine.outbox import Outbox
from .cancel import CancelToken
from .observe import Dispatcher
from .results import SplitResult

__all__ = [
    "Branch",
    "MemoryStore",
    "Pause",
    "PlanSpec",
    "Run",
    "ScopedStore",
    "SplitRun",
    "build_info",
    "forked",
    "leave",
]

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

def leave() -> None:
    """Python's exit begins: wait until no other thread is inside the engine, and let none in again."""

def forked() -> None:
    """Forget the threads of the parent of this process."""

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

@final
class PlanSpec:
    """A workflow's plan, compiled once and shared by its runs."""

    def __new__(cls, plan: Plan) -> Self: ...

@final
class Run:
    """One run of a plan, driven by whoever awaits it; awaited once. Its value is the exit state reached.

    Cancelling the awaiting task cancels and awaits every branch, then ends the run.
    """

    def __new__(
        cls,
        plan: PlanSpec,
        initial: int,
        store: MemoryStore,
        timeout: float | None,
        token: CancelToken | None,
        dispatcher: Dispatcher | None,
    ) -> Self: ...
    def path(self) -> tuple[Any, ...]:
        """Return the states entered so far, first to last (the last 1,000)."""

    def now(self) -> float:
        """Return the time on the loop's clock, in seconds."""

    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any) -> Any: ...
    def throw(self, *error: Any) -> Any: ...
    def close(self) -> None:
        """Close what the run waits for: whoever awaited it is gone."""

@final
class SplitRun:
    """A split awaited on its own, as `fan_out` does; awaited once. With an outbox, results go there as they come."""

    def __new__(cls, plan: SplitPlan, outbox: Outbox | None = None) -> Self: ...
    def __await__(self) -> Generator[Any, Any, SplitResult[Any]]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any) -> Any: ...
    def throw(self, *error: Any) -> Any: ...
    def close(self) -> None:
        """Cancel every branch, with nobody left to wait for them."""

@final
class Pause:
    """A sleep on the split's own timers, awaited once, in whichever thread, or run by a task as a coroutine is.

    It is cancelled as any await is.

    Args:
        delay: Seconds.
        result: What awaiting it gives.
    """

    def __new__(cls, delay: float, result: Any) -> Self: ...
    @property
    def delay(self) -> float:
        """The seconds it was made for."""

    def cancel(self, msg: object = None) -> bool:
        """Wake the branch with `CancelledError` in the next turn of the loop, as a cancelled future would."""

    def done(self) -> bool:
        """Whether the pause is over."""

    @property
    def cr_suspended(self) -> bool:
        """Whether a task runs it, as it would run a coroutine, and waits in it."""

    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_frame(self) -> None: ...
    @property
    def __name__(self) -> str: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any) -> Any: ...
    def throw(self, *error: Any) -> Any: ...
    def close(self) -> None: ...

@final
class Branch:
    """One attempt of a branch: an `asyncio.Task` to whatever runs inside it, but no instance of that class."""

    _asyncio_future_blocking: bool
    @property
    def _fut_waiter(self) -> Any: ...
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _exception(self) -> BaseException | None: ...
    @property
    def _coro(self) -> Any: ...
    @property
    def _callbacks(self) -> list[tuple[Callable[[Branch], object], Context | None]] | None: ...
    @property
    def _must_cancel(self) -> bool: ...
    def cancel(self, msg: object = None) -> bool:
        """Ask the branch to stop: `CancelledError` is thrown into it at its next step."""

    def cancelling(self) -> int:
        """Return how many cancellations were requested and not taken back."""

    def uncancel(self) -> int:
        """Take back one request for cancellation; return how many remain."""

    def done(self) -> bool:
        """Whether the attempt has ended."""

    def cancelled(self) -> bool:
        """Whether the attempt ended by cancellation."""

    def result(self) -> Any:
        """Return what the coroutine returned, or raise what it raised.

        Raises:
            InvalidStateError: The attempt has not ended.
        """

    def exception(self) -> BaseException | None:
        """Return what the coroutine raised, if it did.

        Raises:
            InvalidStateError: The attempt has not ended.
            CancelledError: It ended by cancellation.
        """

    def add_done_callback(self, callback: Callable[[Branch], object], *, context: Context | None = None) -> None:
        """Have the loop call `callback(branch)` once the attempt has ended."""

    def remove_done_callback(self, callback: Callable[[Branch], object]) -> int:
        """Forget a callback; return how many were removed."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop the branch runs on."""

    def get_coro(self) -> Any:
        """Return the user's own coroutine."""

    def get_context(self) -> Context:
        """Return the context the branch runs in."""

    def get_name(self) -> str:
        """Return the branch's name: `cano-<task>-<index>`, unless it was set."""

    def set_name(self, value: object) -> None:
        """Set the branch's name."""

    def get_stack(self, *, limit: int | None = None) -> list[FrameType]:
        """Return the frames of the branch's coroutine, as `asyncio.Task.get_stack` gives them."""

    def print_stack(self, *, limit: int | None = None, file: TextIO | None = None) -> None:
        """Print the stack of the branch's coroutine."""

    def __call__(self, future: Any) -> None: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Iterator[Any]: ...
