"""Limits from outside: a run's timeout, its `CancelToken`, an attempt's timeout. Shared by both engines.

A state's task is awaited in place, in the task of whoever awaits the run; so what ends it is a cancellation of that task, taken
back afterwards. The algorithm is that of `asyncio.timeout` (CPython, `Lib/asyncio/timeouts.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cano.cancel import CancelToken


class Turn:
    """A bare yield: gives the loop its turn."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield None


class Alarm:
    """Cancels the task that awaits the run, and knows afterwards whether a cancellation was its own.

    Attributes:
        fired: What fired it, `"timeout"` or `"token"`; empty while nothing has.
        over: Nothing may fire it any more.
    """

    __slots__ = ("_before", "_loop", "_task", "_timer", "_unsubscribe", "fired", "over")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        task: Any = asyncio.current_task()
        self._task = task
        self._before: int = task.cancelling()
        self._timer: asyncio.TimerHandle | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self.fired = ""
        self.over = False

    def at(self, when: float) -> None:
        """Fire at a moment of the loop's clock."""
        self._timer = self._loop.call_at(when, self.fire, "timeout")

    def watch(self, token: CancelToken) -> None:
        """Fire when a token is set, from whichever thread."""
        loop, fire = self._loop, self.fire

        def hop() -> None:
            try:
                loop.call_soon_threadsafe(fire, "token")
            except RuntimeError:
                pass  # the loop is closed: there is nothing left to cancel

        self._unsubscribe = token._subscribe(hop)

    def fire(self, what: str) -> None:
        """Cancel the run, once."""
        if not self.fired and not self.over:
            self.fired = what
            self._task.cancel()

    def take_back(self) -> bool:
        """Take the cancellation back; whether no other one was asked for meanwhile."""
        return bool(self._task.uncancel() <= self._before)

    def undelivered(self) -> bool:
        """Whether the cancellation has not arrived yet: it would hit whatever the task awaits next.

        So it is where a loop was run inside the loop. If others have asked for one besides, it is theirs, and not to be lost.
        """
        return bool(getattr(self._task, "_must_cancel", False)) and self._task.cancelling() == self._before + 1

    def settle(self) -> bool:
        """What was limited has ended: take back a cancellation of ours, if there was one, and whether there was no other."""
        self.over = True
        return bool(self.fired) and self.take_back()

    async def absorb(self) -> None:
        """What was limited has ended well, though this has fired: the cancellation must not hit the caller's next await."""
        self.over = True
        if self.undelivered():
            try:
                await Turn()
            except asyncio.CancelledError:
                pass
        self.take_back()

    def close(self) -> None:
        """Forget the timer and the token."""
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._unsubscribe is not None:
            self._unsubscribe()
