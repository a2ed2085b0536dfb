"""Starting branches: the loop that every branch of every split passes through once."""

from __future__ import annotations

import threading

from cano._engine.attempts import ERROR
from cano._engine.calls import examine_branch
from cano._engine.pure.timers import SLICE, STEPS

from .handover import Handover

# Eager starts nest on the C stack when branches split again; beyond this depth a split starts from a loop callback.
DEPTH_LIMIT = 40


class _Depth(threading.local):
    """How many start loops are on this thread's stack; every thread may have a loop of its own."""

    now = 0


DEPTH = _Depth()


class Start(Handover):
    """Starts what the machine lets start."""

    def _pump(self) -> None:
        """Start what the machine lets start, for at most a time slice."""
        machine, outbox, now = self._machine, self._outbox, self.now
        slice_end = now() + SLICE
        steps = 0
        self._pumping = True
        depth = DEPTH.now
        DEPTH.now = depth + 1
        try:
            while True:
                index = machine.next_again()
                if index >= 0:
                    call, item = self._items.pop(index)
                elif self._source.iterator is None or (outbox is not None and not outbox.room(machine.retrying)):
                    break
                else:
                    index = machine.next_start()
                    if index < 0:
                        break
                    try:
                        item = next(self._source.iterator)
                    except StopIteration:
                        machine.withdraw(index)
                        self._source.iterator = None
                        self._verdict(machine.source_ended())
                        break
                    except BaseException as error:
                        machine.withdraw(index)
                        self._source_failed(error)
                        break
                    self._fresh(index)
                    try:
                        call = self.plan.call or examine_branch(item, self.plan)
                    except Exception as error:
                        self._ended(index, 1, self._entered, ERROR, None, error, None)
                        continue
                self._launch(index, call, item)
                steps += 1
                if steps >= STEPS or now() >= slice_end:
                    if machine.may_start():
                        self._schedule_pump()
                    break
        finally:
            self._pumping = False
            DEPTH.now = depth
            self._submit()

    def _schedule_pump(self) -> None:
        assert not self._pump_scheduled  # the start loop waits for the one there is
        self._pump_scheduled = True
        self.loop.call_soon(self._pump_later)

    def _pump_later(self) -> None:
        self._pump_scheduled = False
        self.end_turn()

    def _fresh(self, index: int) -> None:
        """A branch comes into being."""
        if self._outbox is None:
            self._values.append(None)
            self._durations.append(0.0)
        if self._join.hedge_delay is not None:
            assert self._hedge is None  # it has fired, or the failure of the branch before has taken it away
            self._hedge = self.timers.add(self.now() + self._join.hedge_delay, self._hedge_due, None)

    def _hedge_due(self, _: None) -> None:
        self._hedge = None
        if not self._machine.is_decided():
            self._machine.hedge_due()
