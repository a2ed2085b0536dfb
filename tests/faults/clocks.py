"""Loops whose clock does what no clock should, for test_clocks.py: it jumps, runs backwards, is coarse, or stands still."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from typing import Any

from cano.testing import VirtualTimeLoop

HOUR = 3600.0
DECADE = 10 * 365.25 * 24 * HOUR
JUMPS = (HOUR, -HOUR, DECADE, -DECADE, -0.001, 0.001, 0.5)


class OddClockLoop(VirtualTimeLoop):
    """Time that passes by itself as on its parent, and jumps besides.

    Args:
        rng: Decides when the clock jumps, and how far; none: never.
        every: On average so many looks at the clock lie between two jumps.
        limit: At most so many jumps; then the clock behaves.
        grain: What the clock shows is a multiple of so many seconds; 0: as fine as it is.
    """

    def __init__(
        self, rng: random.Random | None = None, *, every: int = 20, limit: int = 50, grain: float = 0.0
    ) -> None:
        self.rng = rng
        self.every = every
        self.limit = limit
        self.grain = grain
        self.looks = 0
        self.held_still = False
        self.jumps: list[float] = []
        self.highest: dict[int, float] = {}  # what it has shown at most, for each who watches
        super().__init__(start=2 * DECADE)

    def time(self) -> float:
        """Show the time, after whatever happens to it."""
        self.looks += 1
        rng = self.rng
        if rng is not None and not self.held_still and len(self.jumps) < self.limit and rng.random() * self.every < 1:
            jump = rng.choice(JUMPS)
            self.jumps.append(jump)
            self._virtual += jump
        shown = self._virtual if not self.grain else self._virtual // self.grain * self.grain
        for watcher, highest in self.highest.items():
            self.highest[watcher] = max(highest, shown)
        return shown

    def hold_still(self) -> None:
        """Do not jump before the next turn: who looks twice until then sees the same."""
        self.held_still = True
        self.call_soon(setattr, self, "held_still", False)

    def _set_resolution(self) -> None:
        # So much early asyncio fires its timers; the time is up to 2^35 s here, with microseconds as its last digit.
        self._clock_resolution = 1e-5

    def jump(self, seconds: float) -> None:
        """Move on to the next timer at once: asyncio never waits for more than a day, and ten years have 3,650."""
        timers: list[Any] = getattr(self, "_scheduled", [])
        super().jump(max(seconds, timers[0].when() - self._virtual) if timers else seconds)
        if self.grain:  # into the middle of the next grain, far from where rounding decides
            self._virtual = (self._virtual // self.grain + 1.5) * self.grain


def constant_for(turns: int) -> Callable[[], Any]:
    """A loop whose clock stands still but for a second in so many turns of the loop, however much is to do."""

    class Constant(VirtualTimeLoop):
        turn = 0

        def _run_once(self) -> None:
            self.turn += 1
            if self.turn % turns == 0:
                self._virtual += 1.0
            super()._run_once()  # type: ignore[misc]

        def jump(self, seconds: float) -> None:
            """Time does not pass for being waited for."""

    return Constant


class BrokenClockLoop(VirtualTimeLoop):
    """A loop whose clock raises when it is looked at next, once it is told to; not at a look of asyncio's own."""

    breaks = False
    raised = 0
    on_workers = False  # a look of theirs, instead of the loop's own thread

    def time(self) -> float:
        """Show the time, or raise."""
        if (
            self.breaks
            and (threading.get_ident() != self._thread_id) == self.on_workers  # type: ignore[attr-defined]
            and not sys._getframe(1).f_code.co_filename.endswith("base_events.py")
        ):
            self.breaks = False
            self.raised += 1
            raise OSError
        return super().time()
