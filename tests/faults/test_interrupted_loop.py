"""F8: KeyboardInterrupt in the event loop's own code, which then forgets what it was about to call.

The loop takes a callback off its list, and then calls it; a signal between the two loses it. (So does one while a future puts
its callbacks on the list.) What the engine has asked to be called is made up for when the run is cancelled. The next step of an
asyncio task is not, by anybody: `cancel` finds nothing to cancel, and the task waits for ever, in a program of plain asyncio as
in one with a workflow. `asyncio.run` turns the first Ctrl-C into a cancellation, so that it takes a second one, or a loop that
is run in another way.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

import pytest
from tests.contract.shapes import Trace
from tests.faults.points import SOAK, Opcodes, some
from tests.faults.shapes import SHAPES

from cano.testing import VirtualTimeLoop

pytestmark = [
    pytest.mark.fault("F8"),
    pytest.mark.timeout(1800 if SOAK else 300),
    # Between the making of a coroutine and the `await` of it, no Python program is safe.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored .*coroutine object:pytest.PytestUnraisableExceptionWarning"),
]

SHORT = 25


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What was interrupted is let go of here, where its warnings are expected, and not in the midst of another test."""
    yield
    gc.collect()


def is_the_loops(code: CodeType) -> bool:
    """Whether code is the loop's, at work: not its way in and out, where nothing of a run is at stake."""
    return code.co_filename in (asyncio.base_events.__file__, asyncio.events.__file__) and code.co_name in (
        "_run_once", "_run", "call_soon", "_call_soon", "call_at",
    )  # fmt: skip


class Ready(deque[asyncio.Handle]):
    """The loop's list of what it is to call; remembers what it has given out."""

    taken: Any = None

    def popleft(self) -> asyncio.Handle:
        self.taken = super().popleft()
        return self.taken


class Interrupt(Opcodes):
    """Also notes at which points the loop had a callback of the engine's in hand."""

    def __init__(self, at: int = 0) -> None:
        super().__init__(at, of=is_the_loops)
        self.engines: list[int] = []

    def _traced(self, frame: FrameType, event: str, argument: Any) -> Any:
        before = self.count
        try:
            return super()._traced(frame, event, argument)
        finally:
            if self.count > before and is_the_engines(in_hand(frame)):
                self.engines.append(self.count)


def in_hand(frame: FrameType) -> Any:
    """What the loop is about to call, or to put on its list."""
    here = frame.f_locals
    if frame.f_code.co_name == "_run":
        return here["self"]._callback
    if frame.f_code.co_name == "_run_once":  # before `ntodo` is known, it takes timers off their heap
        return getattr(here["self"]._ready.taken, "_callback", None) if "ntodo" in here else None
    return here.get("callback")


def is_the_engines(callback: Any) -> bool:
    """Others are a task's next step, and the timer of an `asyncio.sleep`."""
    owner = getattr(callback, "__self__", callback)
    return type(owner).__module__.startswith(("cano._core", "cano._engine"))


class Program:
    """Something run on a loop that is interrupted, and then cancelled as `asyncio.run` does."""

    def __init__(self, awaitable: Any, interrupt: Interrupt) -> None:
        self.loop: Any = VirtualTimeLoop()
        self.loop._ready = Ready()
        self.loop.set_exception_handler(lambda *_: None)
        self.task = self.loop.create_task(awaitable)
        try:
            with interrupt:
                self.loop.run_until_complete(self.task)
        except (KeyboardInterrupt, asyncio.CancelledError):
            pass
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.some_time()  # also for those who were dropped, to clean up
        self.ended = self.task.done()
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.loop.close()

    def some_time(self) -> None:
        for _ in range(3):
            try:
                self.loop.run_until_complete(asyncio.sleep(1000))
            except KeyboardInterrupt:  # a run that was being opened raises it when its branches have ended
                pass
            except RuntimeError as error:  # the interrupt has left a request to stop behind
                assert "stopped before" in str(error)


async def _start(shape: str, trace: Trace, engine: str) -> Any:
    return await SHAPES[shape](trace, engine)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_engine_asked_for_comes_all_the_same(engine: str, shape: str, tried: Callable[..., None]) -> None:
    for _ in range(2):  # the first time something may be imported
        counted = Interrupt()
        Program(_start(shape, Trace(), engine), counted)
    points = [counted.engines[number - 1] for number in some(len(counted.engines), SHORT, "loop", shape)]
    faults = []
    reached = 0
    for point in points:
        interrupt, trace = Interrupt(point), Trace()
        program = Program(_start(shape, trace, engine), interrupt)
        if point not in interrupt.engines:
            continue  # threads are never twice the same: this time it was something of asyncio's
        reached += 1
        if not program.ended or trace.begun != trace.ended:
            faults.append(f"{point} at {interrupt.place}: {trace.begun - trace.ended} at work")
    tried(interrupts=reached)
    assert not faults, "\n".join(faults)


def test_python_drops_what_comes_in_a_destructor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can raise it there: it is told to `sys.unraisablehook`, which prints it, and the program goes on."""
    dropped: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda found: dropped.append(found.exc_type))

    class Thing:
        """Asyncio has a weak set of all tasks, which is told of the end of each in a function written in Python."""

    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        del thing
    finally:
        signal.signal(signal.SIGINT, before)
    assert reference() is None
    assert dropped == [KeyboardInterrupt]


def test_plain_asyncio_loses_a_tasks_step() -> None:
    """What is left out above is asyncio's: so ends, at some of the points, a program that does nothing but wait."""

    async def main() -> None:
        await asyncio.gather(*(asyncio.sleep(item) for item in range(3)))

    counted = Interrupt()
    Program(main(), counted)
    ended = [Program(main(), Interrupt(point)).ended for point in range(1, counted.count + 1)]
    assert 0 < ended.count(False) < len(ended)
