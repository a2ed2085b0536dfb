"""`Branch`: the task object of one attempt of one branch, stepped in place on the loop's thread.

It is to a branch what `asyncio.Task` is to a coroutine, with the same algorithm for stepping, waiting and cancelling
(CPython, `Lib/asyncio/tasks.py`), and the interface the asyncio documentation gives to third-party tasks
(*Extending asyncio*). What differs: the first step runs at once, in the starter's stack; a bare `yield` joins the split's
batch instead of costing a loop callback; the engine's own `Pause` parks in the split's timers.

A KeyboardInterrupt may be raised at any instruction of this file, where asyncio's own Task is native code and out of its
reach. So the fields say at every moment what the branch waits for, a wake-up that comes twice does nothing, and `look_again`
makes up for one that was lost.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import tasks as _tasks
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Protocol

from cano._engine.attempts import CANCELLED, ERROR, FATAL, OK, Driver

if TYPE_CHECKING:
    from .timers import Timer, Timers

_current_tasks: dict[Any, Any] | None = getattr(_tasks, "_current_tasks", None)


# From 3.12 on.
_swap_current_task: Callable[[Any, Any], Any] | None = getattr(_tasks, "_swap_current_task", None)


class Split(Driver, Protocol):
    """What a branch needs of its split, and the split's driver of one that waits for it."""

    batch: list[Branch]
    timers: Timers

    def look_again(self) -> None: ...

    def turns_are_due(self) -> bool: ...


