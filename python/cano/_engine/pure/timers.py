"""A split's own timers: a heap, and one `call_at` of the loop armed for the earliest.

A heap costs about 0.9 microseconds a timer where `loop.call_later` costs 3; and cancelling is a mark, not a search. Marked
entries are swept when they outnumber the living, so that short branches under a long timeout leave nothing behind: a few with
each that is cancelled or added, since a million in one go would keep the loop for half a second.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

# [when, serial, callback or None once cancelled or fired, argument]
Timer = list[Any]

# How long the engine works in one loop callback before others have their turn, in seconds (promised: about 10 ms).
SLICE = 0.0015

# A slice ends after so many starts or transitions, too: a clock may stand still, or run backwards.
STEPS = 10_000

# So many attempts are cancelled in a turn at most, for their time or because the split is decided: that is quick, but what each
# of them waits for then calls it back in the loop's next turn, where nobody counts, and that takes ten times as long.
CANCELS = 128

# How many marked timers are passed over between two looks at the clock.
PASSED = 256

# How many are swept with each that is cancelled or added. More than two: otherwise the marks come faster than they go.
SWEPT = 4


def _nothing() -> None:
    """What timers call after nobody needs them any more."""


class Timers:
    """Timers on the loop's clock; used on the loop's thread only."""

    __slots__ = ("_after", "_armed", "_dead", "_handle", "_heap", "_loop", "_serial", "_swept")

    def __init__(self, loop: asyncio.AbstractEventLoop, after: Callable[[], None]) -> None:
        self._loop = loop
        self._after = after  # called once after the due timers of a turn have run
        self._heap: list[Timer] = []
        self._swept: list[Timer] = []  # the heap that is being swept: its living move to the other, from its end on
        self._serial = 0
        self._dead = 0
        self._handle: asyncio.TimerHandle | None = None
        self._armed = 0.0  # for when: uvloop's handle does not always know

    def add(self, when: float, callback: Callable[[Any], bool | None], argument: Any) -> Timer:
        """Call `callback(argument)` once the loop's clock has reached `when`.

        It returns true if it has cancelled something: of those only so many are called in a turn of the loop.
        """
        self._serial += 1
        timer: Timer = [when, self._serial, callback, argument]
        heap = self._heap
        heapq.heappush(heap, timer)
        if heap[0] is timer:
            self._arm()
        if self._swept:
            self._sweep()
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget a timer; harmless when it has fired."""
        if timer[2] is None:
            return
        timer[2] = timer[3] = None
        self._dead += 1
        if self._swept:
            self._sweep()
        elif self._dead > 64 and self._dead * 2 > len(self._heap):
            self._swept, self._heap = self._heap, []
            self._sweep()

    def _sweep(self) -> None:
        """Sweep some: what is taken off the end of a heap leaves a heap."""
        swept = self._swept
        for _ in range(SWEPT):
            timer = swept[-1]
            if timer[2] is None:
                self._dead -= 1
            else:  # there before it is gone here: a KeyboardInterrupt may come in between
                heapq.heappush(self._heap, timer)
            swept.pop()
            if not swept:
                self._arm()
                return

    def _first(self) -> list[Timer]:
        """Return the heap that has the earliest timer; an empty one if there is none."""
        heap, swept = self._heap, self._swept
        return swept if swept and (not heap or swept[0] < heap[0]) else heap

    def close(self) -> None:
        """Forget all timers."""
        self._heap.clear()
        self._swept.clear()
        self._dead = 0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def rearm(self) -> None:
        """See to it that what is due fires: a KeyboardInterrupt may have lost the handle of the loop's."""
        first = self._first()
        if first and first[0][0] <= self._loop.time():
            # Soon, and beside the handle there may be: one made anew at each turn, as the cancellations of an anyio scope come,
            # would be put off for ever.
            self._loop.call_soon(self._fire_soon)
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._arm()

    def let_go(self) -> None:
        """Forget whom to call after the timers, too: who owns this would be in a cycle with it."""
        self._after = _nothing

    def _arm(self) -> None:
        handle = self._handle
        first = self._first()
        if not first:
            return
        when = first[0][0]
        if handle is not None:
            if self._armed == when:
                return
            handle.cancel()
        self._handle = self._loop.call_at(when, self._fire)
        self._armed = when

    def _fire_soon(self) -> None:
        if self._handle is not None:
            self._handle.cancel()  # what is left gets another
        self._fire()

    def _fire(self) -> None:
        self._handle = None
        try:
            # asyncio fires a handle up to one clock resolution early; then a timer's own moment counts as reached.
            began = self._loop.time()
            now, slice_end = began + 1e-9, began + SLICE
            last = self._serial  # what is added meanwhile has its turn later
            cancelled = passed = 0
            while (heap := self._first()) and heap[0][0] <= now and heap[0][1] <= last:
                timer = heapq.heappop(heap)
                callback, argument = timer[2], timer[3]
                if callback is None:
                    self._dead -= 1
                    passed += 1
                    if passed % PASSED:
                        continue
                else:
                    timer[2] = timer[3] = None
                    if callback(argument):
                        cancelled += 1
                if cancelled == CANCELS or self._loop.time() >= slice_end:
                    break
        finally:
            # What is left is due, and fires in the next turn; also when a BaseException stopped us, or the clock raised.
            self._arm()
            self._after()
