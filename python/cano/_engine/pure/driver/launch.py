"""Starting one attempt, in whichever way its callable wants, with whatever the split keeps of it."""

from __future__ import annotations

import contextvars
from typing import Any

from cano._engine.attempts import ERROR, OK, TaskAttempt, ThreadAttempt, as_coroutine
from cano._engine.contract import COROUTINE, ITEM, ITEM_STORE, STORE, THREAD, Call
from cano._engine.pure.branch import Branch
from cano._engine.pure.rules import retry_policy
from cano._engine.pure.timers import Timer

from .ending import Ending
from .state import Attempt, Own


class Launch(Ending):
    """Begins attempts."""

    def _launch(self, index: int, call: Call, item: Any) -> None:
        """Start an attempt of a branch that holds a permit."""
        attempt = self._attempts.get(index, 1)
        arity = call.arity
        if self.plan.call is not None:
            arguments = (item, self._store) if arity == ITEM_STORE else (item,) if arity == ITEM else ()
        else:
            arguments = (self._store,) if arity == STORE else ()
        policy = self._retry
        if call.own is not None:
            retry, limit = call.own
            policy = retry_policy(retry)
            self._own[index] = Own(retry, policy, limit)
        if policy.kind:
            self._items[index] = (call, item)
        if self._scope.emits("branch_start"):
            self._scope.emit("branch_start", task=self.plan.name, branch=index, attempt=attempt)
        context = self._snapshot.copy()
        if call.kind == THREAD:
            job = ThreadAttempt(self, index, attempt, call.function, arguments, context, self._limit_of(index))
            self._live[index] = job
            self._jobs.append(job)
            self._arm(job, self.now())
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
                self._arm(task_attempt, started)
            return
        branch = Branch(self, index, attempt, coro, context)
        branch.started = started
        self._live[index] = branch
        branch.begin()
        if (self.plan.attempt_timeout is not None or self._own) and not branch.done() and not self.released:
            self._arm(branch, started)

    def _arm(self, attempt: Attempt, started: float) -> None:
        limit = self._limit_of(attempt.index)
        if limit is not None:
            attempt.timer = self.arm(attempt, started + limit)

    def arm(self, attempt: Attempt, due: float) -> Timer:
        """Have an attempt told when its time is up."""
        return self.timers.add(due, attempt.expire, None)
