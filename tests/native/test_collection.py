"""Suspended branches are hidden from the garbage collector, and still everything that is garbage is found
(`rust/cano-py/src/collector.rs`).
"""

from __future__ import annotations

import asyncio
import gc
import sys
import sysconfig
import weakref
from types import CoroutineType
from typing import Any

import pytest

from cano import JoinError, _core, fan_out, sleep

pytestmark = pytest.mark.fault("F7")
HIDES = not sysconfig.get_config_var("Py_GIL_DISABLED")


class Thing:
    """Something that can be watched."""

    def __init__(self, branch: Any) -> None:
        self.branch = branch


async def at_once() -> None:
    pass


async def on_a_future() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


WAYS = {
    "at once": at_once,
    "a turn": lambda: asyncio.sleep(0),
    "the engine's timers": lambda: sleep(0.001),
    "a future": on_a_future,
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_result_that_holds_its_branch(way):
    """A cycle through the branch itself: result, task object, result."""
    watched: list[weakref.ref[Thing]] = []

    async def branch(_item: int) -> Thing:
        await WAYS[way]()
        thing = Thing(asyncio.current_task())
        watched.append(weakref.ref(thing))
        return thing

    await fan_out(branch, range(5), engine="native")
    gc.collect()
    assert [thing() for thing in watched] == [None] * 5


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_whose_frame_holds_its_branch(way):
    watched: list[weakref.ref[Thing]] = []

    async def branch(_item: int) -> None:
        me = Thing(asyncio.current_task())
        watched.append(weakref.ref(me))
        await WAYS[way]()
        raise ValueError

    with pytest.raises(JoinError):
        await fan_out(branch, range(5), engine="native", fail_fast=False)
    gc.collect()
    assert [thing() for thing in watched] == [None] * 5


@pytest.mark.parametrize("way", list(WAYS)[1:])
async def test_a_coroutine_that_is_kept_keeps_what_it_holds(way):
    """Somebody has the coroutine of a branch: it, its frame and all in there live, however often the collector looks."""
    kept: list[Any] = []
    watched: list[weakref.ref[Thing]] = []
    releases = [asyncio.get_running_loop().create_future()]

    async def branch(item: int) -> str:
        thing = Thing(item)
        watched.append(weakref.ref(thing))
        kept.append(asyncio.current_task().get_coro())  # type: ignore[union-attr]
        await WAYS[way]()
        await releases[0]
        return f"{thing.branch}"

    running = asyncio.ensure_future(fan_out(branch, range(3), engine="native"))
    while len(kept) < 3:
        await asyncio.sleep(0)
    for _ in range(3):
        gc.collect()
    assert [thing().branch for thing in watched] == [0, 1, 2]  # type: ignore[union-attr]
    assert all(coroutine.cr_frame.f_locals["thing"] is thing() for coroutine, thing in zip(kept, watched, strict=True))
    releases[0].set_result(None)
    assert (await running).outputs() == ["0", "1", "2"]
    del running
    releases.clear()
    kept.clear()
    gc.collect()
    assert [thing() for thing in watched] == [None] * 3


@pytest.mark.skipif(not HIDES, reason="a free-threaded build has no young generation to keep small")
async def test_what_is_hidden_and_what_is_not():
    """As long as nobody else has a branch that waits for the engine, the collector does not walk it."""
    gc.collect()
    earlier = set(_tracked("Branch", id))  # of other tests, which somebody still has
    held: list[Any] = []
    waiting = 0
    releases = [asyncio.get_running_loop().create_future()]

    async def branch(item: int) -> None:
        nonlocal waiting
        waiting += 1
        task: Any = asyncio.current_task()
        if item in ways:
            held.append(ways[item](task))
        del task
        await (releases[0] if item == 4 else sleep(3600))

    ways: dict[int, Any] = {
        1: lambda task: task,
        2: weakref.ref,
        3: lambda task: task.get_coro(),
        5: lambda task: weakref.ref(task.get_coro()),
    }
    running = asyncio.ensure_future(fan_out(branch, range(6), engine="native"))
    while waiting < 6:
        await asyncio.sleep(0)
    assert _tracked("Branch", lambda one: _number(one, earlier)) == [1, 2, 4]
    assert _tracked("coroutine", _item) == [3, 5]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    held.clear()
    del running
    releases.clear()
    gc.collect()
    assert _tracked("Branch", lambda one: _number(one, earlier)) == _tracked("coroutine", _item) == []


def _tracked(kind: str, what: Any) -> list[int]:
    types = {"Branch": _core.Branch, "coroutine": CoroutineType}
    found = (what(one) for one in gc.get_objects() if type(one) is types[kind])
    return sorted(one for one in found if one is not None)


def _number(branch: Any, earlier: set[int]) -> int | None:
    return None if id(branch) in earlier else int(branch.get_name().rpartition("-")[2])


def _item(coroutine: Any) -> int | None:
    """Of a coroutine of the branches above: which branch it is."""
    if not coroutine.__qualname__.endswith("test_what_is_hidden_and_what_is_not.<locals>.branch"):
        return None
    return coroutine.cr_frame.f_locals["item"] if coroutine.cr_frame else -1


@pytest.mark.parametrize("way", WAYS)
async def test_a_collector_that_never_rests(way):
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:

        async def branch(item: int) -> list[int]:
            garbage: list[Any] = [item]
            garbage.append(garbage)
            await WAYS[way]()
            return [item]

        split = await fan_out(branch, range(50), engine="native")
    finally:
        gc.set_threshold(*before)
    assert split.outputs() == [[item] for item in range(50)]


async def test_references_are_counted_right():
    """What a branch holds has, after the run, the references it had before."""
    value = object()
    before = sys.getrefcount(value)

    async def branch(_item: int, value: Any = value) -> None:
        kept = value
        await asyncio.sleep(0)
        await sleep(0.001)
        del kept

    count = sys.getrefcount(value)
    await fan_out(branch, range(100), engine="native")
    gc.collect()
    assert sys.getrefcount(value) == count
    del branch
    gc.collect()
    assert sys.getrefcount(value) == before
