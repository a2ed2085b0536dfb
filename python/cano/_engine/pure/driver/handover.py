"""What goes to worker threads, and what comes back from them."""

from __future__ import annotations

from collections.abc import Callable

from cano._engine import failures
from cano._engine.attempts import ERROR, OK, ThreadAttempt
from cano._engine.pure.timers import SLICE
from cano._engine.threads import discard, pool

from .launch import Launch


class Handover(Launch):
    """Hands sync attempts to the pool, and takes them in again."""

    def _submit(self) -> None:
        """Hand the sync attempts of this turn to the worker threads."""
        if not self._jobs:
            return
        jobs, self._jobs = self._jobs, []
        try:
            pool.submit_many(jobs)
        except RuntimeError as error:  # none could be started: the split fails, once what runs has ended
            scope = self._scope
            self._failure = failures.task_failed(
                error, state=scope.state, task=self.plan.name, attempts=1, retried=False, path=scope.path()
            )
            self._stop()

    def landed(self, attempt: ThreadAttempt) -> Callable[[], None] | None:
        """Take in, on a worker thread, that a sync attempt has ended; one wake-up serves all that land meanwhile.

        What comes back, the loop is to be woken with.
        """
        self._landed.append(attempt)
        if self._landing:
            return None
        self._landing = True
        return self._drain

    def _drain(self) -> None:
        self._landing = False
        landed = self._landed
        try:
            slice_end = self.now() + SLICE
            while landed:
                self._take_landed(landed.popleft())
                if landed and self.now() >= slice_end:
                    break
        finally:
            if landed:
                self._landing = True
                self.loop.call_soon(self._drain)
            self.end_turn()

    def _take_landed(self, attempt: ThreadAttempt) -> None:
        if self.released or attempt.over:
            discard(attempt.outcome)
            return
        attempt.over = True
        if attempt.timer is not None:
            self.timers.cancel(attempt.timer)
        self._live.pop(attempt.index, None)
        started = attempt.started if attempt.begun else attempt.ended  # no look at a clock that raises
        if attempt.error is None and hasattr(attempt.outcome, "__await__"):
            self._begin(attempt.index, attempt.attempt, attempt.outcome, attempt.context, started)
        else:
            outcome = OK if attempt.error is None else ERROR
            self._ended(attempt.index, attempt.attempt, started, outcome, attempt.outcome, attempt.error, attempt.ended)
