"""Looking again: what a KeyboardInterrupt has lost anywhere in the loop or in here, a cancelled run makes up for."""

from __future__ import annotations

from collections import deque

from cano._engine.attempts import CANCELLED
from cano._engine.pure.branch import Branch

from .turn import Turn

# How many attempts are looked at in a turn of the loop.
LOOKS = 1000


class Lost(Turn):
    """Finds out from the attempts themselves what still runs, and sees to it that it goes on."""

    def look_again(self) -> None:
        """See to it that all that still runs goes on, after a KeyboardInterrupt may have lost anything but the references to it.

        Called from the run's own stack, where nobody else is at work in here.
        """
        self._pumping = self._pump_scheduled = self._slice_due = False
        if not self._live:
            return
        self.timers.rearm()
        self._schedule_batch()
        self._schedule_release()
        if self._backlog:
            self.loop.call_soon(self._work_off, self._begins_slice())
        if self._looks:  # unless that has been lost, too
            self._looks_again = True
            self.loop.call_soon(self._look_at_some, len(self._looks))
        else:
            self._look_at_all()

    def _look_at_all(self) -> None:
        self._looks_again = False
        self._looks = deque(self._live.values())
        self._look_at_some(len(self._looks))

    def _look_at_some(self, left: int) -> None:
        """Look at the next of them; unless others than `left` are left: then somebody else has been here since."""
        looks = self._looks
        if len(looks) != left:
            return
        for _ in range(min(left, LOOKS)):
            attempt = looks.popleft()
            if self._live.get(attempt.index) is not attempt:
                continue  # it has ended meanwhile
            if isinstance(attempt, Branch) and attempt.done():
                del self._live[attempt.index]
                self._lost(attempt.index, CANCELLED, None)
                continue
            attempt.look_again()
            if isinstance(attempt, Branch) and attempt.inner is not None:
                attempt.inner.look_again()
        if looks:
            self.loop.call_soon(self._look_at_some, len(looks))
        else:
            self._look_once_more()

    def _look_once_more(self) -> None:
        if self._looks_again and not self._looks and not self._backlog:
            self.loop.call_soon(self._look_at_all)

    def turns_are_due(self) -> bool:
        """Whether branches wait for their turn, the one that asks perhaps among them; afterwards all are looked at again."""
        self._looks_again = self._looks_again or bool(self._backlog)
        return bool(self._backlog)
