"""A split of any size leaves the event loop responsive."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.probe import Probe

from cano import JoinConfig, JoinError, JoinStrategy, Retry, Workflow, as_completed, fan_out, sleep

# What is measured is how long the loop was kept from other work: seconds of this thread's own processor time, so that
# whatever else the machine does is left out. So is Python's collector, which stops everybody for as long as it takes.
pytestmark = [
    pytest.mark.fault("F14"),
    pytest.mark.real_time,
    pytest.mark.usefixtures("warm", "no_collector"),
]

# Promised are about 10 ms; the clock of slow machines is coarse.
ALLOWED = 0.03
TRIES = 3


@pytest.fixture
def warm(engine):
    """Nothing is imported at first use while it is measured."""
    asyncio.run(fan_out(echo, range(2), engine=engine))


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def leaves_the_loop(run: Callable[[], Awaitable[Any]], *, allowed: float = ALLOWED) -> None:
    """Run it, three times at most: an engine that keeps the loop does so each time, a machine that is busy does not."""
    worst: list[float] = []
    for _ in range(TRIES):
        async with Probe() as probe:
            kept = await run()  # letting go of it takes the user's time, not ours
        del kept
        assert probe.turns > 2
        worst.append(probe.worst)
        if probe.worst < allowed:
            return
    pytest.fail(f"the loop was kept for {', '.join(f'{seconds * 1000:.1f}' for seconds in worst)} ms")


async def joined(split: Awaitable[Any]) -> tuple[Any, Any]:
    """What came of a split, failed or not, and the error."""
    try:
        return await split, None
    except JoinError as error:
        return error.result, error


async def echo(item: int) -> int:
    return item


async def turns(item: int) -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return item


async def fail(item: int) -> None:
    raise ValueError(item)


async def hang(_: int) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.fixture
def many(engine):
    """So many branches that they take a few tenths of a second."""
    return {"native": 200_000, "python": 30_000}[engine]


@pytest.mark.parametrize(
    ("fn", "options"),
    [
        (echo, {}),
        (turns, {}),
        (echo, {"bulkhead": 10}),
        (turns, {"bulkhead": 1000}),
        (fail, {"fail_fast": False}),
        (fail, {"fail_fast": False, "retry": Retry.fixed(1, 0)}),
        (lambda item: sleep(0.001, item), {"inline": True}),
    ],
    ids=["at once", "suspending", "bulkhead", "bulkhead, suspending", "failing", "retrying", "sleeping"],
)
async def test_starting_and_ending_branches(engine, many, fn, options):
    if fn is fail:
        many //= 2  # the group of all their exceptions is made in one go: about 100 ns for each of them

    async def run() -> Any:
        result, error = await joined(fan_out(fn, range(many), engine=engine, **options))
        assert result.completed_count == many
        return result, error

    await leaves_the_loop(run)


@pytest.mark.parametrize("way", ["sleeps", "attempt timeouts"])
async def test_timers_of_one_moment(engine, many, way):
    """The loop was kept by somebody else, and now all that slept meanwhile is due in the same turn."""
    count, delay = many // (2 if way == "sleeps" else 6), 0.5  # of timeouts fewer: a group is made of them, as above
    attempt_timeout = delay if way == "attempt timeouts" else None

    async def run() -> Any:
        begun: list[int] = []

        async def branch(item: int) -> None:
            begun.append(item)
            await (sleep(delay) if way == "sleeps" else hang(item))

        async def keep_the_loop() -> None:
            while len(begun) < count:
                await asyncio.sleep(0)
            time.sleep(delay)  # noqa: ASYNC251 - that is the point

        keeper = asyncio.create_task(keep_the_loop())
        split = fan_out(branch, range(count), fail_fast=False, attempt_timeout=attempt_timeout, engine=engine)
        result, error = await joined(split)
        await keeper
        assert result.completed_count == count
        return result, error

    await leaves_the_loop(run)


async def test_one_exception_of_all_branches(engine):
    same = ValueError("same")

    async def branch(_: int) -> None:
        raise same

    async def run() -> Any:
        with pytest.raises(JoinError) as caught:
            await fan_out(branch, range(10_000), fail_fast=False, engine=engine)
        assert caught.value.exceptions == (same,) * 10_000
        return caught

    await leaves_the_loop(run)


async def sleeps(_: int) -> None:
    await sleep(1000)


async def spins(_: int) -> None:
    while True:
        await asyncio.sleep(0)


@pytest.mark.parametrize("waits", [hang, sleeps, spins])
async def test_cancelling_branches(engine, many, waits):
    async def run() -> None:
        begun = asyncio.get_running_loop().create_future()

        async def branch(item: int) -> None:
            if item == many - 1:
                begun.set_result(None)
            await waits(item)

        split = asyncio.create_task(fan_out(branch, range(many), engine=engine))
        await begun
        split.cancel()
        with pytest.raises(asyncio.CancelledError):
            await split

    await leaves_the_loop(run)


async def test_a_lazy_source_without_end(engine, many):
    def source():
        item = 0
        while True:
            yield item
            item += 1

    async def branch(item: int) -> int:
        if item < many:
            raise ValueError(item)
        return item

    async def run() -> Any:
        result = await fan_out(branch, source, strategy=JoinStrategy.Any, bulkhead=10, engine=engine)
        assert result.outputs() == [many]
        return result

    await leaves_the_loop(run)


async def test_collecting(engine):
    """Whoever takes results in a loop finds the next ready each time, and never waits of himself."""

    async def run() -> None:
        taken = [row.result async for row in as_completed(echo, range(40_000), engine=engine)]
        assert sorted(taken) == list(range(40_000))

    await leaves_the_loop(run)


async def test_streaming(engine):
    """What a run tells is not more at once than it does in a turn."""
    workflow: Workflow[str] = Workflow(engine=engine)
    workflow.register_map("split", echo, range(20_000), JoinConfig(JoinStrategy.All, "done")).add_exit_state("done")

    async def run() -> None:
        seen = [event.kind async for event in workflow.stream("split")]
        assert seen.count("branch_success") == 20_000

    await leaves_the_loop(run)


async def test_sync_branches(engine):
    async def run() -> None:
        result = await fan_out(lambda item: item, range(10_000), engine=engine)
        assert result.completed_count == 10_000

    await leaves_the_loop(run, allowed=2 * ALLOWED)


async def test_splits_at_once_take_turns(engine, many):
    """A large split does not make a small one wait until it is done."""
    order: list[str] = []

    async def large() -> None:
        await fan_out(turns, range(many), engine=engine)
        order.append("large")

    async def small() -> None:
        await asyncio.sleep(0)
        await fan_out(turns, range(10), engine=engine)
        order.append("small")

    await asyncio.gather(large(), small())
    assert order == ["small", "large"]
