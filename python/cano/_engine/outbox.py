"""Where `as_completed` takes its results from: a bounded hand-over between a running split and its consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from cano.errors import JoinError
from cano.results import SplitTaskResult

from .turns import Turns

Row = SplitTaskResult[Any]


class Outbox:
    """Results that ended and were not taken. The engine puts, one consumer takes; both on the loop's thread.

    A split with an outbox starts a branch only while there is `room`: a consumer that is slower than the branches holds
    them back, and so do branches that wait for their next attempt. With `ordered`, results are handed over in index
    order, and those that wait for an earlier one count as waiting.
    """

    __slots__ = ("_buffer", "_early", "_next", "_ready", "_taker", "_turns", "ordered", "resume", "waiting")

    def __init__(self, buffer: int, ordered: bool) -> None:
        self._buffer = buffer
        self._ready: deque[Row] = deque()
        self._early: dict[int, Row] = {}
        self._next = 0
        self._taker: asyncio.Future[None] | None = None
        self._turns = Turns()
        self.ordered = ordered
        self.waiting = 0
        self.resume: Callable[[], None] | None = None  # the engine's: a result was taken, go on starting

    def room(self, retrying: int) -> bool:
        """Whether another branch may start, while so many that have started wait for their next attempt."""
        return self.waiting + retrying < self._buffer

    def put(self, index: int, result: Any, error: BaseException | None, attempts: int, duration: float) -> None:
        """Hand over the outcome of a branch."""
        row: Row = SplitTaskResult(index, result, error, attempts, max(0.0, duration))  # a clock may run backwards
        self.waiting += 1
        if not self.ordered:
            self._ready.append(row)
        else:
            self._early[index] = row
            while self._next in self._early:
                self._ready.append(self._early.pop(self._next))
                self._next += 1
        if self._ready:
            self.wake()

    def wake(self) -> None:
        """Wake the consumer: a result is ready, or the split has ended."""
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    async def take(self, ended: Callable[[], bool]) -> Row | None:
        """Wait for the next result; `None` once the split has ended and all were taken. Cancelling it loses nothing."""
        if self._ready and self._turns.is_over():
            await asyncio.sleep(0)  # cancelled here, nothing is lost
        while not self._ready:
            if ended():
                if not self._early:
                    return None
                # Ended before its time: what came after the gap is handed over in index order all the same.
                self._next = min(self._early)
                while self._next in self._early:
                    self._ready.append(self._early.pop(self._next))
                    self._next += 1
                break
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None
            self._turns.begin()
        row = self._ready.popleft()
        self.waiting -= 1
        if self.resume is not None:
            self.resume()
        return row


class Collector:
    """A split driven by a task of its own, whose results one consumer takes."""

    def __init__(self, split: Awaitable[Any], outbox: Outbox) -> None:
        self._outbox = outbox
        self._task = asyncio.ensure_future(_drive(split))
        self._task.add_done_callback(lambda _: outbox.wake())

    async def take(self) -> Row | None:
        """Wait for the next result; `None` when all were taken. Raises what ended the split early, after its results."""
        same_loop(self._task)
        row = await self._outbox.take(self._task.done)
        if row is None and self._task.done():
            self._task.result()
        return row

    async def close(self) -> None:
        """Cancel what runs and wait until it has ended. Safe to call again."""
        task = self._task
        if task.get_loop().is_closed():
            return  # under the run: nobody is left that could end it
        same_loop(task)
        interrupted: asyncio.CancelledError | None = None
        if not task.done():
            task.cancel()
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                interrupted = error  # branches are still ending: wait for them, then let the cancellation go on
        if not task.cancelled():
            task.exception()  # retrieved; the consumer has left
        if interrupted is not None:
            raise interrupted


def same_loop(task: asyncio.Task[Any]) -> None:
    """Refuse to wait for a task of another loop than the one that runs: it may be that nobody runs that one any more."""
    if task.get_loop() is not asyncio.get_running_loop():
        raise RuntimeError(
            "what was begun on one event loop is taken on another one; take it, and close it, where it was begun"
        )


async def _drive(split: Awaitable[Any]) -> None:
    try:
        await split
    except JoinError:
        pass  # branches have failed: each was handed over like any other
