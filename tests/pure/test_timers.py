"""A split's own timers: a heap of marks, and one handle of the loop for the earliest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from cano._engine.pure.timers import SWEPT, Timer, Timers
from cano.testing import VirtualTimeLoop

pytestmark = pytest.mark.fault("coverage")


@pytest.fixture
def loop() -> Iterator[VirtualTimeLoop]:
    loop = VirtualTimeLoop()
    complaints: list[object] = []  # an exception in a callback is nobody's otherwise
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield loop
    loop.close()
    assert complaints == []


def handles(loop: VirtualTimeLoop) -> list[float]:
    """When the loop is going to call, of what was not cancelled."""
    return sorted(handle.when() for handle in loop._scheduled if not handle.cancelled())  # type: ignore[attr-defined]


def test_they_fire_in_order_and_at_their_time(loop: VirtualTimeLoop) -> None:
    fired: list[tuple[float, str]] = []
    turns: list[float] = []
    timers = Timers(loop, lambda: turns.append(loop.time()))
    for when, name in ((3, "c"), (1, "a"), (1, "b"), (2, "cancelled")):
        timer = timers.add(when, lambda name: fired.append((loop.time(), name)), name)
    timers.cancel(timer)
    loop.run_until_complete(asyncio.sleep(10))
    assert fired == [(1, "a"), (1, "b"), (3, "c")]
    assert turns == [1, 2, 3]  # one call for both of the same moment; that of the cancelled one finds nothing to do


def test_one_handle_for_all_of_them(loop: VirtualTimeLoop) -> None:
    timers = Timers(loop, lambda: None)
    for when in (5, 5, 7, 3):
        timers.add(when, print, None)
    assert handles(loop) == [3]


def test_cancelling_one_that_has_fired_is_harmless(loop: VirtualTimeLoop) -> None:
    fired: list[int] = []
    timers = Timers(loop, lambda: None)
    timer = timers.add(1, fired.append, 1)
    later = timers.add(2, fired.append, 2)
    loop.run_until_complete(asyncio.sleep(1.5))
    timers.cancel(timer)
    timers.cancel(timer)
    assert timers._dead == 0
    timers.cancel(later)
    timers.cancel(later)
    assert timers._dead == 1
    loop.run_until_complete(asyncio.sleep(1))
    assert fired == [1]


def test_cancelled_ones_are_swept_once_they_outnumber_the_others(loop: VirtualTimeLoop) -> None:
    """A few with each that is cancelled or added: a heap of a million in one go would keep the loop."""
    fired: list[int] = []
    timers = Timers(loop, lambda: None)
    made = [timers.add(1 + number, fired.append, number) for number in range(1000)]
    for timer in made[:500]:
        timers.cancel(timer)
    assert (len(timers._heap), len(timers._swept)) == (1000, 0)
    timers.cancel(made[500])
    assert (len(timers._heap), len(timers._swept)) == (SWEPT, 1000 - SWEPT)
    for timer in made[501:600]:
        timers.cancel(timer)
    for number in range(1000, 1150):
        timers.add(1 + number, fired.append, number)
    assert timers._swept == []
    assert len(timers._heap) == 550 + timers._dead
    assert handles(loop) == [timers._heap[0][0]]  # armed for the earliest that is left
    loop.run_until_complete(asyncio.sleep(2000))
    assert fired == list(range(600, 1150))
    assert timers._dead == 0


@pytest.mark.parametrize("seed", range(20))
def test_as_a_sorted_list(loop: VirtualTimeLoop, seed: int) -> None:
    """Whatever is added and cancelled, while it is being swept and otherwise: what is left fires at its time, in order."""
    random = Random(seed)
    fired: list[tuple[float, int]] = []
    timers = Timers(loop, lambda: None)
    living: dict[int, tuple[float, Timer]] = {}
    swept: set[bool] = set()

    def fire(number: int) -> None:
        fired.append((loop.time(), number))
        when, _ = living.pop(number)
        assert when == loop.time()
        assert all(others >= when for others, _ in living.values())

    async def main() -> None:
        for number in range(4000):
            when = loop.time() + random.randrange(1, 50)
            living[number] = when, timers.add(when, fire, number)
            if random.random() < 0.8:
                timers.cancel(living.pop(random.choice(list(living)))[1])
            swept.add(bool(timers._swept))
            if random.random() < 0.02:
                await asyncio.sleep(random.randrange(3))
        await asyncio.sleep(100)

    loop.run_until_complete(main())
    assert swept == {True, False}
    assert living == {}
    assert (timers._heap, timers._swept, timers._dead) == ([], [], 0)
    assert fired == sorted(fired, key=lambda row: row[0])


async def test_passing_over_what_was_cancelled_keeps_to_the_slice() -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1

    loop = asyncio.get_running_loop()
    timers = Timers(loop, turn)
    ended = loop.create_future()
    soon = loop.time() + 0.5
    cancelled = [timers.add(soon, ended.set_exception, RuntimeError) for _ in range(50_000)]
    for _ in cancelled:  # so many that a sweep is not worth it
        timers.add(soon + 1000, ended.set_exception, RuntimeError)
    timers.add(soon, ended.set_result, None)
    for timer in cancelled:
        timers.cancel(timer)
    await ended
    assert timers._swept == []
    assert turns > 3
    timers.close()


def test_cancelled_behind_the_earliest_the_handle_stays(loop: VirtualTimeLoop) -> None:
    timers = Timers(loop, lambda: None)
    timers.add(1, print, None)
    handle = timers._handle
    for timer in [timers.add(2 + number, print, number) for number in range(65)]:
        timers.cancel(timer)
    assert timers._handle is handle
    assert handles(loop) == [1]


def test_what_is_added_by_a_timer_has_its_turn_later(loop: VirtualTimeLoop) -> None:
    turns: list[list[str]] = [[]]
    timers = Timers(loop, lambda: turns.append([]))

    def first(_: object) -> None:
        turns[-1].append("first")
        timers.add(0, lambda name: turns[-1].append(name), "second")

    timers.add(0, first, None)
    loop.run_until_complete(asyncio.sleep(1))
    assert turns == [["first"], ["second"], []]


def test_one_that_raises_leaves_the_others_their_turn(loop: VirtualTimeLoop) -> None:
    fired: list[int] = []
    timers = Timers(loop, lambda: None)

    def fails(_: object) -> None:
        raise ValueError

    timers.add(1, fails, None)
    timers.add(1, fired.append, 2)
    complaints: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    loop.run_until_complete(asyncio.sleep(2))
    assert fired == [2]
    assert [type(error) for error in complaints] == [ValueError]


def test_after_a_slice_the_loop_has_its_turn() -> None:
    loop = asyncio.new_event_loop()
    turns: list[list[int]] = [[]]
    timers = Timers(loop, lambda: turns.append([]))

    def works(number: int) -> None:
        turns[-1].append(number)
        end = loop.time() + 0.002
        while loop.time() < end:
            pass

    for number in range(3):
        timers.add(0, works, number)
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()
    assert turns == [[0], [1], [2], []]


def test_closed_they_are_forgotten(loop: VirtualTimeLoop) -> None:
    fired: list[int] = []
    timers = Timers(loop, lambda: fired.append(0))
    timers.close()
    timers.add(1, fired.append, 1)
    timers.close()
    timers.let_go()
    assert handles(loop) == []
    loop.run_until_complete(asyncio.sleep(2))
    assert fired == []
    timers.add(3, fired.append, 3)  # of a loser that still cleans up; nobody is called after it any more
    loop.run_until_complete(asyncio.sleep(2))
    assert fired == [3]
