"""Drives one run on the loop's thread: the transition loop. The mirror of `rust/cano-py/src/run.rs`.

A state's task is awaited in place, in the stack and the context of whoever awaits the run: no task, no hop. Limits from
outside (the run's timeout, its `CancelToken`, an attempt's timeout) cancel the asyncio task that awaits the run, as
`asyncio.timeout` does, and afterwards take that cancellation back.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from cano._engine import failures
from cano._engine.alarm import Alarm, Turn
from cano._engine.contract import COROUTINE, STORE, THREAD, Call, Plan, SplitPlan, TaskPlan
from cano._engine.dynamic import split_of
from cano._engine.scope import Scope
from cano._engine.threads import start_in_thread
from cano.errors import ConfigurationError
from cano.steps import TaskResult

from .branch import Pause
from .driver import SplitDriver
from .machine import (
    BACK_OFF,
    EXIT,
    FAIL,
    FAILED_NO_HANDLER,
    FAILED_TOO_MANY_TRANSITIONS,
    FAILED_UNDECLARED,
    SPLIT,
    TASK,
    RunMachine,
    StatePlan,
)
from .machine import Plan as MachinePlan
from .policy import NO_RETRY
from .rules import retry_policy
from .timers import SLICE, STEPS

if TYPE_CHECKING:
    from cano.cancel import CancelToken
    from cano.observe import Dispatcher


def compile_plan(plan: Plan) -> MachinePlan:
    """Return the machine's form of a plan, made once."""
    if plan.compiled is None:
        states = [
            StatePlan(
                state.kind,
                next=state.next,
                join_state=-1 if state.split is None else plan.index_of[state.split.join.join_state],
                retry=NO_RETRY if state.task is None else retry_policy(state.task.retry),
            )
            for state in plan.states
        ]
        plan.compiled = MachinePlan(states, plan.max_transitions)
    return plan.compiled  # type: ignore[no-any-return]


class StoppedError(Exception):
    """A `StopIteration` that a task raised, on its way through coroutines: they would make another error of it."""

    def __init__(self, stop: StopIteration) -> None:
        super().__init__(stop)
        self.stop = stop


