"""A split's own timers: a heap of marks, and one handle of the loop for the earliest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from cano._engine.pure.timers import Timers
from cano.testing import VirtualTimeLoop

pytestmark = pytest.mark.fault("coverage")


@pytest.fixture
def loop() -> Iterator[VirtualTimeLoop]:
    loop = VirtualTimeLoop()
    yield loop
    loop.close()


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
    fired: list[int] = []
    timers = Timers(loop, lambda: None)
    made = [timers.add(1 + number, fired.append, number) for number in range(100)]
    for timer in made[:64]:
        timers.cancel(timer)
    assert len(timers._heap) == 100
    timers.cancel(made[64])
    assert len(timers._heap) == 35
    assert timers._dead == 0
    assert handles(loop) == [66]  # armed for the earliest that is left
    loop.run_until_complete(asyncio.sleep(200))
    assert fired == list(range(65, 100))


def test_when_all_are_cancelled_nothing_is_scheduled(loop: VirtualTimeLoop) -> None:
    timers = Timers(loop, lambda: None)
    for timer in [timers.add(1 + number, print, number) for number in range(65)]:
        timers.cancel(timer)
    assert timers._heap == []
    assert handles(loop) == []
    timers._arm()
    assert handles(loop) == []


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
