"""`execute` and `stream` are observers: what they need of a run they learn from its events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from ._engine.outbox import same_loop
from .observe import KINDS, RunEvent
from .results import RunReport, SplitResult, StateVisit

S = TypeVar("S")


class Recorder(Generic[S]):
    """Collects what a `RunReport` tells."""

    def __init__(self) -> None:
        self._path: list[S] = []
        self._visits: list[StateVisit[S]] = []
        self._splits: list[SplitResult[Any]] = []
        self._elapsed = 0.0

    def on_state_enter(self, event: RunEvent) -> None:
        """Add a state to the path."""
        self._path.append(event.state)

    def on_state_exit(self, event: RunEvent) -> None:
        """Add a visit, with its duration and attempts."""
        self._visits.append(StateVisit(event.state, max(0.0, event.value), event.attempt or 0))

    def on_join(self, event: RunEvent) -> None:
        """Add what a split came to."""
        self._splits.append(event.value)

    def on_workflow_end(self, event: RunEvent) -> None:
        """Note how long the run took."""
        self._elapsed = max(0.0, event.at)  # a clock may run backwards

    def report(self, state: S) -> RunReport[S]:
        """Return the report of a run that reached an exit state."""
        visits = (*self._visits, StateVisit(state, 0.0, 0))
        return RunReport(state, self._path, self._elapsed, visits, self._splits)


class EventQueue:
    """Runs a workflow in a task and hands its events over as they happen.

    Nothing is dropped: a consumer that is slower than the run finds the events waiting.
    """

    def __init__(self, start: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        self._events: deque[RunEvent] = deque()
        self._taker: asyncio.Future[None] | None = None
        self._start = start
        self._arguments = arguments
        self._task: asyncio.Task[Any] | None = None

    def _put(self, event: RunEvent) -> None:
        self._events.append(event)
        self._wake()

    def _wake(self, _: object = None) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    async def _run(self) -> None:
        await self._start(*self._arguments, self)

    async def take(self) -> RunEvent | None:
        """Wait for the next event; `None` after the last. Raises what the run raised."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._wake)
        same_loop(self._task)
        while not self._events:
            if self._task.done():
                self._task.result()
                return None
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        return self._events.popleft()

    async def close(self) -> None:
        """Cancel the run if it has not ended, and wait for it."""
        task = self._task
        if task is None:
            return
        same_loop(task)
        interrupted: asyncio.CancelledError | None = None
        if not task.done():
            task.cancel()
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                interrupted = error
        if not task.cancelled():
            task.exception()  # retrieved: whoever left the stream does not want it
        if interrupted is not None:
            raise interrupted


for _kind in KINDS:
    setattr(EventQueue, f"on_{_kind}", EventQueue._put)
