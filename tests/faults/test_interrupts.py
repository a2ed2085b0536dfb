"""F8: KeyboardInterrupt at every instruction of the package. It surfaces once, everything is cleaned up, the next run works.

`asyncio.run` turns the first Ctrl-C into a cancellation; the second, and any on a loop that is run in another way, is raised in
whatever Python code runs at that moment, be it ours. The loop stops, its tasks are cancelled (by `asyncio.run`, or here), and the
loop is used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import pytest
from tests.contract.shapes import Trace
from tests.faults.interrupted import run
from tests.faults.points import SEED, SOAK, Opcodes, some
from tests.faults.shapes import SHAPES

import cano
import cano.testing
from cano import JoinStrategy, fan_out

pytestmark = [
    pytest.mark.fault("F8"),
    pytest.mark.timeout(1800 if SOAK else 300),
    # Between the making of a coroutine and the `await` of it, no Python program is safe.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored .*coroutine object:pytest.PytestUnraisableExceptionWarning"),
]

SHORT = 15


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What was interrupted is let go of here, where its warnings are expected, and not in the midst of another test."""
    yield
    gc.collect()


def undisturbed(shape: str, engine: str) -> Any:
    outcome = run(shape, engine, contextlib.nullcontext())
    assert outcome.problems == []
    assert outcome.result is not None
    return outcome.result


@pytest.mark.parametrize("shape", SHAPES)
def test_an_interrupt_at_every_instruction(engine: str, shape: str, tried: Callable[..., None]) -> None:
    expected = undisturbed(shape, engine)  # and whatever is imported late, or kept for the next time, is there
    counted = Opcodes()
    run(shape, engine, counted)
    assert counted.count > 20
    faults = []
    reached = 0
    for point in some(counted.count, SHORT, shape):
        interrupt = Opcodes(point)
        outcome = run(shape, engine, interrupt, expected=expected)
        reached += bool(interrupt.place)
        if outcome.problems or outcome.surfaced != bool(interrupt.place):
            faults.append(f"{point} at {interrupt.place}: surfaced {outcome.surfaced}, {'; '.join(outcome.problems)}")
        if not interrupt.place and outcome.result != expected:
            faults.append(f"{point}: another result, without an interrupt")
    tried(interrupts=reached)
    assert faults == []
    # How much code runs differs a little from one run to the next; with threads by much: when one lands, the loop is at work or
    # asleep.
    assert reached >= (0.5 if shape == "on_threads" else 0.9) * min(counted.count, SHORT)


def test_what_is_looked_for_is_found(engine: str) -> None:
    """The checks see a branch that was forgotten, an interrupt that was swallowed, and a run that hangs."""

    class Swallows(Opcodes):
        def __exit__(self, *_: object) -> bool:  # type: ignore[override]
            super().__exit__(None, None, None)
            return True

    outcome = run("fan", engine, Swallows(30))
    assert outcome.surfaced == 0
    forgotten = SHAPES["fan"]

    async def forgets(trace: Any, engine: str) -> Any:
        trace.begun += 1
        return await forgotten(trace, engine)

    SHAPES["forgets"] = forgets
    try:
        assert run("forgets", engine, Opcodes(30)).problems == ["1 are still at work"]
        assert run("forgets", engine, Opcodes(30), expected=1).problems == [
            "1 are still at work",
            "the next run goes wrong",
        ]
    finally:
        del SHAPES["forgets"]


# --- in the user's code, and real signals -------------------------------------------------------------------------------


def is_the_users(code: CodeType) -> bool:
    return code.co_filename.endswith("shapes.py")


@pytest.mark.parametrize("shape", SHAPES)
def test_an_interrupt_in_the_users_code(engine: str, shape: str, tried: Callable[..., None]) -> None:
    """Wherever native code, or ours, has called or resumed something of the user's: `finally` has run when it comes out."""
    expected = undisturbed(shape, engine)
    counted = Opcodes(of=is_the_users)
    run(shape, engine, counted)
    faults = []
    reached = 0
    for point in some(counted.count, 8, "crossings", shape):
        interrupt = Opcodes(point, of=is_the_users)
        outcome = run(shape, engine, interrupt, expected=expected)
        reached += bool(interrupt.place)
        if outcome.problems or outcome.surfaced != bool(interrupt.place):
            faults.append(f"{point} at {interrupt.place}: surfaced {outcome.surfaced}, {'; '.join(outcome.problems)}")
    tried(crossings=reached)
    assert faults == []


