"""What `as_completed` comes to in simulated time: the split, and whoever takes its rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tests.properties.timed_model import SplitModel, in_order

if TYPE_CHECKING:
    from tests.properties.timed_splits import TimedSplit


class StreamModel(SplitModel):
    """A split whose rows are taken one by one, by someone who is slow, and may leave."""

    def __init__(self, split: TimedSplit) -> None:
        super().__init__(split)
        self.buffer = split.buffer or split.bulkhead or math.inf
        self.early: dict[int, tuple[Any, ...]] = {}  # rows that wait for those before them, where order is asked for
        self.ready: list[tuple[Any, ...]] = []
        self.next = 0
        self.taken: list[tuple[Any, ...]] = []
        self.busy = False
        self.gone = False

    def is_over(self) -> bool:
        rows_left = self.busy or self.ready or self.early
        return super().is_over() and (self.gone or not rows_left)

    def at_once(self) -> None:
        """Whoever takes the rows takes what there is, until that takes time; each makes room, also the last before leaving."""
        while not self.busy and not self.gone:
            if not self.ready and super().is_over():
                self.release_the_rest()
            if not self.ready:
                return
            self.taken.append((self.clock.now, *self.ready.pop(0)))
            self.fill()
            slow = self.split.slow[len(self.taken) - 1]
            if self.split.leaves == len(self.taken):
                self.leave("left")
            elif slow:
                self.busy = True
                self.clock.after(slow, self.goes_on)

    def outcome(self) -> tuple[Any, ...]:
        return self.verdict, in_order(self.log), self.clock.now, self.taken

    def has_room_for_fresh(self) -> bool:
        """Rows that nobody has taken hold new branches up; so do those that will come of a retry."""
        waiting = len(self.ready) + len(self.early)
        full = waiting + len(self.retrying) >= self.buffer
        if full and waiting:
            self.reached.add("buffer is full")
        return not full

    def judge(self) -> None:
        """The stream ends with its last branch, whatever came of it."""
        if not self.verdict and len(self.ok) + len(self.bad) == self.total:
            self.decide("proceeds")

    def settled(self, index: int, error: str | None) -> None:
        super().settled(index, error)
        row = self.rows[-1]
        if self.split.ordered:
            self.early[index] = row
            self.release()
        else:
            self.ready.append(row)

    def release(self) -> None:
        while self.next in self.early:
            self.ready.append(self.early.pop(self.next))
            self.next += 1
        if self.early:
            self.reached.add("a row waits for those before it")

    def release_the_rest(self) -> None:
        """All has ended, and some of what the rows waited for never will."""
        while self.early:
            self.reached.add("rows after one that never ended")
            self.next = min(self.early)
            self.release()

    def goes_on(self) -> None:
        self.busy = False

    def leave(self, verdict: str) -> None:
        self.gone = True
        self.reached.add(f"{verdict}, {'decided' if self.verdict else 'undecided'}")
        if self.verdict:
            self.verdict = verdict
        else:
            self.decide(verdict)

    def stopped(self, who: str) -> None:
        """Whoever takes the rows is cancelled."""
        self.leave(f"stopped by the {who}")
