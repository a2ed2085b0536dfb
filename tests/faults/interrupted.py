"""Runs a program that something interrupts, then does what `asyncio.run` does; says what does not hold afterwards."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.contract.shapes import Trace
from tests.faults.shapes import SHAPES

from cano.testing import DeadlockError, VirtualTimeLoop


class Outcome:
    """What became of an interrupted program.

    Attributes:
        result: What it returned, `None` if it did not.
        surfaced: How often KeyboardInterrupt came out of the loop.
        lost: Whether asyncio has lost a task of its own: one that waits for nothing, or for what is done, and that the loop does
            not know of. So it does when the interrupt comes right where it schedules the task's next step; nobody can end
            that task.
        problems: What is not as promised, in words.
    """

    def __init__(self) -> None:
        self.result: Any = None
        self.surfaced = 0
        self.lost = False
        self.problems: list[str] = []


class Log(logging.Handler):
    """What the package logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def run(
    shape: str,
    engine: str,
    meanwhile: AbstractContextManager[object],
    *,
    new_loop: Callable[[], Any] = VirtualTimeLoop,
    expected: Any = None,
) -> Outcome:
    """Run a shape while something is in effect that may interrupt it, clean up after it, and run it again on the same loop."""
    outcome = Outcome()
    problems = outcome.problems
    unraisable: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    log = Log()
    logging.getLogger("cano").addHandler(log)
    trace, loop = Trace(), new_loop()
    loop.set_exception_handler(lambda _, context: problems.append(f"unhandled: {context.get('message')}"))
    asyncio.set_event_loop(loop)
    try:
        task = loop.create_task(_start(shape, trace, engine))
        try:
            with meanwhile:
                outcome.result = loop.run_until_complete(task)
        except KeyboardInterrupt:
            outcome.surfaced += 1
        except DeadlockError:
            problems.append("the run hangs")
        _cancel_what_is_left(loop, outcome)
        del task
        # Branches whose run was dropped have had their cancellation, and may be cleaning up still.
        loop.run_until_complete(asyncio.sleep(1000 if new_loop is VirtualTimeLoop else 0.01))
        if trace.begun != trace.ended:
            problems.append(f"{trace.begun - trace.ended} are still at work")
        if asyncio.all_tasks(loop):
            problems.append("tasks are pending")
        again = loop.run_until_complete(_start(shape, Trace(), engine))
        if expected is not None and again != expected:
            problems.append("the next run goes wrong")
        loop.run_until_complete(loop.shutdown_asyncgens())
    except DeadlockError:
        problems.append("the loop hangs afterwards")
    finally:
        loop.close()
        asyncio.set_event_loop(None)
        gc.collect(0)
        sys.unraisablehook = hook
        logging.getLogger("cano").removeHandler(log)
    # What Python says to who resumes a coroutine that has ended; no shape raises one.
    problems += [f"logged: {line}" for line in log.lines if "RuntimeError" in line]
    # Between the making of a coroutine and the `await` of it, no Python program is safe.
    # And what a weak set is told of an object's end (asyncio keeps one of all tasks) is told by a destructor: Python drops it.
    problems += [
        f"unraisable: {found.exc_value!r}"
        for found in unraisable
        if "was never awaited" not in str(found.exc_value) and "WeakSet" not in repr(found.object)
    ]
    return outcome


async def _start(shape: str, trace: Trace, engine: str) -> Any:
    return await SHAPES[shape](trace, engine)


def _cancel_what_is_left(loop: asyncio.AbstractEventLoop, outcome: Outcome) -> None:
    """What `asyncio.run` does at its end."""
    left = asyncio.all_tasks(loop)
    ready: Any = getattr(loop, "_ready", ())
    known = {id(getattr(handle._callback, "__self__", None)) for handle in ready}
    for task in left:
        waits_for: Any = getattr(task, "_fut_waiter", None)
        outcome.lost |= (waits_for is None or waits_for.done()) and id(task) not in known
        task.cancel()
    try:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    except KeyboardInterrupt:
        outcome.surfaced += 1
    except DeadlockError:
        outcome.problems.append("cancelling does not end it")