class RunDriver:
    """One run of a plan."""

    def __init__(
        self,
        plan: Plan,
        initial: int,
        store: Any,
        timeout: float | None,
        cancel: CancelToken | None,
        dispatcher: Dispatcher | None,
    ) -> None:
        self._plan = plan
        self._initial = initial
        self._store = store
        self._timeout = timeout
        self._cancel = cancel
        self._dispatcher = dispatcher
        self._machine = RunMachine(compile_plan(plan))
        self._slice_end = 0.0
        self._steps = 0  # transitions in this slice
        self._alarm: Alarm | None = None
        self._entered = 0.0
        self._closed = False

    def __await__(self) -> Generator[Any, Any, Any]:
        """Step the run, noting when it is resumed: a slice is counted from there."""
        coro: Any = self._run()
        error: BaseException | None = None
        while True:
            try:
                while True:
                    try:
                        yielded = coro.send(None) if error is None else coro.throw(error)
                    finally:
                        error = None
                    try:
                        yield yielded
                    except GeneratorExit:
                        self._closed = True
                        coro.close()
                        raise
                    except BaseException as thrown:
                        error = thrown
                    self._slice_end = self._now() + SLICE
                    self._steps = 0
            except StopIteration as stop:
                return stop.value
            except KeyboardInterrupt as interrupt:
                if not coro.cr_suspended:
                    raise
                error = interrupt  # raised right here, while the run was suspended: it is to end by it

    def path(self) -> tuple[Any, ...]:
        """Return the states entered so far (the last 1,000)."""
        states = self._plan.states
        return tuple(states[index].state for index in self._machine.path)

    def _emit(self, kind: str, **facts: Any) -> None:
        assert self._dispatcher is not None
        self._dispatcher.emit(kind, at=self._now() - self._began, **facts)

    # --- the frame of a run ---------------------------------------------------------------------------------------

    async def _run(self) -> Any:
        loop = self._loop = asyncio.get_running_loop()
        self._now = loop.time
        self._began = self._now()
        self._slice_end = self._began + SLICE
        self._wants = wants = frozenset() if self._dispatcher is None else self._dispatcher.wants
        states = self._plan.states
        if "workflow_start" in wants:
            self._emit("workflow_start", value=states[self._initial].state)
        error: BaseException | None = None
        state: Any = None
        try:
            if self._timeout is None and self._cancel is None:
                state = states[await self._walk()].state
            else:
                state = states[await self._limited()].state
            return state
        except BaseException as raised:
            error = GeneratorExit() if self._closed else raised
            if issubclass(type(raised), asyncio.CancelledError) and "cancelled" in wants:
                message = raised.args[0] if raised.args else None
                self._emit("cancelled", state=self._state(), value=message)
            raise
        finally:
            if "workflow_end" in wants:
                self._emit("workflow_end", value=state, error=error)
            error = None

    def _state(self) -> Any:
        index = self._machine.state
        return None if index < 0 else self._plan.states[index].state

    async def _limited(self) -> int:
        """Walk under the run's timeout and token."""
        timeout, token = self._timeout, self._cancel
        if token is not None and token.cancelled:
            raise self._token_error()
        alarm = self._alarm = Alarm(self._loop)
        if timeout is not None:
            alarm.at(self._began + timeout)
        if token is not None:
            alarm.watch(token)
        try:
            state = await self._walk()
            if alarm.fired:
                await alarm.absorb()
            return state
        except asyncio.CancelledError as error:
            if alarm.settle():
                raise (self._timeout_error() if alarm.fired == "timeout" else self._token_error()) from error
            raise
        except BaseException:
            alarm.settle()
            raise
        finally:
            alarm.over = True  # before anything is called, and at the first instruction of it interrupted
            alarm.close()

    def _timeout_error(self) -> BaseException:
        limit = self._timeout or 0.0
        state = self._state()
        if "timeout" in self._wants:
            self._emit("timeout", state=state, value=limit)
        return failures.run_timed_out(self._now() - self._began, limit, state=state, path=self.path())

    def _token_error(self) -> BaseException:
        reason = None if self._cancel is None else self._cancel.reason
        state = self._state()
        if "cancelled" in self._wants:
            self._emit("cancelled", state=state, value=reason)
        return failures.run_cancelled(reason, state=state, path=self.path())

    def _check_limits(self) -> None:
        """Between states: the loop cannot interrupt a chain that never suspends, and a task may have swallowed it."""
        alarm = self._alarm
        assert alarm is not None
        what = alarm.fired
        if not what:
            if self._timeout is not None and self._now() - self._began >= self._timeout:
                what = "timeout"
            elif self._cancel is not None and self._cancel.cancelled:
                what = "token"
            else:
                return
            alarm.over = True
        raise self._timeout_error() if what == "timeout" else self._token_error()

    # --- the transition loop --------------------------------------------------------------------------------------

    async def _walk(self) -> int:
        machine, plan, wants = self._machine, self._plan, self._wants
        states = plan.states
        action = machine.begin(self._initial)
        self._enter()
        while True:
            index, moved = machine.state, machine.transitions
            if action == EXIT:
                return index
            if action == FAIL:
                error = self._failed()
                self._leave(states[index].state, error)
                raise error
            try:
                self._steps += 1
                if self._steps > STEPS or self._now() >= self._slice_end:
                    await Turn()
                if self._alarm is not None:
                    self._check_limits()
                if action == BACK_OFF:
                    await Pause(machine.delay, None)
            except BaseException as error:
                machine.stop()
                self._leave(states[index].state, error)
                raise
            if action == TASK:
                task = states[index].task
                assert task is not None
                action = await self._task(index, task)
            elif action == SPLIT:
                split = states[index].split
                assert split is not None
                action = await self._split(index, split)
            else:
                action = machine.retry_due()
            if machine.transitions != moved:
                if "state_exit" in wants:
                    self._leave(states[index].state, None)
                self._enter()

    def _enter(self) -> None:
        self._entered = self._now() if self._wants else 0.0
        self._tries = 0
        if "state_enter" in self._wants:
            self._emit("state_enter", state=self._state())

    def _leave(self, state: Any, error: BaseException | None) -> None:
        if "state_exit" in self._wants:
            self._emit("state_exit", state=state, attempt=self._tries, value=self._now() - self._entered, error=error)

    def _failed(self) -> BaseException:
        """The machine refuses to go on: say why."""
        machine, states = self._machine, self._plan.states
        state = states[machine.state].state
        path = self.path()
        if machine.failure == FAILED_NO_HANDLER:
            return failures.no_handler(state, path=path)
        if machine.failure == FAILED_TOO_MANY_TRANSITIONS:
            return failures.too_many_transitions(self._plan.max_transitions or 0, path, state=state, path=path)
        assert machine.failure == FAILED_UNDECLARED
        plan = states[machine.state]
        owner = plan.task or plan.split
        return failures.bad_result(
            states[machine.next_state].state,
            state=state,
            task=None if owner is None else owner.name,
            path=path,
            reason="undeclared",
            declared=[states[index].state for index in plan.next or ()],
        )

    async def _split(self, index: int, split: SplitPlan) -> int:
        machine = self._machine
        state = self._plan.states[index].state
        scope = Scope(state, self.path, self._dispatcher, self._now, self._began, introspect=self._plan.introspect)
        self._tries = 1
        try:
            await SplitDriver(split, self._store, scope).run()
        except BaseException as error:
            machine.stop()
            self._leave(state, error)
            raise
        return machine.joined()

    async def _task(self, index: int, task: TaskPlan) -> int:
        """Make one attempt of a state's task."""
        machine, wants = self._machine, self._wants
        states = self._plan.states
        attempt = self._tries = machine.attempt
        state = states[index].state
        if attempt == 1 and task.retry.plan[0]:
            self._first_attempt = self._now()
        if "task_start" in wants:
            self._emit("task_start", state=state, task=task.name, attempt=attempt)
        try:
            if task.attempt_timeout is None:
                value = await self._call(task.call)
            else:
                value = await self._bounded(task, state, attempt)
        except BaseException as error:
            if issubclass(type(error), Exception) and not self._closed:
                return self._attempt_failed(index, task, error.stop if type(error) is StoppedError else error)  # type: ignore[arg-type]
            machine.stop()
            # A task that was cancelled, or closed with its run, has not failed.
            ended = self._closed or issubclass(type(error), asyncio.CancelledError)
            if not ended and "task_failure" in wants:
                self._emit("task_failure", state=state, task=task.name, attempt=attempt, error=error)
            self._leave(state, GeneratorExit() if self._closed else error)
            raise
        split: SplitPlan | None = None
        refused: Exception | None = None
        if type(value) is TaskResult:
            if value.join is not None:
                try:
                    split = split_of(value, task, self._store)
                except ConfigurationError as error:
                    failures.locate(error, state=state, task=task.name, path=self.path())
                    refused = error
            value = value.state
        try:
            following = None if value is None else self._plan.index_of.get(value)
        except TypeError:  # not hashable: no state
            following = None
        if following is None or refused is not None:
            if refused is None:
                reason = "none" if value is None else "unknown"
                refused = failures.bad_result(value, state=state, task=task.name, path=self.path(), reason=reason)
            machine.stop()
            if "task_failure" in wants:
                self._emit("task_failure", state=state, task=task.name, attempt=attempt, error=refused)
            self._leave(state, refused)
            raise refused
        if "task_success" in wants:
            self._emit("task_success", state=state, task=task.name, attempt=attempt, value=value)
        if split is not None:
            machine.fan_out(following)
            return await self._split(index, split)
        return machine.finished(following)

    def _attempt_failed(self, index: int, task: TaskPlan, error: Exception) -> int:
        machine, wants = self._machine, self._wants
        state = self._plan.states[index].state
        attempt = machine.attempt
        retryable = False
        elapsed = 0.0
        if task.retry.plan[0]:
            elapsed = self._now() - self._first_attempt
            try:
                retryable = task.retry.wants(error)
            except Exception as broken:
                broken.__context__ = error
                error = broken
            except BaseException as fatal:
                machine.stop()
                self._leave(state, fatal)
                raise
        action = machine.failed(retryable, elapsed, Scope().unit())
        if action == BACK_OFF:
            if "retry" in wants:
                self._emit("retry", state=state, task=task.name, attempt=attempt, value=machine.delay, error=error)
            return action
        if "task_failure" in wants:
            self._emit("task_failure", state=state, task=task.name, attempt=attempt, error=error)
        failure = failures.task_failed(
            error, state=state, task=task.name, attempts=attempt, retried=attempt > 1, path=self.path()
        )
        self._leave(state, failure)
        raise failure

    async def _call(self, call: Call) -> Any:
        """Call a state's task in place, or on a worker thread."""
        if call.kind == THREAD:
            arguments = (self._store,) if call.arity == STORE else ()
            context = contextvars.copy_context()
            value = await start_in_thread(self._loop, context, call.function, arguments)
            return await value if hasattr(value, "__await__") else value
        try:
            value = call.function(self._store) if call.arity == STORE else call.function()
        except StopIteration as stop:
            raise StoppedError(stop) from None
        if call.kind == COROUTINE or hasattr(value, "__await__"):
            return await value
        return value

    async def _bounded(self, task: TaskPlan, state: Any, attempt: int) -> Any:
        """Call under the attempt's timeout, with the algorithm of `asyncio.timeout`."""
        limit = task.attempt_timeout
        assert limit is not None
        alarm = Alarm(self._loop)
        alarm.at(self._now() + limit)
        try:
            value = await self._call(task.call)
            if alarm.fired:
                await alarm.absorb()
            return value
        except asyncio.CancelledError as error:
            if alarm.settle():
                if "timeout" in self._wants:
                    self._emit("timeout", state=state, task=task.name, attempt=attempt, value=limit)
                raise failures.attempt_timed_out(
                    limit, state=state, task=task.name, attempt=attempt, cause=error, path=self.path()
                ) from error
            raise
        except BaseException:
            alarm.settle()
            raise
        finally:
            alarm.over = True  # before anything is called, and at the first instruction of it interrupted
            alarm.close()
