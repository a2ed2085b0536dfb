"""Turns of the loop: what ends one, what begins one."""

from __future__ import annotations

from cano._engine.pure.branch import Branch
from cano._engine.pure.timers import SLICE

from .feeding import Feeding


class Turn(Feeding):
    """Ends turns, and resumes the branches that yielded bare in them."""

    def end_turn(self) -> None:
        """End a turn of the engine's: start what may start, and schedule the batch of bare yields behind it all."""
        if self._pumping:
            return
        if self._closed:  # the caller is gone; what was cancelled still cleans up
            self._schedule_batch()
            return
        machine = self._machine
        # While the start loop waits for its next slice nobody else starts anything, or slices would add up in a turn.
        if not self._pump_scheduled and machine.may_start():
            self._pump()
            room = self._room
            if room is not None and not room.done() and self._has_room():
                room.set_result(True)
        self._schedule_batch()
        if machine.is_decided():
            self._wake()

    def _schedule_batch(self) -> None:
        if self.batch:
            batch, self.batch = self.batch, []
            self.loop.call_soon(self._run_batch, self._begins_slice(), batch)

    def _begins_slice(self) -> bool:
        """Whether what is about to be scheduled is the first of its turn.

        All that resumes branches in one turn shares one time slice: many small batches would add up.
        """
        begins, self._slice_due = not self._slice_due, True
        return begins

    def _begin_slice(self) -> None:
        self._slice_due = False
        self._slice_end = self.now() + SLICE

    def _run_batch(self, begins: bool, batch: list[Branch]) -> None:
        """It is the turn of branches that yielded bare: resume them, behind those whose turn it was before."""
        waiting = bool(self._backlog)
        self._backlog.extend(batch)
        if not waiting:
            self._work_off(begins)
        elif begins:
            self._begin_slice()

    def _work_off(self, begins: bool) -> None:
        """Resume the branches whose turn it is, in order, until the time slice of this turn of the loop is over."""
        backlog = self._backlog
        try:
            if begins:
                self._begin_slice()
            while backlog:
                backlog.popleft().resume()
                if self.now() >= self._slice_end:
                    break
        finally:
            # What is left goes before what yielded meanwhile; also when a KeyboardInterrupt got us out of the loop, or a clock
            # that raises.
            if backlog:
                self.loop.call_soon(self._work_off, self._begins_slice())
            elif self._looks_again:
                self._look_once_more()
            self.end_turn()
