"""What the pure engine does with calls that come twice, too late, or from inside: its own guards, one by one."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from cano import fan_out, sleep
from cano._engine.pure.branch import Branch
from cano._engine.pure.error import MachineError
from cano._engine.pure.join import ANY, FAIL, PARTIAL_TIMEOUT, PROCEED, QUORUM, WAIT, Join, JoinRule

pytestmark = pytest.mark.fault("coverage")


def current() -> Branch:
    branch: Any = asyncio.current_task()
    assert type(branch) is Branch
    return branch


async def test_a_branch_that_has_ended_is_not_resumed() -> None:
    async def branch(_: object) -> Branch:
        return current()

    [ended] = (await fan_out(branch, [None], engine="python")).outputs()
    assert ended.split is None
    ended.resume()
    ended._resume_alone(RuntimeError("too late"))
    ended.expire(None)
    assert ended.result() is ended
    assert not ended.timed_out


async def test_a_branch_is_released_once() -> None:
    async def branch(_: object) -> int:
        task = current()
        asyncio.get_running_loop().call_soon(task.release)
        asyncio.get_running_loop().call_soon(task.release)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            pass
        await asyncio.sleep(0)
        return task.cancelling()

    assert (await fan_out(branch, [None], engine="python")).outputs() == [1]


async def test_a_pause_that_is_over_wakes_nobody() -> None:
    async def branch(_: object) -> str:
        task = current()

        def twice() -> None:
            pause = task._fut_waiter
            assert repr(pause) == "<cano.sleep(5)>"
            pause._wake(None)
            pause._wake(RuntimeError("again"))

        asyncio.get_running_loop().call_soon(twice)
        return str(await sleep(5, "woken"))

    assert (await fan_out(branch, [None], engine="python")).outputs() == ["woken"]


async def test_the_end_of_a_turn_inside_the_start_loop_starts_nothing_out_of_order() -> None:
    started: list[int] = []

    async def branch(item: int) -> None:
        started.append(item)
        split = current().split
        assert split is not None
        split.end_turn()
        assert started == list(range(item + 1))
        await asyncio.sleep(0)

    await fan_out(branch, range(3), engine="python")
    assert started == [0, 1, 2]


def test_an_illegal_event_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(MachineError("opening", "illegal")))
    assert (error.event, error.reason, str(error)) == ("opening", "illegal", str(MachineError("opening", "illegal")))


def test_a_join_counts_by_itself() -> None:
    """The split machine counts in place, for speed; this is the same, for whoever has only a join."""
    join = Join(JoinRule(QUORUM, need=2), 3)
    assert [join.succeeded(), join.failed(), join.succeeded()] == [WAIT, WAIT, PROCEED]
    assert join.progress() == (2, 1, 0, 3)
    join = Join(JoinRule(ANY), 2)
    assert [join.failed(), join.failed()] == [WAIT, FAIL]
    lazy = Join(JoinRule(PARTIAL_TIMEOUT, min_successes=1), None)
    assert lazy.progress() == (0, 0, None, None)
    assert [lazy.succeeded(), lazy.failed()] == [WAIT, WAIT]
    with pytest.raises(MachineError, match="2 branches have ended, so there are not 1"):
        lazy.source_ended(1)
    assert lazy.total is None
    assert lazy.source_ended(2) == PROCEED
