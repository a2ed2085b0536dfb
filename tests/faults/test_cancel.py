"""F1: cancelled at every turn of the loop, by all who may; nothing is left, it arrives, the count is back at 0.

`tests/contract/test_cancellation.py` looks closer at a dozen workflows; here are all programs, with branches that are the
engine's own, and with real tasks; there, and for a second time while it cleans up, the short form takes some of the turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from tests.faults.cancelled import ALL, WAYS, Attempt
from tests.faults.points import SOAK, some

pytestmark = [pytest.mark.fault("F1"), pytest.mark.timeout(1800 if SOAK else 300)]

SHORT = 6
# Here a limit of the program's own cancels the task that runs it. If that is in the very same turn, asyncio keeps the first
# cancellation's message, which is none.
OWN_LIMIT = ("timed_out", "many_turns_in_a_state", "a_run_past_its_limit")


def points(engine: str, shape: str, way: str, real_tasks: bool, count: int) -> Iterator[tuple[int, ...]]:
    """Before which turns to cancel, one run each."""
    if way != "while cleaning up":
        for turn in some(count, SHORT if real_tasks else count, shape, way):
            yield (turn,)
        return
    # Again at each turn that the clean-up after a cancellation takes.
    for turn in range(1, count + 1) if SOAK else (count // 2 + 1,):
        ends = Attempt(shape, engine, way, (turn,), real_tasks).play().turns
        for later in some(ends - turn, SHORT, shape, way, turn):
            yield turn, turn + later


def test_there_are_many_shapes() -> None:
    assert len(ALL) >= 50


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", ALL)
def test_a_cancellation_at_every_turn(engine: str, shape: str, way: str, tried: Callable[..., None]) -> None:
    ended: Counter[str] = Counter()
    for real_tasks in (False, True):
        undisturbed = Attempt(shape, engine, way, (), real_tasks).play()
        assert undisturbed.became == "done"
        for at in points(engine, shape, way, real_tasks, undisturbed.turns):
            one = Attempt(shape, engine, way, at, real_tasks).play()
            ended[one.became] += 1
            place = f"before turn {at}, {'tasks' if real_tasks else 'branches'}: {one.became}, {one.message}"
            if way in ("timeout", "scope", "token"):
                assert one.left in (-1, 0), f"the cancellation was not taken back; {place}"
            assert one.became in (*WAYS[way], "cancelled", "done"), place
            if way in ("task", "token") and one.became != "done":
                assert one.message == ("stop",) or (shape in OWN_LIMIT and one.message == ()), place
    tried(cancellations=ended.total())
    assert ended.total() > ended["done"]
