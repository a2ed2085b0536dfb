"""The life of a split: opening, being awaited, finishing."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import suppress
from typing import Any

from cano._engine import failures
from cano._engine.feed import Source, feed, open_source
from cano._engine.keeping import keep_result
from cano._engine.losers import report_losers
from cano._engine.pure.branch import Branch
from cano._engine.pure.rules import join_rule
from cano._engine.pure.split import PROCEEDED, SplitMachine
from cano.results import ListColumns, SplitResult

from .lost import Lost
from .start import DEPTH, DEPTH_LIMIT


class SplitDriver(Lost):
    """One split of one run."""

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
        try:
            while True:
                try:
                    await self._settle()
                    break
                except KeyboardInterrupt as error:  # in `_settle` itself, between its handlers
                    if not self._opened:
                        raise
                    self._fatal = self._fatal or error
        except BaseException:
            if not self._opened:  # nothing has begun; but the source may be open
                self._close()
            raise
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
                    self.look_again()
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
                self._stop(at_once=True)
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
        if DEPTH.now >= DEPTH_LIMIT or sys.exception() is not None:
            self._schedule_pump()
        else:
            self.end_turn()

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
            error = keep_result(self._store, result, error, state=scope.state, task=plan.name, path=scope.path())
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
        self._losers = deque()
        self._looks.clear()
        self._items.clear()
        self._own.clear()
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


class _Taken(dict[int, Any]):
    """The values of a split whose results were handed over one by one: it keeps none of them."""

    def __missing__(self, index: int) -> None:
        return None
