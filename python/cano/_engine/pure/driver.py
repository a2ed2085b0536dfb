"""Drives one split on the loop's thread: starts branches, reports what became of them to the machine, obeys it.

The mirror of `rust/cano-py/src/split.rs`. All rules of starting and joining are in `SplitMachine`; this file knows
the loop, the clock and the user's objects. What it must get right (docs/design/branches-in-place.md):

- a branch is started in place, from the run's own stack or from a loop callback, never from inside another branch;
- branches that yield bare are resumed together, by a callback scheduled at the end of the turn that produced them;
- a batch, like the start loop, gives the loop its turn after a time slice;
- the decision falls at the deciding completion; losers are cancelled once, and awaited through any number of
  cancellations of the run;
- a KeyboardInterrupt may be raised at any instruction, between any two lines. What leaves through the loop then leaves
  things half done here, and whoever stops the loop cancels the run afterwards, as `asyncio.run` does: so a cancellation
  finds out what still runs from the branches themselves (`_look_again`), and not from counts.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cano._engine import failures
from cano._engine.attempts import CANCELLED, ERROR, OK, TaskAttempt, ThreadAttempt, as_coroutine
from cano._engine.calls import examine_branch
from cano._engine.contract import COROUTINE, ITEM, ITEM_STORE, STORE, THREAD, Call, SplitPlan
from cano._engine.feed import Source, feed, open_source
from cano._engine.losers import LOSER_PATIENCE, report_losers, warn_of_losers
from cano._engine.scope import Scope
from cano._engine.threads import discard, pool
from cano.results import ListColumns, SplitResult

from .branch import Branch
from .join import ASK
from .rules import join_rule, retry_policy
from .split import FAILED, PROCEEDED, STOPPED, SplitMachine
from .timers import SLICE, STEPS, Timer, Timers

if TYPE_CHECKING:
    from cano._engine.outbox import Outbox

# Eager starts nest on the C stack when branches split again; beyond this depth a split starts from a loop callback.
DEPTH_LIMIT = 40

Attempt = Branch | ThreadAttempt | TaskAttempt


class _Depth(threading.local):
    """How many start loops are on this thread's stack; every thread may have a loop of its own."""

    now = 0


_depth = _Depth()


