"""The kinds of attempt that both engines share: a sync callable on a worker thread, and a real `asyncio.Task`.

Both answer to what a driver asks of a `Branch`: `index`, `attempt`, `started`, `timed_out`, `release()`, `expire()`.
They are Python also under the native engine: a thread that runs user code must have no native frame below it (see
`threads`), and a Task is what it is.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import CoroutineType
from typing import Any, Protocol

from .contract import SplitPlan

# What became of an attempt.
OK = 0
ERROR = 1
CANCELLED = 2

# What ends a run from wherever it is raised, and leaves through the loop. Asked of an exception's type, here and wherever
# else it may be a user's: `isinstance` looks at `__class__`, which an exception may define, and which may raise.
FATAL = (KeyboardInterrupt, SystemExit)


def as_coroutine(awaitable: Any) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that runs an awaitable: itself, if it is one.

    Only a real one: what merely has `send` and `throw` may expect (as `cano.sleep` does) to be awaited.
    """
    if isinstance(awaitable, CoroutineType):
        return awaitable

    async def wait() -> Any:
        return await awaitable

    return wait()


def wake_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Have a loop call something, from a worker thread; from Python, see `threads`."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        pass  # the loop was closed under the run: nobody waits any more


class Driver(Protocol):
    """What an attempt needs of an engine's split."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def plan(self) -> SplitPlan: ...

    @property
    def now(self) -> Callable[[], float]: ...

    @property
    def released(self) -> bool: ...

    def arm(self, attempt: Any, due: float) -> Any: ...

    def cancel_timer(self, timer: Any) -> None: ...

    def landed(self, attempt: ThreadAttempt) -> Callable[[], None] | None: ...

    def attempt_ended(self, attempt: Any, outcome: int, result: Any, error: BaseException | None) -> None: ...

    def raises_fatal(self) -> bool: ...

    def end_turn(self) -> None: ...


class ThreadAttempt:
    """An attempt on a worker thread. It cannot be stopped: cancelled, its result is dropped."""

    __slots__ = (
        "_arguments",
        "_driver",
        "_function",
        "attempt",
        "begun",
        "context",
        "ended",
        "error",
        "index",
        "limit",
        "outcome",
        "over",
        "released",
        "started",
        "timed_out",
        "timer",
    )

    def __init__(
        self,
        driver: Driver,
        index: int,
        attempt: int,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        context: contextvars.Context,
        limit: float | None,
    ) -> None:
        self._driver: Driver | None = driver
        self._function = function
        self._arguments = arguments
        self.index = index
        self.attempt = attempt
        self.context = context
        self.limit = limit
        self.begun = False  # written by the worker, like the next four
        self.started = 0.0
        self.ended = 0.0
        self.outcome: Any = None
        self.error: BaseException | None = None
        self.timer: Any = None  # the driver's
        self.timed_out = False
        self.released = False
        self.over = False

    def __call__(self) -> None:
        """Run, on a worker thread."""
        driver = self._driver
        if driver is None or driver.released:  # what has not begun at the decision does not begin any more
            return
        with suppress(Exception):  # of the loop's clock: it must not keep what the worker has to tell
            self.started = driver.now()
            self.begun = True  # once it is known when: the limit counts from there
        try:
            self.outcome = self.context.run(self._function, *self._arguments)
        except BaseException as error:
            self.error = error
        try:
            self.ended = driver.now()
        except Exception:
            self.ended = self.started
        wake = driver.landed(self)
        if wake is not None:
            wake_loop(driver.loop, wake)
        # The traceback of what it raised holds this frame, and this frame would hold all other branches.
        del self, driver

    def release(self) -> None:
        """The split goes on without it, now: nobody waits for the thread."""
        self.released = True
        self._end(CANCELLED)

    def look_again(self) -> None:
        """See to it that the split knows it was released, after a KeyboardInterrupt may have come in between."""
        if self.released and not self.over:
            self._end(CANCELLED)

    def expire(self, _: Any) -> bool:
        """The timer fired. The attempt's time counts from the moment a worker took it up, which may be later."""
        driver = self._driver
        if driver is None or self.over or driver.released:
            return True
        due = (self.started if self.begun else driver.now()) + (self.limit or 0.0)
        if due > driver.now() + 1e-9:
            self.timer = driver.arm(self, due)
        else:
            self.timer = None
            self.timed_out = True
            self._end(CANCELLED)
        return True

    def _end(self, outcome: int) -> None:
        driver, self._driver = self._driver, None
        self.over = True
        if driver is not None:
            if self.timer is not None:
                driver.cancel_timer(self.timer)
            driver.attempt_ended(self, outcome, None, None)


class TaskAttempt:
    """An attempt that is a real `asyncio.Task`: for `introspect=True` and loops with a task factory.

    Nobody can tell when it takes a step, so that all of a split are released at once, not some in each turn: one that woke by
    itself before its turn would go on, and be cut off in its clean-up.
    """

    __slots__ = ("_driver", "_task", "attempt", "index", "released", "started", "timed_out", "timer")

    def __init__(self, driver: Driver, index: int, attempt: int, started: float) -> None:
        self._driver = driver
        self._task: asyncio.Task[Any] | None = None
        self.index = index
        self.attempt = attempt
        self.started = started
        self.timer: Any = None  # the driver's
        self.timed_out = False
        self.released = False

    def begin(self, coro: Coroutine[Any, Any, Any], context: contextvars.Context) -> None:
        """Create the task through the loop, so that a task factory sees it, in a copy of the branch's context."""
        driver = self._driver
        # Not `create_task(context=...)`: task factories written before 3.11 do not take it.
        try:
            task = self._task = context.run(driver.loop.create_task, coro)
        except (KeyboardInterrupt, SystemExit) as error:  # an eager task raises it here, too
            driver.attempt_ended(self, ERROR, None, error)
            return
        task.set_name(f"cano-{driver.plan.name}-{self.index}")
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        driver = self._driver
        if self.timer is not None:
            driver.cancel_timer(self.timer)
            self.timer = None
        error: BaseException | None = None
        if task.cancelled():
            outcome, result = CANCELLED, None
            try:
                task.result()
            except asyncio.CancelledError as cancelled:
                error = cancelled
        else:
            error = task.exception()
            outcome, result = (OK, task.result()) if error is None else (ERROR, None)
        if issubclass(type(error), FATAL):
            driver.raises_fatal()  # as the task has done
        try:
            driver.attempt_ended(self, outcome, result, error)
            driver.end_turn()
        finally:
            error = None

    def look_again(self) -> None:
        """See to it that the end of the task is heard of, after a KeyboardInterrupt may have come in between."""
        if self._task is None:
            self._driver.attempt_ended(self, CANCELLED, None, None)
        else:
            self._task.remove_done_callback(self._done)
            self._task.add_done_callback(self._done)

    def release(self) -> None:
        """Cancel it because the split goes on without it; once."""
        if not self.released and self._task is not None:
            # If its timeout has cancelled it, and it did not take that back, it is cleaning up.
            if not (self.timed_out and self._task.cancelling()):
                self._task.cancel()
            self.released = True  # not before: an interrupt may come out of what it waits for

    def expire(self, _: Any) -> bool:
        """The attempt's time is up."""
        self.timer = None
        if self._task is not None and not self.released and not self._task.done():
            self.timed_out = True
            self._task.cancel()
        return True
