"""The worker threads on which sync callables run: one pool for the process, shared by both engines.

Workers pull from one queue; nothing is pushed to a particular thread. They are plain Python threads with no native
frame below user code: on CPython 3.13 and older a daemon thread that meets interpreter shutdown is unwound by force,
which aborts the process if it has to pass through Rust frames (measured for the ready-made bridges in 13-59 % of
exits). They are daemons because a run does not wait for a thread whose branch was cancelled, and neither may exit.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

DEFAULT_LIMIT = 32

_Job = Callable[[], None]


class _Seat:
    """A worker's place in the counts, from before its thread is started until it runs."""

    __slots__ = ("counted", "taken")

    def __init__(self) -> None:
        self.counted = False
        self.taken = False


class Pool:
    """At most `limit` workers, started when work is waiting and none is idle."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._workers = 0
        self._idle = 0
        self._unfinished = 0
        self._serial = 0

    @property
    def limit(self) -> int:
        return self._limit

    def set_limit(self, limit: int) -> None:
        """Change the limit; surplus workers leave when they have finished what they do."""
        with self._lock:
            self._limit = limit
            surplus = self._workers - limit
        # Only wakes them: whoever is woken looks whether it still is one too many. The limit may have changed again by
        # then, and workers that were told to leave before may not have left yet.
        for _ in range(surplus):
            self._queue.put(None)
        self._grow()

    def submit(self, job: _Job) -> None:
        """Queue a job. A job must not raise."""
        # Under the lock, or a worker might count it as finished first, and another thread take its own job for done.
        with self._lock:
            try:
                self._queue.put(job)
            finally:  # also if a KeyboardInterrupt comes right here
                self._unfinished += 1
        self._grow()

    def submit_many(self, jobs: list[_Job]) -> None:
        """Queue a batch of jobs under one lock."""
        put = self._queue.put
        count = 0
        with self._lock:
            try:
                for job in jobs:
                    count += 1
                    put(job)
            finally:
                self._unfinished += count
        self._grow()

    def outstanding(self) -> int:
        """Return how many jobs are queued or running."""
        return self._unfinished

    def _grow(self) -> None:
        """Start a worker if a job waits and nobody is idle. The worker starts the next one, if jobs still wait then.

        One after the other, because short jobs are done by the first few before more could even run (under the GIL, every
        further one would only compete), while jobs that block let the next worker start at once.
        """
        seat = _Seat()
        try:
            with self._lock:
                if self._idle or self._workers >= self._limit or self._queue.empty():
                    return
                self._serial += 1
                name = f"cano-worker-{self._serial}"
                # Counted idle at once, so that the next submit does not start another for the same job.
                self._workers += 1
                self._idle += 1
                seat.counted = True
            threading.Thread(target=self._work, args=(seat,), name=name, daemon=True).start()
        except BaseException as error:
            # The system has no thread to give, or the interpreter is ending. The others do the work, if there are any. Or a
            # KeyboardInterrupt: then the thread may run all the same, and whoever comes first to the seat has it.
            with self._lock:
                if seat.counted and not seat.taken:
                    seat.counted = False
                    self._workers -= 1
                    self._idle -= 1
                if not self._workers or not isinstance(error, RuntimeError):
                    raise

    def _work(self, seat: _Seat) -> None:
        get = self._queue.get
        lock = self._lock
        with lock:
            seat.taken = True
            if not seat.counted:
                return
        while True:
            job = get()
            with lock:
                if job is None and self._workers <= self._limit:
                    continue
                self._idle -= 1
                if job is None:
                    self._workers -= 1
                is_last_idle = not self._idle
            # Also by one that leaves: whoever counted on it, because it was idle, has started nobody else.
            if is_last_idle:
                self._grow()
            if job is None:
                return
            try:
                job()
            except BaseException:
                # No job may raise; but a worker that is no more would be missed for ever, by those who count on it.
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            del job
            with lock:
                self._idle += 1
                self._unfinished -= 1


pool = Pool()
# A forked child has none of the parent's threads: it starts afresh. (The parent's queue and lock may be in any state.)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool._reset)


def set_thread_limit(limit: int) -> None:
    """Bound how many sync callables run at once in this process (default 32).

    Args:
        limit: worker threads at most, 1 or more. Lowering it lets running work finish.

    Raises:
        ConfigurationError: `limit` is no whole number of at least 1.
    """
    from cano._checks import count

    pool.set_limit(count(limit, "the thread limit", 1))


def outstanding() -> int:
    """Return how many jobs are queued or running (for loops with virtual time, which must not jump meanwhile)."""
    return pool.outstanding()


def discard(outcome: Any) -> None:
    """Let go of what a thread answered too late: a coroutine would complain that it was never awaited."""
    if hasattr(outcome, "__await__") and hasattr(outcome, "close"):
        with suppress(Exception):
            outcome.close()


def start_in_thread(
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> asyncio.Future[Any]:
    """Run `function(*arguments)` on a worker; the future gets what came of it. Cancelling the future drops the result."""
    future: asyncio.Future[Any] = loop.create_future()

    def land(ok: bool, outcome: Any) -> None:
        if future.cancelled():
            discard(outcome)
            return
        if ok:
            future.set_result(outcome)
        elif issubclass(type(outcome), StopIteration):  # not `isinstance`: see `FATAL` in attempts.py
            # A future refuses StopIteration (and on 3.11 a thread that raised one hung its caller for ever).
            error = RuntimeError("the task raised StopIteration")
            error.__cause__ = outcome
            future.set_exception(error)
        else:
            future.set_exception(outcome)

    def job() -> None:
        if future.cancelled():
            return
        try:
            ok, outcome = True, context.run(function, *arguments)
        except BaseException as error:
            ok, outcome = False, error
        try:
            loop.call_soon_threadsafe(land, ok, outcome)
        except RuntimeError:
            pass  # the loop was closed meanwhile: nobody is waiting any more

    pool.submit(job)
    return future


async def call_in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Await `function(*arguments)` run on a worker thread in a copy of the current context."""
    import asyncio

    loop = asyncio.get_running_loop()
    return await start_in_thread(loop, contextvars.copy_context(), function, arguments)
