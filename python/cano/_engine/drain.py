"""What worker threads run for a split over data of the native engine whose function is sync.

The engine hands out items and takes results in native code; only the calls are made here. That has to be Python: a thread that
runs user code must have no native frame below it (see `threads`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .attempts import wake_loop
from .threads import pool

if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Iterator


class Cursor(Protocol):
    """One worker's way through the items, in one context; native (`rust/cano-py/src/threads.rs`).

    Attributes:
        context: What the calls run in.
        results: Where what a call returned is appended.
        is_empty: No item was left.
        is_late: The worker's share of time is over.
        wake: What to hand to the loop, if it must be woken.
    """

    context: contextvars.Context
    results: list[Any]
    is_empty: bool
    is_late: bool
    wake: Callable[[], None] | None

    def __iter__(self) -> Iterator[Any]: ...

    def failed(self, error: BaseException) -> None: ...


class Driver(Protocol):
    """What a worker needs of a native split."""

    loop: asyncio.AbstractEventLoop

    def take_up(self) -> bool: ...

    def cursor(self) -> Cursor: ...

    def worker_failed(self, error: BaseException) -> None: ...


class Drain:
    """A worker's share of a split: calls the function on item after item, until none is left or its time is up."""

    __slots__ = ("_driver", "_function", "_store", "_with_store")

    def __init__(self, driver: Driver, function: Callable[..., Any], with_store: bool, store: Any) -> None:
        self._driver = driver
        self._function = function
        self._with_store = with_store
        self._store = store

    def __call__(self) -> None:
        """Run, on a worker thread."""
        driver = self._driver
        try:
            self._work(driver)
        except BaseException as error:
            # Not the user's function (what that raises is an outcome): a panic, or no memory. A thread has nobody to raise it
            # to, and the item in hand would never come back: the loop has to hear of it.
            wake_loop(driver.loop, partial(driver.worker_failed, error))

    def _work(self, driver: Driver) -> None:
        if driver.take_up():
            pool.submit(self)
        while True:
            # A context of its own for each branch: the next one gets this one, too, as long as nobody can have noticed.
            cursor = driver.cursor()
            if self._with_store:
                cursor.context.run(_call_with_store, cursor, self._function, self._store)
            else:
                cursor.context.run(_call, cursor, self._function)
            wake = cursor.wake
            if wake is not None:
                wake_loop(driver.loop, wake)
            if cursor.is_empty:
                return
            if cursor.is_late:
                # Others wait for a worker, too: this one queues again behind them.
                pool.submit(self)
                return


def _call(cursor: Cursor, function: Callable[[Any], Any]) -> None:
    # What a call gives is in no variable: whoever keeps an error keeps the frames below it, and what they hold.
    answer = cursor.results.append
    for item in cursor:
        try:
            answer(function(item))
        except BaseException as error:
            cursor.failed(_of_the_user(error))


def _call_with_store(cursor: Cursor, function: Callable[[Any, Any], Any], store: Any) -> None:
    answer = cursor.results.append
    for item in cursor:
        try:
            answer(function(item, store))
        except BaseException as error:
            cursor.failed(_of_the_user(error))


def _of_the_user(error: BaseException) -> BaseException:
    """Take our own frame off an error's traceback: it would keep alive what this worker holds.

    In a function of its own, because a traceback in a variable of that very frame would be a cycle.
    """
    trace = error.__traceback__
    return error.with_traceback(None if trace is None else trace.tb_next)