# What an engine, a task and a future call of a loop, all written in Python.
LOOP = {
    "call_soon", "_call_soon", "call_at", "call_later", "create_future", "create_task", "time", "cancel",
    "_timer_handle_cancelled", "Handle.__init__", "TimerHandle.__init__", "Handle.cancel", "TimerHandle.cancel",
}  # fmt: skip


def is_asyncios(code: CodeType) -> bool:
    return f"{os.sep}asyncio{os.sep}" in code.co_filename


def is_the_loops(code: CodeType) -> bool:
    return (is_asyncios(code) or code.co_filename == cano.testing.__file__) and (
        code.co_name in LOOP or code.co_qualname in LOOP
    )


def is_asyncios_loss(interrupt: Opcodes, problem: str) -> bool:
    """Whether what went wrong is asyncio's own: it was scheduling what is to come next of a task or a future, or making a task.

    A callback that it has lost there nobody can make up for: where an engine can, by looking again, it does.
    """
    if problem.startswith("unhandled: Task"):
        return any(code.co_name == "create_task" for code in interrupt.callers)
    outside = next(code for code in interrupt.callers if not is_the_loops(code))
    return is_asyncios(outside)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_interrupt_in_the_loops_code(engine: str, shape: str, tried: Callable[..., None]) -> None:
    """Wherever an engine, or asyncio on its behalf, schedules something, asks for the time, or takes a timer back."""
    expected = undisturbed(shape, engine)
    counted = Opcodes(of=is_the_loops)
    run(shape, engine, counted)
    faults = []
    reached = lost = 0
    for point in some(counted.count, 20, "loop", shape):
        interrupt = Opcodes(point, of=is_the_loops)
        outcome = run(shape, engine, interrupt, expected=expected)
        reached += bool(interrupt.place)
        problems = [problem for problem in outcome.problems if not is_asyncios_loss(interrupt, problem)]
        if outcome.lost or len(problems) < len(outcome.problems):
            lost += 1
        elif problems or outcome.surfaced != bool(interrupt.place):
            faults.append(f"{point} at {interrupt.place}: surfaced {outcome.surfaced}, {'; '.join(problems)}")
    tried(in_the_loops_code=reached, lost_by_asyncio=lost)
    assert faults == []
    assert lost <= reached / 2


class Signal:
    """A real SIGINT, from another thread, after so many seconds."""

    def __init__(self, delay: float) -> None:
        self._timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        # Inside the guard of the program: the signal comes now at the latest, while nothing of ours is at work.
        self._timer.cancel()
        self._timer.join()


async def _busy(trace: Trace, engine: str, *, rounds: int | None = None) -> Any:
    """Goes on, in all ways of waiting, until it is interrupted, or for so many rounds."""

    async def branch(item: int) -> int:
        trace.begun += 1
        try:
            for _ in range(item % 5):
                await asyncio.sleep(0)
            await cano.sleep(0.0002)
            await asyncio.sleep(0.0002)
            return item
        finally:
            trace.ended += 1

    for _ in itertools.count() if rounds is None else range(rounds):
        split = await fan_out(branch, range(12), strategy=JoinStrategy.Quorum(8), bulkhead=8, engine=engine)
        assert split.completed_count >= 8
    return "done"


async def _signalled(trace: Trace, engine: str, delay: float) -> None:
    with Signal(delay):
        await asyncio.wait_for(_busy(trace, engine), 60)


@pytest.mark.skipif(sys.platform == "win32", reason="signals work in another way there")
def test_real_signals_at_random_moments(engine: str, tried: Callable[..., None]) -> None:
    """Under `asyncio.run`, which turns the signal into a cancellation: whatever was running is cleaned up, and nothing hangs."""
    rng = random.Random(f"{SEED} signals")
    interrupted = 0
    rounds = 2_000 if SOAK else 25
    for number in range(rounds):
        trace = Trace()
        delay = rng.uniform(0.0, 0.02)
        try:
            asyncio.run(_signalled(trace, engine, delay))
        except KeyboardInterrupt:
            interrupted += 1
        assert trace.begun == trace.ended, f"signal {number}, after {delay} s"
    assert asyncio.run(_busy(Trace(), engine, rounds=10)) == "done"
    tried(signals=interrupted)
    assert interrupted == rounds
