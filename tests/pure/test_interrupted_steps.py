"""What a KeyboardInterrupt loses at an instruction, done by hand, and how the pure engine makes up for it.

`tests/faults/test_interrupts.py` interrupts at every instruction there is; it does so by tracing, and what is traced cannot be
counted as reached. Here are the places, one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import pytest

from cano import Workflow, fan_out, sleep
from cano._engine import failures
from cano._engine.attempts import CANCELLED, ERROR, OK
from cano._engine.pure.branch import Branch
from cano._engine.pure.driver import SplitDriver
from cano._engine.pure.timers import Timers
from cano.testing import VirtualTimeLoop

pytestmark = pytest.mark.fault("F8", "coverage")


class Split:
    """As much of a split as one branch needs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = loop.time
        self.batch: list[Branch] = []
        self.released = False
        self.turns = 0
        self.timers = Timers(loop, self.end_turn)
        self.ended: list[tuple[int, Any, BaseException | None]] = []

    def end_turn(self) -> None:
        self.turns += 1

    def raises_fatal(self) -> bool:
        return True

    def turns_are_due(self) -> bool:
        return False

    def attempt_ended(self, attempt: Any, outcome: int, result: Any, error: BaseException | None) -> None:
        self.ended.append((outcome, result, error))


@pytest.fixture
def loop() -> Iterator[VirtualTimeLoop]:
    loop = VirtualTimeLoop()
    yield loop
    loop.close()


@pytest.fixture
def split(loop: VirtualTimeLoop) -> Split:
    return Split(loop)


def turn(loop: VirtualTimeLoop, seconds: float = 0) -> None:
    loop.run_until_complete(asyncio.sleep(seconds))


def begin(split: Any, coro: Any) -> Branch:
    """Start a branch as the loop does."""
    branch = Branch(split, 0, 1, coro, contextvars.copy_context())
    split.loop.call_soon(branch.begin)
    turn(split.loop)
    return branch


