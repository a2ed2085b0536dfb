"""What becomes of attempts, and how a split is decided."""

from __future__ import annotations

from collections import deque
from typing import Any

from cano._engine import failures
from cano._engine.attempts import CANCELLED, ERROR, FATAL
from cano._engine.losers import LOSER_PATIENCE, not_cancelled, warn_of_losers
from cano._engine.pure.join import ASK
from cano._engine.pure.split import STOPPED
from cano._engine.pure.timers import CANCELS

from .state import Attempt, Own, State


class Ending(State):
    """Takes in what has ended, and obeys the verdict."""

    # --- what becomes of attempts ---------------------------------------------------------------------------------

    def attempt_ended(self, attempt: Attempt, outcome: int, result: Any, error: BaseException | None) -> None:
        """Take in that an asynchronous attempt has ended."""
        index = attempt.index
        if self._live.get(index) is not attempt:  # `look_again` was faster
            return
        del self._live[index]
        if self._machine.is_decided():
            self._lost(index, outcome, error)
            return
        if outcome == CANCELLED:
            scope = self._scope
            outcome = ERROR
            if attempt.timed_out:
                limit = self._limit_of(index) or 0.0
                error = failures.attempt_timed_out(
                    limit, state=scope.state, task=self.plan.name, attempt=attempt.attempt, cause=error
                )
                if scope.emits("timeout"):
                    scope.emit("timeout", task=self.plan.name, branch=index, attempt=attempt.attempt, value=limit)
            else:
                error = failures.branch_cancelled(error, state=scope.state, task=self.plan.name)
        self._ended(index, attempt.attempt, attempt.started, outcome, result, error, None)

    def _ended(
        self,
        index: int,
        attempt: int,
        started: float,
        outcome: int,
        result: Any,
        error: BaseException | None,
        ended: float | None,
    ) -> None:
        """Take in the end of an attempt of an undecided split: retry it, or report it to the machine."""
        machine, scope = self._machine, self._scope
        now = self.now() if ended is None else ended
        started = self._begun.get(index, started)
        policy = self._retry
        own = self._own.get(index) if self._own else None
        if own is not None:
            policy = own.policy
        if outcome == ERROR:
            assert error is not None
            if policy.kind:
                error, delay = self._another(error, own, attempt, now - started)
                if delay is not None:
                    self._attempts[index] = attempt + 1
                    self._begun[index] = started
                    machine.backing_off(index)
                    if scope.emits("retry"):
                        scope.emit(
                            "retry", task=self.plan.name, branch=index, attempt=attempt, value=delay, error=error
                        )
                    self.timers.add(now + delay, self._retry_due, index)
                    return
                self._items.pop(index, None)
            if own is not None:
                del self._own[index]
            if self._outbox is None and not issubclass(type(error), FATAL):
                try:
                    failures.note_branch(error, index)
                except BaseException as raised:  # a signal meanwhile
                    error = raised
            if issubclass(type(error), FATAL):  # the branch's own, or its retry filter's
                self._fatal = error
                self._stop()
                machine.dropped(index)
                return
            if self._outbox is None:
                self._errors[index] = error
                self._durations[index] = now - started
            else:
                self._outbox.put(index, None, error, attempt, now - started)
            if scope.emits("branch_failure"):
                scope.emit("branch_failure", task=self.plan.name, branch=index, attempt=attempt, error=error)
            if self._hedge is not None and index == machine.drawn - 1:  # the newest: the next one starts for it
                self.timers.cancel(self._hedge)
                self._hedge = None
            verdict = machine.failed(index)
        else:
            if policy.kind:
                self._items.pop(index, None)
            if own is not None:
                del self._own[index]
            if self._outbox is None:
                self._values[index] = result
                self._durations[index] = now - started
            else:
                self._outbox.put(index, result, None, attempt, now - started)
            if scope.emits("branch_success"):
                scope.emit("branch_success", task=self.plan.name, branch=index, attempt=attempt, value=result)
            verdict = machine.succeeded(index)
        if verdict:
            self._verdict(verdict)

    def _another(
        self, error: BaseException, own: Own | None, attempt: int, elapsed: float
    ) -> tuple[BaseException, float | None]:
        """Whether there is another attempt, and after which delay; the user's filter may itself fail."""
        retry, policy = (self.plan.retry, self._retry) if own is None else (own.retry, own.policy)
        try:
            wanted = retry.wants(error)
        except BaseException as broken:
            broken.__context__ = error
            return broken, None
        if not wanted:
            return error, None
        return error, policy.delay(attempt, elapsed, self._scope.unit())

    def _retry_due(self, index: int) -> None:
        if not self._machine.is_decided():
            self._machine.retry_due(index)

    def _lost(self, index: int, outcome: int, error: BaseException | None) -> None:
        """A branch of a decided split has ended."""
        self._machine.dropped(index)
        self._items.pop(index, None)
        self._own.pop(index, None)
        if issubclass(type(error), FATAL):
            self._fatal = self._fatal or error
        elif outcome == ERROR and error is not None:
            self._loser_errors.append((index, error))
        if self._scope.emits("branch_cancelled"):
            self._scope.emit("branch_cancelled", task=self.plan.name, branch=index)
        self._wake()

    # --- deciding -------------------------------------------------------------------------------------------------

    def _verdict(self, verdict: int) -> None:
        """Act on what the machine said."""
        if verdict == ASK:
            verdict = self._ask()
        if self._machine.is_decided():
            self._release()

    def _ask(self) -> int:
        """Ask the user's strategy function."""
        machine, scope = self._machine, self._scope
        try:
            answer, failure = failures.ask_strategy(
                self._join.strategy, machine.join.progress(), self.now() - self._entered
            )
        except (KeyboardInterrupt, SystemExit) as fatal:
            self._fatal = fatal
            machine.stop()
            return STOPPED
        if failure is not None:
            failures.locate(failure, state=scope.state, task=self.plan.name, path=scope.path())
            self._failure = failure
            machine.stop()
            return STOPPED
        return machine.answer(answer)

    def _deadline(self, _: None) -> None:
        machine = self._machine
        if not machine.is_decided():
            # At its deadline PartialTimeout decides like at any other moment; the others have run out of time.
            self._timed_out = self._join.strategy.kind != "partial_timeout"
            self._verdict(machine.deadline())

    def _source_failed(self, error: BaseException) -> None:
        scope = self._scope
        if issubclass(type(error), FATAL):
            self._fatal = error
        else:
            self._failure = failures.source_failed(error, state=scope.state, task=self.plan.name, path=scope.path())
        self._source.iterator = None
        self._stop()

    def _stop(self, *, at_once: bool = False) -> None:
        """End the split without a decision of the join; once it is decided, there is nothing to stop."""
        if not self._machine.is_decided():
            self._machine.stop()
        if self._losers is None or at_once:
            self._release(at_once=at_once)

    def _release(self, *, at_once: bool = False) -> None:
        """Cancel everything that still runs, each once, in the order of their starts: so many in a turn of the loop."""
        self._items.clear()
        if self._feeder is not None and not self._feeder.done():
            self._feeder.cancel()  # and with it the room that it waits for
        self.released = True
        losers = self._losers = deque(self._live.values())
        if losers:
            self._release_some(len(losers), len(losers) if at_once or self._real_tasks else CANCELS)
        self._wake()

    def _release_some(self, left: int, most: int = CANCELS) -> None:
        """Cancel the next of them; unless others than `left` are left: then somebody else has been here since."""
        losers = self._losers
        if losers is None or len(losers) != left:
            return
        try:
            while losers and most > 0:
                most -= 1
                try:
                    losers.popleft().release()
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:  # what one waits for may be anything; a branch is told at its next step
                    not_cancelled(self.loop, self.plan.name, error)
        except (KeyboardInterrupt, SystemExit) as error:
            self._losers = None  # whom it has not reached is not known
            if self._waiter is not None:  # it leaves through the loop, which may go on
                self._fatal, self._fatal_raised = self._fatal or error, True
                self.loop.call_soon(self._stop)
            raise
        finally:
            self._schedule_release()
            if self._losers is losers and not losers and self._live:  # all have been told
                self.timers.add(self.now() + LOSER_PATIENCE, self._still_running, None)

    def _schedule_release(self) -> None:
        if self._losers:
            self.loop.call_soon(self._release_some, len(self._losers))

    def _still_running(self, _: None) -> None:
        if self._live:
            warn_of_losers(self._scope, self.plan.name, list(self._live))