class SplitDriver:
    """One split of one run."""

    def __init__(
        self,
        plan: SplitPlan,
        store: Any,
        scope: Scope,
        outbox: Outbox | None = None,
    ) -> None:
        self.plan = plan
        self.loop = loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = loop.time
        self.timers = Timers(loop, self.end_turn)
        self.batch: list[Branch] = []  # yielded bare in this turn
        self._backlog: deque[Branch] = deque()  # yielded bare before, and not resumed within a slice
        self._store = store
        self._scope = scope
        self._join = plan.join
        self._retry = retry_policy(plan.retry)
        self._entered = self.now()
        self._snapshot = contextvars.copy_context()
        self._real_tasks = scope.introspect or loop.get_task_factory() is not None
        self._outbox = outbox
        self._source = Source()
        self._feeder: asyncio.Task[None] | None = None
        self._room: asyncio.Future[bool] | None = None
        self._machine: SplitMachine
        self._opened = False
        self._released = False  # what was live at the end was told so
        # Attempts that are suspended or on a thread, by branch index: the strong references that keep them alive.
        self._live: dict[int, Attempt] = {}
        self._items: dict[int, tuple[Call, Any]] = {}  # of branches that back off or wait for a permit again
        self._attempts: dict[int, int] = {}  # only of branches that needed more than one
        self._begun: dict[int, float] = {}  # likewise
        self._values: list[Any] = []
        self._errors: dict[int, BaseException] = {}
        self._durations: list[float] = []
        self._pumping = False
        self._pump_scheduled = False
        self._jobs: list[Callable[[], None]] = []
        self._landed: deque[ThreadAttempt] = deque()
        self._landing = False
        self._hedge: Timer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._cancelled: asyncio.CancelledError | None = None
        self._fatal: BaseException | None = None
        self._fatal_raised = False
        self._failure: BaseException | None = None
        self._timed_out = False
        self._loser_errors: list[tuple[int, BaseException]] = []
        self._closed = False

    # --- the life of a split --------------------------------------------------------------------------------------

    async def run(self) -> SplitResult[Any]:
        """Run the split to its end.

        Returns:
            What came of the branches, when the join proceeds.

        Raises:
            JoinError, SplitTimeoutError: The join failed.
            TaskError: The source or the custom strategy failed.
            asyncio.CancelledError: The run was cancelled; every branch has ended by then.
        """
        awaited_by: Any = asyncio.current_task()
        if type(awaited_by) is Branch:
            awaited_by.inner = self
        while True:
            try:
                await self._settle()
                break
            except KeyboardInterrupt as error:  # in `_settle` itself, between its handlers
                if not self._opened:
                    raise
                self._fatal = self._fatal or error
        if type(awaited_by) is Branch:
            awaited_by.inner = None
        return self._finish()

    async def _settle(self) -> None:
        """Open the split, and wait until everything of it has ended."""
        while True:
            try:
                if not self._opened:
                    self._open()
                if self._cancelled is not None or self._fatal is not None:
                    self._stop()
                    self._look_again()
                while not self._settled():
                    self._waiter = self.loop.create_future()
                    await self._waiter
                return
            except asyncio.CancelledError as error:
                if not self._opened:
                    raise
                if self._cancelled is None:
                    self._cancelled = error
            except (KeyboardInterrupt, SystemExit) as error:
                if not self._opened:
                    raise
                self._fatal = self._fatal or error
            except BaseException:  # GeneratorExit: the caller was dropped, nobody will wait
                if not self._opened:
                    raise
                if self.loop.is_closed():  # nothing can be cancelled on it: coroutines are closed as they are dropped
                    self._live.clear()
                    raise
                self._cancelled = self._cancelled or asyncio.CancelledError()
                self._stop()
                with suppress(BaseException):
                    self._finish()
                raise
            finally:
                self._waiter = None

    def _open(self) -> None:
        plan, join, scope = self.plan, self._join, self._scope
        try:
            self._source = open_source(plan, self._store)
        except Exception as error:
            self._failure = failures.source_failed(error, state=scope.state, task=plan.name, path=scope.path())
            self._source.total = 0
        total = self._source.total
        self._machine = machine = SplitMachine(join_rule(join), total, join.bulkhead, join.hedge_delay is not None)
        if scope.emits("split_start"):
            scope.emit("split_start", task=plan.name, value=total)
        self._opened = True
        if self._failure is not None:
            machine.stop()
            return
        if join.timeout is not None:
            self.timers.add(self._entered + join.timeout, self._deadline, None)
        if self._outbox is not None:
            self._outbox.resume = self.end_turn
        verdict = machine.opening()
        if verdict:
            self._verdict(verdict)
            return
        if self._source.pending is not None:
            self._feeder = self.loop.create_task(feed(self, self._source.pending))
            self._feeder.add_done_callback(self._fed)
            return
        # In the caller's stack a branch would see the exception the caller is handling.
        if _depth.now >= DEPTH_LIMIT or sys.exception() is not None:
            self._schedule_pump()
        else:
            self.end_turn()

    def _settled(self) -> bool:
        return self._machine.is_decided() and not self._live and (self._feeder is None or self._feeder.done())

    def _look_again(self) -> None:
        """See to it that all that still runs goes on, after a KeyboardInterrupt may have lost anything but the references to it.

        Called from the run's own stack, where nobody else is at work in here.
        """
        self._pumping = self._pump_scheduled = False
        if not self._live:
            return
        self.timers.rearm()
        self._schedule_batch()
        queued = {id(branch) for branch in self._backlog}
        if queued:
            self.loop.call_soon(self._work_off)
        for index, attempt in list(self._live.items()):
            if isinstance(attempt, Branch) and attempt.done():
                self._live.pop(index, None)
                self._lost(index, CANCELLED, None)
            elif id(attempt) not in queued:
                attempt.look_again()
                if isinstance(attempt, Branch) and attempt.inner is not None:
                    attempt.inner._look_again()

    def _finish(self) -> SplitResult[Any]:
        """Everything has ended: close, tell, and answer."""
        scope, plan, machine = self._scope, self.plan, self._machine
        self._close()
        result = self.result()
        if self._loser_errors:
            report_losers(scope, plan.name, self._loser_errors)
            self._loser_errors = []
        error: BaseException | None
        if self._fatal is not None:
            # Raised once: what has left through the loop already ends the run as a cancelled one.
            error = self._cancelled or asyncio.CancelledError() if self._fatal_raised else self._fatal
        elif self._cancelled is not None:
            error = self._cancelled
        elif self._failure is not None:
            error = self._failure
        elif self._timed_out and machine.phase != PROCEEDED:
            limit = self._join.timeout or 0.0
            error = failures.split_timed_out(result, limit, state=scope.state, task=plan.name, path=scope.path())
            if scope.emits("timeout"):
                scope.emit("timeout", task=plan.name, value=limit)
        elif machine.phase == PROCEEDED or self._outbox is not None:
            error = None  # to whom results are handed one by one, no verdict matters
        else:
            error = failures.join_failed(
                result, self._join.strategy, state=scope.state, task=plan.name, path=scope.path()
            )
        if self._join.store_partial_results and self._cancelled is None:
            self._store.put("split_results", result)
        if scope.emits("join"):
            scope.emit("join", task=plan.name, value=result, error=error)
        try:
            if error is not None:
                raise error
            return result
        finally:
            # The traceback of what is raised holds this frame: let go of everything it does not need. That of a branch
            # may hold this driver, and must not keep the other branches' values alive.
            error = self._fatal = self._cancelled = self._failure = None
            self._values, self._errors = [], {}

    def _close(self) -> None:
        self._closed = True
        self.timers.close()
        if not self._live:
            self.timers.let_go()
        self._items.clear()
        if self._outbox is not None:
            self._outbox.resume = None
        close, self._source = self._source.close, Source()
        if close is not None:
            try:
                close()
            except Exception as error:
                self._loser_errors.append((-1, error))

    def result(self) -> SplitResult[Any]:
        """Return the result as it stands; complete once the split has settled."""
        machine = self._machine
        total = machine.total
        return SplitResult(
            ListColumns(
                machine.drawn if total is None else total,
                self._values if self._outbox is None else _Taken(),
                machine.ok_order,
                machine.bad_order,
                self._errors if self._outbox is None else _Taken(),
                self._attempts,
                self._durations,
            )
        )

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done() and self._settled():
            waiter.set_result(None)

    # --- starting -------------------------------------------------------------------------------------------------

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
            self.loop.call_soon(self._run_batch, batch)

    def _schedule_pump(self) -> None:
        assert not self._pump_scheduled  # the start loop waits for the one there is
        self._pump_scheduled = True
        self.loop.call_soon(self._pump_later)

    def _pump_later(self) -> None:
        self._pump_scheduled = False
        self.end_turn()

    def _pump(self) -> None:
        """Start what the machine lets start, for at most a time slice."""
        machine, outbox, now = self._machine, self._outbox, self.now
        slice_end = now() + SLICE
        steps = 0
        self._pumping = True
        depth = _depth.now
        _depth.now = depth + 1
        try:
            while True:
                index = machine.next_again()
                if index >= 0:
                    call, item = self._items.pop(index)
                elif self._source.iterator is None or (outbox is not None and not outbox.room()):
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
                        call = self.plan.call or examine_branch(item, self.plan.inline)
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
            _depth.now = depth
            self._submit()

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

    def _fresh(self, index: int) -> None:
        """A branch comes into being."""
        if self._outbox is None:
            self._values.append(None)
            self._durations.append(0.0)
        if self._join.hedge_delay is not None:
            assert self._hedge is None  # it has fired, or the failure of the branch before has taken it away
            self._hedge = self.timers.add(self.now() + self._join.hedge_delay, self._hedge_due, None)

    def _launch(self, index: int, call: Call, item: Any) -> None:
        """Start an attempt of a branch that holds a permit."""
        attempt = self._attempts.get(index, 1)
        arity = call.arity
        if self.plan.call is not None:
            arguments = (item, self._store) if arity == ITEM_STORE else (item,) if arity == ITEM else ()
        else:
            arguments = (self._store,) if arity == STORE else ()
        if self._retry.kind:
            self._items[index] = (call, item)
        if self._scope.emits("branch_start"):
            self._scope.emit("branch_start", task=self.plan.name, branch=index, attempt=attempt)
        context = self._snapshot.copy()
        if call.kind == THREAD:
            job = ThreadAttempt(self, index, attempt, call.function, arguments, context)
            self._live[index] = job
            self._jobs.append(job)
            self._arm(job)
            return
        started = self.now()
        try:
            if call.kind == COROUTINE:
                outcome = call.function(*arguments)
            else:
                outcome = context.run(call.function, *arguments)
        except (KeyboardInterrupt, SystemExit) as error:
            self._ended(index, attempt, started, ERROR, None, error, None)
            return
        except BaseException as error:
            self._ended(index, attempt, started, ERROR, None, error, None)
            return
        if call.kind == COROUTINE or hasattr(outcome, "__await__"):
            self._begin(index, attempt, outcome, context, started)
        else:
            self._ended(index, attempt, started, OK, outcome, None, None)

    def _begin(self, index: int, attempt: int, awaitable: Any, context: contextvars.Context, started: float) -> None:
        """Take the first step of an asynchronous attempt."""
        if not hasattr(awaitable, "__await__"):
            # Declared a coroutine function, but what came is a plain value: then that is the output.
            self._ended(index, attempt, started, OK, awaitable, None, None)
            return
        coro = as_coroutine(awaitable)
        if self._real_tasks:
            task_attempt = TaskAttempt(self, index, attempt, started)
            self._live[index] = task_attempt
            task_attempt.begin(coro, context)
            if index in self._live:
                self._arm(task_attempt)
            return
        branch = Branch(self, index, attempt, coro, context)
        branch.started = started
        self._live[index] = branch
        branch.begin()
        if self.plan.attempt_timeout is not None and not branch.done() and not branch.released:
            self._arm(branch)

    def _arm(self, attempt: Attempt) -> None:
        limit = self.plan.attempt_timeout
        if limit is not None:
            attempt.timer = self.arm(attempt, self.now() + limit)

    def arm(self, attempt: Attempt, due: float) -> Timer:
        """Have an attempt told when its time is up."""
        return self.timers.add(due, attempt.expire, None)

    def cancel_timer(self, timer: Timer) -> None:
        """Forget a timer."""
        self.timers.cancel(timer)

    # --- what may come from outside -------------------------------------------------------------------------------

    def _run_batch(self, batch: list[Branch]) -> None:
        """It is the turn of branches that yielded bare: resume them, behind those whose turn it was before."""
        waiting = bool(self._backlog)
        self._backlog.extend(batch)
        if not waiting:
            self._work_off()

    def _work_off(self) -> None:
        """Resume the branches whose turn it is, in order, for at most a time slice in one turn of the loop."""
        slice_end = self.now() + SLICE
        backlog = self._backlog
        try:
            while backlog:
                backlog.popleft().resume()
                if self.now() >= slice_end:
                    break
        finally:
            # What is left goes before what yielded meanwhile; also when a KeyboardInterrupt got us out of the loop.
            if backlog:
                self.loop.call_soon(self._work_off)
            self.end_turn()

    def _deadline(self, _: None) -> None:
        machine = self._machine
        if not machine.is_decided():
            # At its deadline PartialTimeout decides like at any other moment; the others have run out of time.
            self._timed_out = self._join.strategy.kind != "partial_timeout"
            self._verdict(machine.deadline())

    def _hedge_due(self, _: None) -> None:
        self._hedge = None
        if not self._machine.is_decided():
            self._machine.hedge_due()

    def _retry_due(self, index: int) -> None:
        if not self._machine.is_decided():
            self._machine.retry_due(index)

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
        slice_end = self.now() + SLICE
        while landed:
            attempt = landed.popleft()
            if attempt.released or attempt.over:
                discard(attempt.outcome)
                continue
            attempt.over = True
            if attempt.timer is not None:
                self.timers.cancel(attempt.timer)
            self._live.pop(attempt.index, None)
            started = attempt.started
            if attempt.error is None and hasattr(attempt.outcome, "__await__"):
                self._begin(attempt.index, attempt.attempt, attempt.outcome, attempt.context, started)
            else:
                outcome = OK if attempt.error is None else ERROR
                self._ended(
                    attempt.index, attempt.attempt, started, outcome, attempt.outcome, attempt.error, attempt.ended
                )
            if landed and self.now() >= slice_end:
                self._landing = True
                self.loop.call_soon(self._drain)
                break
        self.end_turn()

    # --- what `feed` needs ----------------------------------------------------------------------------------------

    async def room(self) -> bool:
        """Wait until a fresh branch may start; false when the split is decided."""
        if self._machine.is_decided():
            return False
        if self._has_room():
            return True
        room: asyncio.Future[bool] = self.loop.create_future()
        self._room = room
        return await room

    def _has_room(self) -> bool:
        """Whether a fresh branch may start: retries that are due go first."""
        machine = self._machine
        return machine.may_start() and not machine.has_retries_due() and (self._outbox is None or self._outbox.room())

    def offer(self, item: Any) -> bool:
        """Start a branch on an item drawn by `feed`; false when nothing may start now."""
        index = self._machine.next_start()
        if index < 0:
            return False
        self._fresh(index)
        try:
            call = self.plan.call or examine_branch(item, self.plan.inline)
        except Exception as error:
            self._ended(index, 1, self._entered, ERROR, None, error, None)
        else:
            self._launch(index, call, item)
            self._submit()
        self.end_turn()
        return True

    def known(self, total: int) -> None:
        """The source turned out to have a length."""
        if not self._machine.is_decided():
            self._verdict(self._machine.sized(total))

    def _fed(self, feeder: asyncio.Task[None]) -> None:
        machine = self._machine
        if feeder.cancelled():
            if not machine.is_decided():
                self._source_failed(asyncio.CancelledError())
        else:
            error = feeder.exception()
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._fatal, self._fatal_raised = error, True  # its task has raised it through the loop
            if not machine.is_decided():
                if error is not None:
                    self._source_failed(error)
                else:
                    self._verdict(machine.source_ended())
            elif error is not None and self._fatal is not error:
                self._loser_errors.append((-1, error))
        self.end_turn()

    # --- what becomes of attempts ---------------------------------------------------------------------------------

    def attempt_ended(self, attempt: Attempt, outcome: int, result: Any, error: BaseException | None) -> None:
        """Take in that an asynchronous attempt has ended."""
        index = attempt.index
        if self._live.get(index) is not attempt:  # `_look_again` was faster
            return
        del self._live[index]
        if self._machine.is_decided():
            self._lost(index, outcome, error)
            return
        if outcome == CANCELLED:
            scope = self._scope
            outcome = ERROR
            if attempt.timed_out:
                limit = self.plan.attempt_timeout or 0.0
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
        if outcome == ERROR:
            assert error is not None
            if self._retry.kind:
                error, delay = self._another(error, attempt, now - started)
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
            if self._outbox is None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
                try:
                    failures.note_branch(error, index)
                except BaseException as raised:  # a signal meanwhile
                    error = raised
            if isinstance(error, (KeyboardInterrupt, SystemExit)):  # the branch's own, or its retry filter's
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
            if self._retry.kind:
                self._items.pop(index, None)
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

    def _another(self, error: BaseException, attempt: int, elapsed: float) -> tuple[BaseException, float | None]:
        """Whether there is another attempt, and after which delay; the user's filter may itself fail."""
        try:
            wanted = self.plan.retry.wants(error)
        except BaseException as broken:
            broken.__context__ = error
            return broken, None
        if not wanted:
            return error, None
        return error, self._retry.delay(attempt, elapsed, self._scope.unit())

    def _lost(self, index: int, outcome: int, error: BaseException | None) -> None:
        """A branch of a decided split has ended."""
        self._machine.dropped(index)
        self._items.pop(index, None)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
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

    def _source_failed(self, error: BaseException) -> None:
        scope = self._scope
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._fatal = error
        else:
            self._failure = failures.source_failed(error, state=scope.state, task=self.plan.name, path=scope.path())
        self._source.iterator = None
        self._stop()

    def _stop(self) -> None:
        """End the split without a decision of the join; once it is decided, there is nothing to stop."""
        if not self._machine.is_decided():
            self._machine.stop()
        if not self._released:
            self._release()

    def _release(self) -> None:
        """Cancel everything that still runs, each once, in index order of its start."""
        self._items.clear()
        if self._feeder is not None and not self._feeder.done():
            self._feeder.cancel()  # and with it the room that it waits for
        if self._live:
            for attempt in list(self._live.values()):
                attempt.release()
            if self._live:
                self.timers.add(self.now() + LOSER_PATIENCE, self._still_running, None)
        self._released = True
        self._wake()

    def _still_running(self, _: None) -> None:
        if self._live:
            warn_of_losers(self._scope, self.plan.name, list(self._live))

    def raises_fatal(self) -> bool:
        """Whether a KeyboardInterrupt or SystemExit of a branch must leave through the loop now, as from a Task.

        Not while the start loop is in the run's own stack: there the run itself raises it, after clean-up.
        """
        if self._pumping:
            return False
        self._fatal_raised = True
        return True


class _Taken(dict[int, Any]):
    """The values of a split whose results were handed over one by one: it keeps none of them."""

    def __missing__(self, index: int) -> None:
        return None


__all__ = ["FAILED", "SplitDriver"]
