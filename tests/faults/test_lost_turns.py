"""A turn that the event loop has lost while other branches have not had theirs: looked for when the run is cancelled.

A signal in the loop's own code loses what it was about to call (test_interrupted_loop.py). Here it is taken off the loop's
list, so that each turn of branches that yielded bare can be lost, among them those that wait behind a slice that was too
short for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cano import JoinStrategy, fan_out, sleep
from cano.testing import VirtualTimeLoop

pytestmark = pytest.mark.fault("F8")

BRANCHES = 12
YIELDS = 6
# The native engine's callback, and the pure engine's two.
RESUME = ("<cano: resume branches>", "._run_batch", "._work_off")
# That which cancels the next of very many.
CANCEL = ("<cano: cancel branches>", "._release_some")
# That which looks at the next of very many.
LOOK = ("<cano: look at a branch again>", "._look_at_some")


class Coarse(VirtualTimeLoop):
    """Time passes whenever it is looked at, so that a slice of the engine's is over after a few branches."""

    looks = 0

    def time(self) -> float:
        self.looks += 1
        return super().time() + self.looks * 0.0004

    def turns(self, of: tuple[str, ...] = RESUME) -> list[Any]:
        """The turns of branches that are due."""
        ready: list[Any] = list(self._ready)  # type: ignore[attr-defined]
        return [handle for handle in ready if any(name in repr(handle._callback) for name in of)]


class Loss:
    """A split whose branches clean up when a turn is lost: the `which`th that is due `after` so many iterations of the loop."""

    def __init__(self, engine: str, after: int, which: int) -> None:
        self.engine = engine
        self.after = after
        self.which = which
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.reached = False
        self.loop = Coarse()
        try:
            self.loop.run_until_complete(self.main())
        finally:
            self.loop.close()

    async def branch(self, item: int) -> None:
        self.begun.append(item)
        try:
            await asyncio.sleep(1000)
        finally:
            await self.gate  # one for all: they go on in one turn
            for _ in range(YIELDS):
                await asyncio.sleep(0)
            self.ended.append(item)

    async def until(self, happened: Callable[[], bool]) -> None:
        for _ in range(400):
            if happened():
                return
            await asyncio.sleep(0)
        lost = sorted(set(self.begun) - set(self.ended))
        pytest.fail(f"lost {lost}: the turn {self.which} after {self.after} iterations")

    async def main(self) -> None:
        self.gate = self.loop.create_future()
        split = asyncio.ensure_future(fan_out(self.branch, range(BRANCHES), engine=self.engine))
        await self.until(lambda: len(self.begun) == BRANCHES)
        split.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        self.gate.set_result(None)
        for _ in range(self.after):
            await asyncio.sleep(0)
        turns = self.loop.turns()
        if self.which < len(turns):
            self.reached = True
            self.loop._ready.remove(turns[self.which])  # type: ignore[attr-defined]
        split.cancel()
        await self.until(split.done)
        assert split.cancelled()
        assert sorted(self.ended) == self.begun


def test_a_lost_turn_is_made_up_for_when_the_run_is_cancelled(engine: str, tried: Callable[..., None]) -> None:
    lost = 0
    for after in range(30):
        which = 0
        while Loss(engine, after, which).reached:
            which += 1
        lost += which
    assert lost >= 3 * YIELDS
    tried(turns_lost=lost)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_the_turn_that_cancels_the_next_of_very_many(engine: str, after: int, tried: Callable[..., None]) -> None:
    count = 500
    begun: list[int] = []
    told: list[int] = []

    async def branch(item: int) -> None:
        begun.append(item)
        try:
            await asyncio.sleep(1000)
        finally:
            told.append(item)
            await asyncio.sleep(1)

    async def main() -> None:
        split = asyncio.ensure_future(fan_out(branch, range(count), engine=engine))
        while len(begun) < count:
            await asyncio.sleep(0)
        split.cancel()
        await asyncio.sleep(0)
        for _ in range(after):
            await asyncio.sleep(0)
        turns = loop.turns(CANCEL)
        assert turns
        for turn in turns:  # the first comes twice: the cancellation has looked again
            loop._ready.remove(turn)  # type: ignore[attr-defined]
        await asyncio.sleep(10)
        assert len(told) < count
        assert not split.done()
        split.cancel()
        await asyncio.sleep(10)
        assert split.cancelled()

    loop = Coarse()
    loop.run_until_complete(main())
    loop.close()
    assert told == begun == list(range(count))
    tried(turns_lost=1)