def once(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, *, after: bool = False) -> None:
    """Have a function interrupted the first time, before or after what it does."""
    real = getattr(where, name)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(where, name, real)
        if after:
            real(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(where, name, interrupted)


async def waits(future: Any) -> Any:
    return await future


# --- one branch -------------------------------------------------------------------------------------------------------


class Suspends:
    """A coroutine in whose `send`, right after it has suspended, the interrupt comes."""

    cr_suspended = True
    thrown: BaseException | None = None

    def send(self, _: None) -> None:
        raise KeyboardInterrupt

    def throw(self, error: BaseException) -> None:
        self.thrown = error
        self.cr_suspended = False
        raise error

    def close(self) -> None: ...


def test_right_after_it_has_suspended_it_ends_by_the_interrupt(split: Split) -> None:
    coro = Suspends()
    with pytest.raises(KeyboardInterrupt):
        begin(split, coro)
    turn(split.loop)
    [(outcome, _, error)] = split.ended
    assert (outcome, error) == (ERROR, coro.thrown)
    assert isinstance(error, KeyboardInterrupt)


def test_the_loop_forgot_to_wake_it(split: Split) -> None:
    future = split.loop.create_future()
    branch = begin(split, waits(future))
    branch.look_again()  # nothing is lost yet
    turn(split.loop)
    future.remove_done_callback(branch._wakeup)
    future.set_result("done")
    branch.look_again()
    turn(split.loop)
    turn(split.loop)
    assert split.ended == [(OK, "done", None)]


def test_it_is_woken_after_all(split: Split) -> None:
    future = split.loop.create_future()
    branch = begin(split, waits(future))
    future.set_result("done")
    branch.look_again()  # has its turn behind the loop's
    turn(split.loop)
    turn(split.loop)
    assert split.ended == [(OK, "done", None)]


def test_it_is_woken_twice(split: Split) -> None:
    future, other = split.loop.create_future(), split.loop.create_future()

    async def branch() -> str:
        await future
        await other
        return "done"

    twice = begin(split, branch())
    split.loop.call_soon(twice._wakeup, future)
    future.set_result(None)
    turn(split.loop)  # the loop wakes it as well, while it waits for the other
    assert twice._fut_waiter is other
    other.set_result(None)
    turn(split.loop)
    assert split.ended == [(OK, "done", None)]


def test_its_place_in_the_batch_is_lost(split: Split) -> None:
    branch = begin(split, asyncio.sleep(0, "done"))
    assert split.batch == [branch]
    branch.look_again()
    turn(split.loop)
    turn(split.loop)
    assert split.ended == [(OK, "done", None)]


@pytest.mark.parametrize("after", [False, True])
def test_it_yielded_a_future_and_does_not_wait_for_it(
    split: Split, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Resumed at once it would hear of it from asyncio: `await wasn't used with future`."""
    future = split.loop.create_future()
    once(monkeypatch, Branch, "_park", after=after)
    branch = Branch(split, 0, 1, waits(future), contextvars.copy_context())  # type: ignore[arg-type]
    split.loop.call_soon(branch.begin)
    with pytest.raises(KeyboardInterrupt):
        turn(split.loop)
    branch.look_again()
    branch.look_again()
    turn(split.loop)
    assert branch._fut_waiter is future
    assert len(future._callbacks) == 1  # type: ignore[attr-defined]
    future.set_result("done")
    turn(split.loop)
    assert split.ended == [(OK, "done", None)]


@pytest.mark.parametrize("after", [False, True])
def test_it_yielded_a_pause_and_does_not_wait_for_it(
    split: Split, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    async def pauses() -> float:
        await sleep(5)
        return split.loop.time()

    once(monkeypatch, Branch, "_park", after=after)
    branch = Branch(split, 0, 1, pauses(), contextvars.copy_context())  # type: ignore[arg-type]
    split.loop.call_soon(branch.begin)
    with pytest.raises(KeyboardInterrupt):
        turn(split.loop)
    branch.look_again()
    turn(split.loop)
    turn(split.loop, 10)
    assert split.ended == [(OK, 5, None)]
    assert split.timers._heap == []


def test_it_yielded_nonsense_and_nobody_told_it(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nonsense:
        def __await__(self) -> Iterator[str]:
            yield "nonsense"

    once(monkeypatch, Branch, "_park")
    branch = Branch(split, 0, 1, waits(Nonsense()), contextvars.copy_context())  # type: ignore[arg-type]
    split.loop.call_soon(branch.begin)
    with pytest.raises(KeyboardInterrupt):
        turn(split.loop)
    branch.look_again()
    turn(split.loop)
    turn(split.loop)
    [(outcome, _, error)] = split.ended
    assert outcome == ERROR
    assert str(error) == "Task got bad yield: 'nonsense'"


class Raises(asyncio.Future[str]):
    """A future that raises the first time it is to call somebody back."""

    error: BaseException | None = None

    def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        super().add_done_callback(fn, context=context)


def test_what_it_waits_for_raises(split: Split) -> None:
    future = Raises(loop=split.loop)
    future.error = OSError("not now")
    branch = begin(split, waits(future))
    assert branch._fut_waiter is None
    turn(split.loop)
    [(outcome, _, error)] = split.ended
    assert (outcome, type(error)) == (ERROR, OSError)


def test_what_it_waits_for_calls_back_at_once_and_then_raises(split: Split) -> None:
    class AtOnce(asyncio.Future[str]):
        def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
            self.set_result("done")
            fn(self)
            raise OSError("too late")

    begin(split, waits(AtOnce(loop=split.loop)))
    turn(split.loop)
    assert split.ended == [(OK, "done", None)]


def test_what_it_waits_for_is_interrupted(split: Split) -> None:
    future = Raises(loop=split.loop)
    future.error = KeyboardInterrupt()
    branch = Branch(split, 0, 1, waits(future), contextvars.copy_context())  # type: ignore[arg-type]
    split.loop.call_soon(branch.begin)
    with pytest.raises(KeyboardInterrupt):
        turn(split.loop)
    branch.look_again()
    turn(split.loop)
    future.set_result("done")
    turn(split.loop)
    assert split.ended == [(OK, "done", None)]


def test_its_pause_is_over_and_it_was_not_woken(split: Split) -> None:
    branch = begin(split, waits(sleep(5, "done")))
    pause = branch._fut_waiter
    split.timers.cancel(pause._timer)
    pause._branch = pause._timer = None
    branch.look_again()
    turn(split.loop)
    turn(split.loop)
    assert split.ended == [(OK, "done", None)]


def test_what_it_yielded_cannot_be_shown(split: Split) -> None:
    class Hidden:
        def __await__(self) -> Iterator[Any]:
            yield self

        def __repr__(self) -> str:
            raise ValueError

    begin(split, waits(Hidden()))
    turn(split.loop)
    [(_, _, error)] = split.ended
    assert str(error) == "Task got bad yield: <an object whose repr() raises>"


def test_an_error_that_does_not_show_its_traceback_is_left_as_it_is(split: Split) -> None:
    class Hides(Exception):  # noqa: N818
        @property
        def __traceback__(self) -> Any:  # type: ignore[override]
            raise ValueError

    async def fails() -> None:
        raise Hides

    begin(split, fails())
    [(outcome, _, error)] = split.ended
    assert (outcome, type(error)) == (ERROR, Hides)


def test_its_last_step_is_not_noted(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed it would raise `cannot reuse already awaited coroutine`, and the log would tell of a RuntimeError."""
    once(monkeypatch, Branch, "_finish")
    branch = Branch(split, 0, 1, asyncio.sleep(0), contextvars.copy_context())  # type: ignore[arg-type]
    split.loop.call_soon(branch.begin)
    turn(split.loop)
    split.loop.call_soon(branch.resume)
    with pytest.raises(KeyboardInterrupt):
        turn(split.loop)
    branch.look_again()
    turn(split.loop)
    turn(split.loop)
    assert split.ended == [(CANCELLED, None, None)]
    branch.look_again()  # it has ended
    turn(split.loop)
    turn(split.loop)
    assert len(split.ended) == 1


def test_the_loop_forgot_the_timers(loop: VirtualTimeLoop) -> None:
    fired: list[int] = []
    timers = Timers(loop, lambda: None)
    timers.rearm()  # there is none
    timers.add(1, fired.append, 1)
    timers.add(2, fired.append, 2)
    for passes in (1.5, 1):
        handle = timers._handle
        assert handle is not None
        handle.cancel()  # as far as the loop knows
        turn(loop, passes)
        timers.rearm()
        turn(loop)
        turn(loop)
    assert fired == [1, 2]


# --- a split ----------------------------------------------------------------------------------------------------------


class Branches:
    """Three that wait for ever, and clean up."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []

    async def __call__(self, item: int) -> None:
        self.begun.append(item)
        try:
            await self.wait(item)
        finally:
            try:
                await sleep(1)
            finally:
                self.ended.append(item)

    async def wait(self, item: int) -> None:
        await sleep(1000)

    def interrupted(self, loop: VirtualTimeLoop, **options: Any) -> None:
        """To its end, as `asyncio.run` does it when an interrupt has left the loop."""
        task = loop.create_task(fan_out(self, range(3), engine="python", **options))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        task.cancel()
        with contextlib.suppress(KeyboardInterrupt):  # of a split that was being opened, at its end
            loop.run_until_complete(asyncio.wait([task]))
        assert task.done()
        assert sorted(self.ended) == self.begun
        assert asyncio.all_tasks(loop) == set()


def test_cancelled_where_its_source_is_opened(loop: VirtualTimeLoop) -> None:
    def source() -> Any:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(fan_out(waits, source, engine="python"))


def test_before_it_is_opened(loop: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    once(monkeypatch, SplitDriver, "_settle")
    branches = Branches()
    branches.interrupted(loop)
    assert branches.begun == []


def test_while_it_is_opened(loop: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    once(monkeypatch, SplitDriver, "_open")
    branches = Branches()
    branches.interrupted(loop)
    assert branches.begun == []


@pytest.mark.parametrize("step", ["_open", "_settled"])
def test_once_it_is_open(loop: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    once(monkeypatch, SplitDriver, step, after=step == "_open")
    branches = Branches()
    branches.interrupted(loop)
    assert branches.begun == [0, 1, 2]


def test_between_the_handlers_of_who_waits_for_it(loop: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SplitDriver._settle

    async def interrupted(self: SplitDriver) -> None:
        monkeypatch.setattr(SplitDriver, "_settle", real)
        self._open()
        raise KeyboardInterrupt

    monkeypatch.setattr(SplitDriver, "_settle", interrupted)
    branches = Branches()
    branches.interrupted(loop)
    assert branches.begun == [0, 1, 2]


def test_before_the_end_of_a_branch_is_counted(loop: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    class End(Branches):
        async def wait(self, item: int) -> None:
            await sleep(item)

    once(monkeypatch, SplitDriver, "attempt_ended")
    branches = End()
    branches.interrupted(loop)
    assert branches.begun == [0, 1, 2]


def test_where_a_failed_branch_is_noted(loop: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fail(Branches):
        async def wait(self, item: int) -> None:
            await sleep(item)
            raise ValueError(item)

    once(monkeypatch, failures, "note_branch")
    Fail().interrupted(loop, fail_fast=False)


def test_a_split_in_a_branch_looks_again_as_well(loop: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Branches()

    class Outer(Branches):
        async def wait(self, item: int) -> None:
            await fan_out(inner, range(3), engine="python")

    outer = Outer()
    task = loop.create_task(fan_out(outer, range(1), engine="python"))
    turn(loop, 1)
    task.cancel()
    turn(loop)
    for _ in range(3):
        turn(loop)
    # All clean up, in the inner split's timers, and the loop forgets these.
    forgotten = [handle for handle in loop._scheduled if "Timers" in repr(handle._callback)]  # type: ignore[attr-defined]
    assert forgotten
    for handle in forgotten:
        handle.cancel()
    turn(loop, 10)
    assert inner.ended == []
    task.cancel()
    turn(loop, 10)
    assert inner.ended == [0, 1, 2]
    assert task.cancelled()


# --- a run ------------------------------------------------------------------------------------------------------------


class Clock(VirtualTimeLoop):
    """A clock that is interrupted once it is told to be."""

    interrupted = False

    def time(self) -> float:
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        return super().time()


def test_where_a_run_goes_on() -> None:
    loop = Clock()
    log: list[str] = []

    async def task() -> str:
        future = loop.create_future()

        def interrupt(_: object) -> None:
            loop.interrupted = True  # at the next look at the clock, which is that of the run as it goes on

        future.add_done_callback(interrupt)
        loop.call_later(1, future.set_result, None)
        try:
            await future
        except KeyboardInterrupt:
            log.append("interrupted")
            raise
        return "end"

    workflow: Workflow[str] = Workflow(engine="python")
    workflow.register("start", task).add_exit_state("end")
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(workflow.orchestrate("start"))
    loop.close()
    assert log == ["interrupted"]
