"""The bulkhead: at most n branches are live, and those beyond it do not exist yet."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from cano import ConfigurationError, JoinConfig, JoinStrategy, Retry, Workflow, fan_out


class Gauge:
    """Counts how many are inside, and how many were at most."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0

    def __enter__(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        self.inside -= 1


@pytest.mark.parametrize("bulkhead", [1, 2, 5, 20, None])
async def test_at_most_n_are_live(engine, bulkhead):
    gauge = Gauge()

    async def branch(item: int) -> int:
        with gauge:
            await asyncio.sleep(1 + item % 3)
        return item

    result = await fan_out(branch, range(10), bulkhead=bulkhead, engine=engine)
    assert result.outputs() == list(range(10))
    assert gauge.most == min(bulkhead or 10, 10)


async def test_a_permit_is_passed_on_at_the_completion(engine):
    loop = asyncio.get_running_loop()
    began = loop.time()
    started: list[float] = []

    async def branch(duration: float) -> None:
        started.append(loop.time() - began)
        await asyncio.sleep(duration)

    await fan_out(branch, [1, 3, 1, 1, 1], bulkhead=2, engine=engine)
    assert started == [0, 0, 1, 2, 3]


async def test_branches_beyond_it_have_no_coroutine(engine):
    """An `async def` that was called is a coroutine; so the function must not even be called."""
    called: list[int] = []

    async def wait(item: int) -> int:
        await asyncio.sleep(1)
        return item

    def branch(item: int) -> Any:
        called.append(item)
        return wait(item)

    async def look() -> list[int]:
        await asyncio.sleep(0.5)
        return called.copy()

    looking = asyncio.create_task(look())
    await fan_out(branch, range(6), bulkhead=2, inline=True, engine=engine)
    assert await looking == [0, 1]
    assert called == list(range(6))


async def test_no_item_is_drawn_beyond_it(engine):
    gauge = Gauge()
    drawn: list[int] = []
    ended: list[int] = []

    def source():
        for item in range(6):
            drawn.append(item)
            assert len(drawn) - len(ended) <= 2
            yield item

    async def branch(item: int) -> None:
        with gauge:
            await asyncio.sleep(1)
        ended.append(item)

    await fan_out(branch, source, bulkhead=2, engine=engine)
    assert drawn == ended == list(range(6))
    assert gauge.most == 2


async def test_no_item_of_an_async_source_is_drawn_beyond_it(engine):
    drawn: list[int] = []
    ended: list[int] = []

    async def source():
        for item in range(6):
            drawn.append(item)
            assert len(drawn) - len(ended) <= 2
            yield item
            await asyncio.sleep(0)

    async def branch(item: int) -> None:
        await asyncio.sleep(1)
        ended.append(item)

    await fan_out(branch, source, bulkhead=2, engine=engine)
    assert drawn == ended == list(range(6))


@pytest.mark.alone
async def test_memory_follows_the_bulkhead(engine):
    """What a branch was given and what it held is let go of when it ends."""

    class Item:
        pass

    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def source():
        for _ in range(200):
            item = Item()
            alive.add(item)
            yield item
            del item

    async def branch(item: Item) -> None:
        nonlocal most
        await asyncio.sleep(1)
        most = max(most, len(alive))

    gc.disable()
    try:
        await fan_out(branch, source, bulkhead=4, engine=engine)
    finally:
        gc.enable()
    assert most <= 6


async def test_a_branch_in_back_off_holds_no_permit(engine):
    loop = asyncio.get_running_loop()
    began = loop.time()
    started: list[tuple[int, float]] = []

    async def branch(item: int) -> int:
        started.append((item, loop.time() - began))
        if item == 0 and loop.time() - began < 5:
            raise ValueError(item)
        await asyncio.sleep(1)
        return item

    result = await fan_out(branch, range(3), bulkhead=1, retry=Retry.fixed(1, 10), engine=engine)
    assert started == [(0, 0), (1, 0), (2, 1), (0, 10)]
    assert result.outputs() == [0, 1, 2]


async def test_a_due_retry_goes_before_a_fresh_branch(engine):
    started: list[int] = []

    async def branch(item: int) -> int:
        started.append(item)
        await asyncio.sleep(1)
        if item == 0 and started.count(0) == 1:
            raise ValueError(item)
        return item

    await fan_out(branch, range(4), bulkhead=1, retry=Retry.fixed(1, 0.5), engine=engine)
    assert started == [0, 1, 0, 2, 3]


async def test_at_most_n_are_live_under_retries(engine):
    gauge = Gauge()
    tries: dict[int, int] = {}

    async def branch(item: int) -> int:
        with gauge:
            await asyncio.sleep(1 + item % 2)
            tries[item] = tries.get(item, 0) + 1
            if tries[item] <= item % 4:
                raise ValueError(item)
            return item

    result = await fan_out(branch, range(20), bulkhead=3, retry=Retry.fixed(4, 0.25), engine=engine)
    assert gauge.most == 3
    assert {row.task_index: row.attempts for row in result.successes} == {i: i % 4 + 1 for i in range(20)}


async def test_a_decision_leaves_the_rest_unborn(engine):
    started: list[int] = []

    async def branch(item: int) -> int:
        started.append(item)
        await asyncio.sleep(1)
        return item

    result = await fan_out(branch, range(10), bulkhead=2, strategy=JoinStrategy.Quorum(3), engine=engine)
    assert started == [0, 1, 2, 3]
    assert result.cancelled == (3, 4, 5, 6, 7, 8, 9)


async def test_sync_branches_too(engine):
    gauge = Gauge()

    def branch(item: int) -> int:
        with gauge:
            return item

    result = await fan_out(branch, range(20), bulkhead=1, engine=engine)
    assert result.outputs() == list(range(20))
    assert gauge.most == 1


@pytest.mark.parametrize("bulkhead", [0, -3])
async def test_below_one_is_a_mistake(engine, bulkhead):
    workflow = Workflow(engine=engine).add_exit_state("end")
    workflow.register_split("fan", [lambda: 1], JoinConfig(JoinStrategy.All, "end", bulkhead=bulkhead))
    with pytest.raises(ConfigurationError, match="no branch could ever start"):
        workflow.validate()
    with pytest.raises(ConfigurationError, match="no branch could ever start"):
        await fan_out(print, [], bulkhead=bulkhead, engine=engine)