@pytest.mark.parametrize("looks_lost", [False, True])
def test_the_turns_of_very_many(engine: str, looks_lost: bool, tried: Callable[..., None]) -> None:
    """More than are looked at in one turn, and a turn of that may be lost as well."""
    count = 3000
    begun: list[int] = []
    passed: list[int] = []
    ended: list[int] = []

    async def branch(item: int) -> None:
        begun.append(item)
        await gate
        passed.append(item)
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(item)

    def lose(turns: list[Any]) -> None:
        for turn in turns:
            loop._ready.remove(turn)  # type: ignore[attr-defined]

    async def until(happened: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if happened():
                return
            await asyncio.sleep(0)
        pytest.fail(f"{len(begun)} have begun, {len(passed)} passed, {len(ended)} ended")

    async def main() -> None:
        split = asyncio.ensure_future(fan_out(branch, range(count), engine=engine))
        await until(lambda: len(begun) == count)
        gate.set_result(None)
        while len(passed) < count:
            lose(loop.turns())
            await asyncio.sleep(0)
        lose(loop.turns())
        assert ended == []
        split.cancel()
        if looks_lost:
            await asyncio.sleep(0)
            looks = loop.turns(LOOK)
            assert looks
            lose(looks)
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not split.done()
            split.cancel()
        await until(split.done)
        assert split.cancelled()

    loop = Coarse()
    gate = loop.create_future()
    loop.run_until_complete(main())
    loop.close()
    assert sorted(ended) == list(range(count))
    tried(turns_lost=count)


class Interrupted(asyncio.Future[None]):
    """The first time that it is cancelled, a KeyboardInterrupt comes."""

    interrupts = 1

    def cancel(self, msg: Any = None) -> bool:
        if self.interrupts:
            self.interrupts = 0
            raise KeyboardInterrupt
        return super().cancel(msg)


@pytest.mark.parametrize("real_tasks", [False, True])
def test_the_interrupt_comes_where_a_loser_is_cancelled(
    engine: str, real_tasks: bool, tried: Callable[..., None]
) -> None:
    """It has not been told then, and is told when the run is cancelled."""
    ended: list[int] = []

    async def branch(item: int) -> None:
        try:
            await {0: sleep(1000), 1: Interrupted(loop=loop), 2: sleep(1)}[item]
        finally:
            ended.append(item)

    loop = VirtualTimeLoop()
    if real_tasks:
        loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    task = loop.create_task(fan_out(branch, range(3), strategy=JoinStrategy.Any, engine=engine))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    assert task.cancelled()
    assert sorted(ended) == [0, 1, 2]
    tried(interrupts=1)


def test_the_interrupt_comes_where_a_loser_is_cancelled_in_the_runs_own_stack(
    engine: str, tried: Callable[..., None]
) -> None:
    """The first steps have decided: it goes on through the run, once all have ended."""
    ended: list[int] = []

    async def branch(item: int) -> None:
        try:
            if item < 3:
                await (Interrupted(loop=loop) if item == 1 else sleep(1000))
        finally:
            ended.append(item)

    loop = VirtualTimeLoop()
    task = loop.create_task(fan_out(branch, range(4), strategy=JoinStrategy.Any, engine=engine))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert isinstance(task.exception(), KeyboardInterrupt)
    loop.close()
    assert sorted(ended) == [0, 1, 2, 3]
    tried(interrupts=1)