class Branch:
    """One attempt of one branch. Looks like an `asyncio.Task` to whatever runs inside it, but is no instance of it."""

    __slots__ = (
        "__dict__",  # a task takes attributes, too
        "__weakref__",
        "_asyncio_future_blocking",
        "_callbacks",
        "_cancel_message",
        "_context",
        "_coro",
        "_exception",
        "_fut_waiter",
        "_loop",
        "_must_cancel",
        "_name",
        "_num_cancels_requested",
        "_outcome",
        "_result",
        "_steps",
        "_yielded",
        "attempt",
        "index",
        "inner",
        "released",
        "split",
        "started",
        "timed_out",
        "timer",
    )

    def __init__(
        self,
        split: Split,
        index: int,
        attempt: int,
        coro: Coroutine[Any, Any, Any],
        context: contextvars.Context,
    ) -> None:
        self.split: Split | None = split
        self.index = index
        self.attempt = attempt
        self.started = 0.0
        self.timer: Timer | None = None  # of the attempt's timeout
        self.timed_out = False
        self.released = False  # cancelled by the engine: it decided without this branch
        self._loop = split.loop
        self._coro = coro
        self._context = context
        self._name: str | None = None
        self._fut_waiter: Any = None
        self._must_cancel = False
        self._cancel_message: Any = None
        self._num_cancels_requested = 0
        self._callbacks: list[tuple[Callable[..., Any], contextvars.Context]] = []
        self._outcome: int | None = None
        self._result: Any = None
        self._exception: BaseException | None = None
        self._asyncio_future_blocking = False
        self._steps = 0
        self._yielded: Any = None  # what it is to wait for, until it does
        self.inner: Split | None = None  # the split that this branch itself waits for

    # --- stepping -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the first step, in the branch's context, as the current task."""
        self._as_current(self._context.run, self._step, None)

    def resume(self, error: BaseException | None = None) -> None:
        """Take a step from the split's batch, or with an error to throw; in the branch's context."""
        if self._outcome is None and self._fut_waiter is None:
            self._as_current(self._context.run, self._step, error)

    def _as_current(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call something that takes a step, as the loop's current task."""
        loop = self._loop
        previous = _tasks.current_task(loop)
        try:
            if _swap_current_task is not None:  # from 3.12 on
                _swap_current_task(loop, self)
            else:  # until 3.11
                _current_tasks[loop] = self  # type: ignore[index]
            call(*arguments)
        finally:
            # No function of ours: at its first instruction a KeyboardInterrupt may come, and the loop would be of no use.
            if _swap_current_task is not None:  # from 3.12 on
                _swap_current_task(loop, previous)
            elif previous is None:  # until 3.11
                _current_tasks.pop(loop, None)  # type: ignore[union-attr]
            else:  # until 3.11
                _current_tasks[loop] = previous  # type: ignore[index]

    def _resume_alone(self, error: BaseException | None = None) -> None:
        """A loop callback that takes a step and ends the turn."""
        split = self.split
        try:
            self.resume(error)
        finally:
            if split is not None:
                split.end_turn()

    def _wakeup(self, future: Any) -> None:
        """The callback on what the branch waits for; the loop has entered the branch's context already."""
        waiter = self._fut_waiter
        # Too late if `look_again` was faster; but what only looks like a future may call with whatever it likes.
        if waiter is not future and (waiter is None or type(waiter) in _PLAIN or type(future) in _PLAIN):
            return
        split = self.split
        assert split is not None  # it waits, so it has not ended
        try:
            self._as_current(self._step_after, future)
        finally:
            split.end_turn()

    def _step_after(self, future: Any) -> None:
        thrown: BaseException | None = None
        try:
            future.result()
        except BaseException as error:
            _forget_the_engine(error, also_alone=True)  # this frame has the future, and that has the error
            thrown = error
        # Outside the handler, or what the branch does next would run with an exception being handled.
        try:
            self._step(thrown)
        finally:
            thrown = None

    def waits(self) -> bool:
        """Whether it waits for something that is to come."""
        waiter = self._fut_waiter
        return waiter is not None and not waiter.done()

    def look_again(self, steps: int | None = None) -> None:
        """Go on if nothing else makes it: what was to wake it may have been lost to a KeyboardInterrupt.

        Whatever was scheduled before has its turn first: this is called twice, the second time by the loop.
        """
        if steps is None:
            if self._yielded is not None or not self.waits():
                self._loop.call_soon(self.look_again, self._steps)
        elif self._outcome is None and self._steps == steps:
            split = self.split
            assert split is not None  # it has not ended
            if self._yielded is not None and (self._fut_waiter is not self._yielded or self.waits()):
                self._park_again()
            elif self.waits():
                return
            elif _has_ended(self._coro):
                self._finish(CANCELLED, None, None)  # it has ended, and how is lost
                split.end_turn()
            elif self._fut_waiter is None:
                if not split.turns_are_due():
                    self._resume_alone()
            else:
                self._context.run(self._wakeup, self._fut_waiter)

    def _step(self, error: BaseException | None) -> None:
        split = self.split
        assert split is not None  # it has not ended
        if split.released and not self.released:  # it woke before its turn to be told has come
            self.released = True
            if not self._was_told():
                self._must_cancel = True
                self._num_cancels_requested += 1
        if self._must_cancel:
            if not isinstance(error, asyncio.CancelledError):
                error = self._make_cancelled_error()
            self._must_cancel = False
        self._fut_waiter = None
        self._steps += 1
        coro = self._coro
        outcome: int | None = None
        result: Any = None
        yielded: Any = None
        while True:
            try:
                yielded = self._yielded = coro.send(None) if error is None else coro.throw(error)
            except StopIteration as stop:
                if self._must_cancel:  # cancelled right before it stopped: asyncio counts that as cancelled
                    self._must_cancel = False
                    outcome, error = CANCELLED, self._make_cancelled_error()
                else:
                    outcome, result, error = OK, stop.value, None
            except asyncio.CancelledError as cancelled:
                outcome, error = CANCELLED, cancelled
            except BaseException as failure:
                if issubclass(type(failure), KeyboardInterrupt) and getattr(coro, "cr_suspended", False):
                    error = failure  # raised here, right after the branch had suspended: it is to end by it
                    continue
                outcome, error = ERROR, failure
            break
        # Outside the handlers: what runs from here on must not see the branch's exception as the one being handled.
        if outcome is None:
            self._park(yielded)
            self._yielded = None
            return
        if error is not None:
            _forget_the_engine(error)
        self._finish(outcome, result, error)
        if outcome == ERROR and error is not None and issubclass(type(error), FATAL) and split.raises_fatal():
            raise error
        # Where a traceback holds this frame all the same: it would hold the error, and by way of the split all other branches.
        error = None
        del self, split

    def _park(self, yielded: Any) -> None:
        """Wait for what the coroutine yielded: Task's rules, and two ways of our own that touch no loop."""
        split = self.split
        assert split is not None
        if yielded is None:
            split.batch.append(self)
            return
        if type(yielded) is Pause:
            yielded.park(self, split)
            return
        try:
            problem = self._wait_for(yielded)
        except (KeyboardInterrupt, SystemExit):
            raise  # leaves through the loop; what waits then is looked after when the run is cancelled for it
        except BaseException as error:  # what looks like a future may be anything
            self._loop.call_soon(self._resume_alone, error)
        else:
            if problem is not None:
                self._loop.call_soon(self._resume_alone, RuntimeError(problem))

    def _park_again(self) -> None:
        """Wait for what it yielded: a KeyboardInterrupt came before it did, or right after."""
        yielded = self._yielded
        if type(yielded) is Pause:
            if yielded.is_parked():
                return
        elif getattr(yielded, "_asyncio_future_blocking", None) is not None:
            yielded.remove_done_callback(self._wakeup)
            yielded._asyncio_future_blocking = True
        self._park(yielded)
        self._yielded = None

    def _wait_for(self, yielded: Any) -> str | None:
        """Wait for a future; the answer is what is wrong with it, if something is."""
        blocking = getattr(yielded, "_asyncio_future_blocking", None)
        if blocking is None:
            return f"Task got bad yield: {_repr(yielded)}"
        if _loop_of(yielded) is not self._loop:
            return f"Task {self!r} got Future {_repr(yielded)} attached to a different loop"
        if not blocking:
            return f"yield was used instead of yield from in task {self!r} with {_repr(yielded)}"
        if yielded is self:
            return f"Task cannot await on itself: {self!r}"
        yielded._asyncio_future_blocking = False
        # Before the future hears of it: one may call back at once, and then the branch goes on in there.
        self._fut_waiter = yielded
        try:
            yielded.add_done_callback(self._wakeup, context=self._context)
        except BaseException:
            if self._fut_waiter is yielded:
                self._fut_waiter = None
            raise
        if self._fut_waiter is yielded and self._must_cancel and yielded.cancel(msg=self._cancel_message):
            self._must_cancel = False
        return None

    def _finish(self, outcome: int, result: Any, error: BaseException | None) -> None:
        self._outcome = outcome
        self._result = result
        self._exception = error
        split = self.split
        assert split is not None
        if self.timer is not None:
            split.timers.cancel(self.timer)
            self.timer = None
        callbacks = self._callbacks
        if callbacks:
            self._callbacks = []
            for callback, context in callbacks:
                self._loop.call_soon(callback, self, context=context)
        self.split = None
        split.attempt_ended(self, outcome, result, error)

    # --- what the engine does to it -------------------------------------------------------------------------------

    def release(self) -> None:
        """Cancel it because the split goes on without it; once."""
        if not self.released:
            if not self._was_told():
                self.cancel()
            self.released = True

    def _was_told(self) -> bool:
        """Whether its timeout has cancelled it, and it did not take that back: it is cleaning up."""
        return self.timed_out and self._num_cancels_requested > 0

    def expire(self, _: Any) -> bool:
        """The attempt's time is up."""
        self.timer = None
        split = self.split
        if split is not None and not split.released:
            self.timed_out = True
            self.cancel()
        return True

    # --- the interface of a Task ----------------------------------------------------------------------------------

    def cancel(self, msg: Any = None) -> bool:
        """Ask the branch to stop: `CancelledError` is thrown into it at its next step."""
        if self._outcome is not None:
            return False
        self._num_cancels_requested += 1
        if self._fut_waiter is not None and self._fut_waiter.cancel(msg=msg):
            return True
        self._must_cancel = True
        self._cancel_message = msg
        return True

    def cancelling(self) -> int:
        """Return how many cancellations were requested and not taken back."""
        return self._num_cancels_requested

    def uncancel(self) -> int:
        """Take back one request for cancellation; returns how many remain."""
        if self._num_cancels_requested > 0:
            self._num_cancels_requested -= 1
            if self._num_cancels_requested == 0:
                self._must_cancel = False
        return self._num_cancels_requested

    def _make_cancelled_error(self) -> asyncio.CancelledError:
        message, self._cancel_message = self._cancel_message, None
        return asyncio.CancelledError() if message is None else asyncio.CancelledError(message)

    def done(self) -> bool:
        """Whether the attempt has ended."""
        return self._outcome is not None

    def cancelled(self) -> bool:
        """Whether the attempt ended by cancellation."""
        return self._outcome == CANCELLED

    def result(self) -> Any:
        """Return what the coroutine returned, or raise what it raised."""
        if self._outcome is None:
            raise asyncio.InvalidStateError("Result is not set.")
        if self._exception is not None:
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        """Return what the coroutine raised, if it did."""
        if self._outcome is None:
            raise asyncio.InvalidStateError("Exception is not set.")
        if self._outcome == CANCELLED:
            assert self._exception is not None
            raise self._exception
        return self._exception

    def add_done_callback(self, callback: Callable[..., Any], *, context: contextvars.Context | None = None) -> None:
        """Have the loop call `callback(branch)` once the attempt has ended."""
        if context is None:
            context = contextvars.copy_context()
        if self._outcome is None:
            self._callbacks.append((callback, context))
        else:
            self._loop.call_soon(callback, self, context=context)

    def remove_done_callback(self, callback: Callable[..., Any]) -> int:
        """Forget a callback; returns how many were removed."""
        kept = [entry for entry in self._callbacks if entry[0] != callback]
        removed = len(self._callbacks) - len(kept)
        self._callbacks[:] = kept
        return removed

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop the branch runs on."""
        return self._loop

    def get_coro(self) -> Coroutine[Any, Any, Any]:
        """Return the user's own coroutine."""
        return self._coro

    def get_context(self) -> contextvars.Context:
        """Return the context the branch runs in."""
        return self._context

    def get_name(self) -> str:
        """Return the branch's name; `cano-<task>-<index>` unless it was set."""
        if self._name is None:
            split = self.split
            task = split.plan.name if split is not None else "branch"
            self._name = f"cano-{task}-{self.index}"
        return self._name

    def set_name(self, value: object) -> None:
        """Set the branch's name."""
        self._name = str(value)

    def get_stack(self, *, limit: int | None = None) -> list[Any]:
        """Return the frames of the branch's coroutine, as `asyncio.Task.get_stack` does."""
        return _base_tasks()._task_get_stack(self, limit)  # type: ignore[no-any-return]

    def print_stack(self, *, limit: int | None = None, file: Any = None) -> None:
        """Print the stack of the branch's coroutine."""
        _base_tasks()._task_print_stack(self, limit, file)

    def __await__(self) -> Generator[Any, None, Any]:
        if self._outcome is None:
            self._asyncio_future_blocking = True
            yield self
        if self._outcome is None:
            raise RuntimeError("await wasn't used with future")
        return self.result()

    __iter__ = __await__

    def __repr__(self) -> str:
        state = "pending" if self._outcome is None else ("finished", "failed", "cancelled")[self._outcome]
        return f"<Branch {self.get_name()} {state}>"


class Pause:
    """The engine's own sleep: inside a branch it parks in the split's timers, elsewhere it is `asyncio.sleep`.

    Like what that gives it can be awaited, and run as a coroutine by a task of its own.
    """

    __slots__ = ("_alone", "_branch", "_error", "_over", "_timer", "_value", "delay")

    # What asks a coroutine whether it has begun (`inspect.getcoroutinestate`, and anyio by it) asks for these. There is no frame.
    cr_running = False
    cr_frame = None
    __name__ = "cano.sleep"

    def __init__(self, delay: float, value: Any) -> None:
        self.delay = delay
        self._value = value
        self._branch: Branch | None = None
        self._timer: Timer | None = None
        self._error: BaseException | None = None
        self._alone: Generator[Any, None, Any] | None = None  # what a task that runs it steps
        self._over = False  # such a task has run it to its end

    def __await__(self) -> Generator[Any, None, Any]:
        if self.delay <= 0:
            yield None
            return self._value
        current: Any = _tasks.current_task()
        if type(current) is Branch:
            # If another branch waits for this very one: as long again, but each for itself.
            yield self if self._branch is None else Pause(self.delay, None)
            return self._value
        return (yield from asyncio.sleep(self.delay, self._value).__await__())

    @property
    def cr_suspended(self) -> bool:
        return self._alone is not None

    def send(self, value: None) -> Any:
        if self._over:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if self._alone is None:
            self._alone = self.__await__()
        try:
            return self._alone.send(value)
        except BaseException:
            self._alone, self._over = None, True
            raise

    def throw(self, *error: Any) -> Any:
        alone = self.__await__() if self._alone is None else self._alone
        try:
            return alone.throw(*error)
        except BaseException:
            self._alone, self._over = None, True
            raise

    def close(self) -> None:
        if self._alone is not None:
            self._alone.close()

    def __repr__(self) -> str:
        return f"<cano.sleep({self.delay:g})>"

    def park(self, branch: Branch, split: Split) -> None:
        """Have the branch resumed by the split's timers."""
        self._branch, self._error = branch, None
        branch._fut_waiter = self
        if branch._must_cancel:
            branch._must_cancel = False
            self.cancel(msg=branch._cancel_message)
            return
        self._timer = split.timers.add(split.now() + self.delay, self._wake, None)

    def is_parked(self) -> bool:
        """Whether the split's timers are going to wake the branch."""
        return self._timer is not None

    def _wake(self, _: None) -> None:
        branch, self._branch, self._timer = self._branch, None, None
        if branch is not None:
            branch._fut_waiter = None
            branch.resume()

    def cancel(self, msg: Any = None) -> bool:
        """Wake the branch with `CancelledError` in the next turn of the loop, as a cancelled future would."""
        branch = self._branch
        if branch is None:
            return False
        if self._timer is not None and branch.split is not None:
            branch.split.timers.cancel(self._timer)
        self._branch = self._timer = None
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        branch._loop.call_soon(branch._wakeup, self, context=branch._context)
        return True

    def done(self) -> bool:
        """Whether the pause is over (asked by libraries that look at what a task waits for)."""
        return self._branch is None

    def result(self) -> None:
        """Raise the cancellation that ended the pause, if one did."""
        if self._error is not None:
            raise self._error


def _has_ended(coro: Any) -> bool:
    return type(coro) is not Pause and getattr(coro, "cr_frame", coro) is None


def _loop_of(future: Any) -> Any:
    get_loop = getattr(future, "get_loop", None)
    return get_loop() if get_loop is not None else future._loop


def _forget_the_engine(error: BaseException, *, also_alone: bool = False) -> None:
    """Have a branch's error tell of the branch's own frames.

    The first is ours, tells nobody anything, and leads to what has the error: a circle, for the collector.
    """
    try:
        traceback = error.__traceback__
        if traceback is not None and (also_alone or traceback.tb_next is not None):
            BaseException.with_traceback(error, traceback.tb_next)
    except Exception:
        return


def _repr(thing: object) -> str:
    try:
        return repr(thing)
    except Exception:
        return "<an object whose repr() raises>"


def _base_tasks() -> Any:
    from asyncio import base_tasks

    return base_tasks


__all__ = ["CANCELLED", "ERROR", "OK", "Branch", "Pause"]


# What calls back once, when it is done, with itself.
_PLAIN = (asyncio.Future, Pause)
