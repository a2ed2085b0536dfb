"""The timers of a split at their edges: where a count, a moment or a lost handle decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cano._engine.pure.timers import CANCELS, PASSED, SLICE, SWEPT, Timers
from cano.testing import VirtualTimeLoop

pytestmark = pytest.mark.fault("coverage")


class Clock(VirtualTimeLoop):
    """A loop that counts how often it is asked for the time, and whose time others may move on."""

    looks = 0

    def time(self) -> float:
        self.looks += 1
        return super().time()

    def move(self, seconds: float) -> None:
        self._virtual += seconds


@pytest.fixture
def loop() -> Iterator[Clock]:
    loop = Clock()
    complaints: list[Any] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield loop
    loop.close()
    assert complaints == []


def in_turns(loop: Clock, count: int, callback: Callable[[Any], Any]) -> list[list[Any]]:
    """What fires in each turn, of so many timers that are due at one moment."""
    turns: list[list[Any]] = [[]]
    timers = Timers(loop, lambda: turns.append([]))

    def fire(argument: Any) -> bool:
        turns[-1].append(argument)
        return bool(callback(argument))

    for number in range(count):
        timers.add(loop.time() + 1, fire, number)
    loop.run_until_complete(asyncio.sleep(2))
    return [turn for turn in turns if turn]


def test_so_many_are_cancelled_in_a_turn(loop: Clock) -> None:
    turns = in_turns(loop, 2 * CANCELS + 1, lambda _: True)
    assert [len(turn) for turn in turns] == [CANCELS, CANCELS, 1]
    turns = in_turns(loop, 2 * CANCELS + 1, lambda _: False)
    assert [len(turn) for turn in turns] == [2 * CANCELS + 1]


def test_one_that_takes_just_a_slice_ends_the_turn(loop: Clock) -> None:
    # From 1 s on, so that the sum is the slice's end to the last bit.
    assert in_turns(loop, 3, lambda _: loop.move(SLICE)) == [[0], [1], [2]]


def test_what_is_passed_over_costs_few_looks_at_the_clock(loop: Clock) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1

    timers = Timers(loop, turn)
    fired: list[int] = []
    for timer in [timers.add(1, print, None) for _ in range(3 * PASSED)]:
        timers.add(9, print, None)  # so that no sweep is worth it
        timers.cancel(timer)
    timers.add(1, fired.append, 1)
    loop.move(1)
    before = loop.looks
    timers._fire()
    # When it began, after each so many, and after the one that fired.
    assert loop.looks - before - (1 if timers._handle else 0) <= 1 + 3 + 1
    assert (fired, turns) == ([1], 1)
    timers.close()


def test_a_sweep_is_worth_it_from_65_on(loop: Clock) -> None:
    timers = Timers(loop, lambda: None)
    made = [timers.add(1 + number, print, None) for number in range(100)]
    for timer in made[:64]:
        timers.cancel(timer)
    assert (len(timers._heap), len(timers._swept)) == (100, 0)
    timers.cancel(made[64])
    assert (len(timers._heap), len(timers._swept)) == (SWEPT, 100 - SWEPT)


def test_one_whose_argument_is_none_is_not_swept(loop: Clock) -> None:
    fired: list[None] = []
    timers = Timers(loop, lambda: None)
    made = [timers.add(1 + number, fired.append, None) for number in range(100)]
    for timer in made[:70]:
        timers.cancel(timer)
    for number in range(100, 130):
        timers.cancel(timers.add(1 + number, fired.append, None))
    assert timers._swept == []
    loop.run_until_complete(asyncio.sleep(200))
    assert fired == [None] * 30


@pytest.mark.parametrize("heap", ["swept", "other"])
def test_the_earliest_may_be_in_either_heap(loop: Clock, heap: str) -> None:
    fired: list[object] = []
    timers = Timers(loop, lambda: None)
    made = [timers.add(100 + number, fired.append, number) for number in range(200)]
    for timer in made[1:102]:
        timers.cancel(timer)
    assert timers._swept
    assert timers._heap
    if heap == "other":
        timers.add(50, fired.append, "early")
    loop.run_until_complete(asyncio.sleep(100))
    assert fired == (["early", 0] if heap == "other" else [0])
    assert timers._swept  # nothing was cancelled or added since
    timers.close()


def test_closed_in_a_sweep_nothing_is_left(loop: Clock) -> None:
    fired: list[int] = []
    timers = Timers(loop, lambda: None)
    made = [timers.add(1 + number, fired.append, number) for number in range(200)]
    for timer in made[:101]:
        timers.cancel(timer)
    timers.close()
    assert (timers._heap, timers._swept, timers._dead, timers._handle) == ([], [], 0, None)
    # One that comes afterwards has a handle of its own, though it is due when the earliest of the others was.
    timers.add(1, fired.append, -1)
    loop.run_until_complete(asyncio.sleep(300))
    assert fired == [-1]


class TestRearmed:
    """A KeyboardInterrupt may have lost the loop's handle, in ways that nobody can see."""

    def test_what_is_not_due_fires_in_time(self, loop: Clock) -> None:
        fired: list[float] = []
        timers = Timers(loop, lambda: None)
        timers.add(3, lambda _: fired.append(loop.time()), None)
        assert timers._handle is not None
        lost = timers._handle
        lost.cancel()
        timers.rearm()
        assert timers._handle is not lost
        loop.run_until_complete(asyncio.sleep(5))
        assert fired == [3]

    def test_one_handle_is_armed(self, loop: Clock) -> None:
        timers = Timers(loop, lambda: None)
        timers.add(3, print, None)
        before = timers._handle
        timers.rearm()
        assert before is not None
        assert before.cancelled()
        assert timers._handle is not None
        assert not timers._handle.cancelled()
        timers.close()

    def test_without_a_timer_there_is_none(self, loop: Clock) -> None:
        timers = Timers(loop, lambda: None)
        timers.add(3, print, None)
        timers._heap.clear()
        timers.rearm()
        assert timers._handle is None

    @pytest.mark.parametrize("late", [0, 1], ids=["just now", "since a while"])
    def test_what_is_due_fires_in_the_next_turn(self, loop: Clock, late: float) -> None:
        fired: list[int] = []
        timers = Timers(loop, lambda: None)

        async def main() -> None:
            timers.add(3, fired.append, 3)
            assert timers._handle is not None
            timers._handle.cancel()
            loop.move(3 + late)
            timers.rearm()
            assert fired == []
            await asyncio.sleep(0)
            assert fired == [3]

        loop.run_until_complete(main())

    @pytest.mark.parametrize("late", [0, 1], ids=["just now", "since a while"])
    def test_at_every_turn_nothing_is_put_off(self, loop: Clock, late: float) -> None:
        fired: list[int] = []
        timers = Timers(loop, lambda: None)

        async def main() -> None:
            for _ in range(10):  # a moment is no serial number
                timers.cancel(timers.add(9, fired.append, 9))
            timers.add(3, fired.append, 3)
            loop.move(3 + late)
            for _ in range(3):
                timers.rearm()
                await asyncio.sleep(0)
            assert fired == [3]

        loop.run_until_complete(main())

    def test_twice_in_a_turn_it_fires_once(self, loop: Clock) -> None:
        fired: list[int] = []
        timers = Timers(loop, lambda: None)

        async def main() -> None:
            timers.add(3, fired.append, 3)
            loop.move(3)
            timers.rearm()
            timers.rearm()
            await asyncio.sleep(0)
            assert fired == [3]
            assert timers._handle is None

        loop.run_until_complete(main())

    def test_no_handle_is_left_of_what_it_had_armed_before(self, loop: Clock) -> None:
        timers = Timers(loop, lambda: None)

        async def main() -> None:
            timers.add(3, print, None)
            timers.add(3000, print, None)
            loop.move(4)
            timers.rearm()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            timers.close()

        loop.run_until_complete(main())
        assert [handle for handle in loop._scheduled if not handle.cancelled()] == []  # type: ignore[attr-defined]

    def test_what_is_due_later_is_left_alone(self, loop: Clock) -> None:
        fired: list[int] = []
        timers = Timers(loop, lambda: None)

        async def main() -> None:
            timers.add(3, fired.append, 3)
            timers.rearm()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert fired == []
            timers.close()

        loop.run_until_complete(main())
