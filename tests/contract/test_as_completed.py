"""`as_completed`: results as they end, in a loop that holds the branches back."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from cano import ConfigurationError, Retry, SplitTimeoutError, TaskError, as_completed
from cano.testing import run


async def play(outcome: float) -> float:
    """Positive: succeed after so many seconds; negative: fail."""
    await asyncio.sleep(abs(outcome))
    if outcome < 0:
        raise ValueError(outcome)
    return outcome


async def collect(engine: str, items: Any, fn: Any = play, **options: Any) -> list[tuple[int, Any]]:
    return [
        (done.task_index, done.result if done.error is None else type(done.error))
        async for done in as_completed(fn, items, engine=engine, **options)
    ]


async def test_in_order_of_completion(engine):
    assert await collect(engine, [3, 1, 2]) == [(1, 1), (2, 2), (0, 3)]


async def test_in_index_order(engine):
    assert await collect(engine, [3, 1, 2], ordered=True) == [(0, 3), (1, 1), (2, 2)]


async def test_each_comes_as_it_ends(engine):
    loop = asyncio.get_running_loop()
    began = loop.time()
    times = [(loop.time() - began, done.result) async for done in as_completed(play, [3, 1, 2], engine=engine)]
    assert times == [(1, 1), (2, 2), (3, 3)]


async def test_in_index_order_each_comes_as_soon_as_those_before_it(engine):
    loop = asyncio.get_running_loop()
    began = loop.time()
    rows = as_completed(play, [2, 1, 4, 3], ordered=True, engine=engine)
    times = [(loop.time() - began, done.task_index) async for done in rows]
    assert times == [(2, 0), (2, 1), (4, 2), (4, 3)]


async def test_a_row_tells_everything(engine):
    (row,) = [done async for done in as_completed(play, [2], engine=engine)]
    assert (row.task_index, row.result, row.error, row.attempts, row.duration) == (0, 2, None, 1, 2.0)


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_failed_branch_is_yielded_like_any_other(engine, ordered):
    rows = await collect(engine, [1, -2, 3, -4], ordered=ordered)
    assert rows == [(0, 1), (1, ValueError), (2, 3), (3, ValueError)]


async def test_all_may_fail(engine):
    assert await collect(engine, [-1, -2]) == [(0, ValueError), (1, ValueError)]


async def test_nothing_to_do(engine):
    assert await collect(engine, []) == []
    assert await collect(engine, lambda: iter(())) == []


async def test_the_options_of_a_split(engine):
    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        if tries.count(item) == 1:
            await asyncio.sleep(99)
        return item

    rows = [
        (done.result, done.attempts)
        async for done in as_completed(
            branch, range(3), bulkhead=1, retry=Retry.fixed(1, 0), attempt_timeout=2, engine=engine
        )
    ]
    assert rows == [(0, 2), (1, 2), (2, 2)]


async def test_sync_branches(engine):
    rows = await collect(engine, range(50), lambda item: item, ordered=True, bulkhead=7)
    assert rows == [(item, item) for item in range(50)]
    rows = await collect(engine, range(5), lambda item: item, inline=True)
    assert rows == [(item, item) for item in range(5)]


async def test_an_async_source(engine):
    async def source():
        for item in (2, 1):
            await asyncio.sleep(0)
            yield item

    assert await collect(engine, source) == [(1, 1), (0, 2)]


# --- back-pressure ---


class Watch:
    """Branches, and how many of them are started and not taken."""

    def __init__(self, delay: float = 0) -> None:
        self.delay = delay
        self.started = 0
        self.taken = 0
        self.most = 0
        self.drawn = 0

    def source(self):
        for item in range(60):
            self.drawn += 1
            yield item

    async def run(self, item: int) -> int:
        self.started += 1
        self.most = max(self.most, self.started - self.taken)
        if self.delay:
            await asyncio.sleep(self.delay * (1 + item % 3))
        return item


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("bulkhead", "buffer"), [(1, 1), (2, 3), (5, 1), (3, None)])
async def test_a_slow_consumer_holds_the_branches_back(engine, delay, ordered, bulkhead, buffer):
    watch = Watch(delay)
    rows = as_completed(watch.run, watch.source, bulkhead=bulkhead, buffer=buffer, ordered=ordered, engine=engine)
    taken = []
    async for done in rows:
        taken.append(done.task_index)
        await asyncio.sleep(10)
        watch.taken += 1
    assert sorted(taken) == list(range(60))
    # One more than bulkhead + buffer: the row the consumer holds has been taken, and is counted here when it is done.
    assert watch.most <= bulkhead + (buffer or bulkhead) + 1
    assert watch.drawn == 60


async def test_nothing_is_drawn_for_a_consumer_that_does_not_take(engine):
    watch = Watch()
    async with aclosing(as_completed(watch.run, watch.source, bulkhead=2, buffer=3, engine=engine)) as rows:
        await anext(rows)
        await asyncio.sleep(99)
        assert watch.started <= 1 + 2 + 3
        assert watch.drawn == watch.started


async def test_the_buffer_of_a_split_without_bulkhead_is_1000(engine):
    started = 0

    async def branch(item: int) -> int:
        nonlocal started
        started += 1
        return item

    async with aclosing(as_completed(branch, range(5000), engine=engine)) as rows:
        await anext(rows)
        await asyncio.sleep(99)
        assert started == 1001


async def test_nothing_starts_before_the_first_step(engine):
    watch = Watch()
    rows = as_completed(watch.run, watch.source, engine=engine)
    await asyncio.sleep(1)
    assert (watch.started, watch.drawn) == (0, 0)
    await rows.aclose()
    assert (watch.started, watch.drawn) == (0, 0)


# --- leaving early ---


class Slow:
    def __init__(self) -> None:
        self.log: list[str] = []

    async def run(self, item: float) -> float:
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            self.log.append(f"{item} over")
            raise
        return item


async def test_leaving_early_cancels_and_awaits_what_runs(engine):
    slow = Slow()
    began = asyncio.get_running_loop().time()
    async with aclosing(as_completed(slow.run, [1, 50, 99], engine=engine)) as rows:
        async for done in rows:
            assert done.result == 1
            break
    assert asyncio.get_running_loop().time() - began == 2
    assert sorted(slow.log) == ["50 over", "99 over"]


async def test_cancelling_the_consumer_cancels_and_awaits_what_runs(engine):
    slow = Slow()

    async def consume() -> None:
        async for _ in as_completed(slow.run, [50, 99], engine=engine):
            raise AssertionError

    task = asyncio.create_task(consume())
    await asyncio.sleep(1)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("enough",)
    assert sorted(slow.log) == ["50 over", "99 over"]


async def test_cancelling_again_does_not_interrupt_the_clean_up(engine):
    slow = Slow()

    async def consume() -> None:
        async for _ in as_completed(slow.run, [50, 99], engine=engine):
            raise AssertionError

    task = asyncio.create_task(consume())
    await asyncio.sleep(1)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.125)
    assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(slow.log) == ["50 over", "99 over"]


async def test_an_error_in_the_loops_body_cancels_what_runs(engine):
    slow = Slow()
    with pytest.raises(KeyError):
        async with aclosing(as_completed(slow.run, [1, 99], engine=engine)) as rows:
            async for _ in rows:
                raise KeyError
    assert slow.log == ["99 over"]


async def test_a_step_that_was_cancelled_loses_nothing(engine):
    """`wait_for` around one step: the next one goes on where it was."""
    rows = as_completed(play, [5, 6], engine=engine)
    step = asyncio.ensure_future(anext(rows))
    await asyncio.sleep(1)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    # A generator that was cancelled is over; what ran has ended.
    with pytest.raises(StopAsyncIteration):
        await anext(rows)


# --- how it ends ---


@pytest.mark.parametrize("ordered", [False, True])
async def test_the_timeout_is_raised_after_what_ended_was_yielded(engine, ordered):
    seen: list[int] = []
    with pytest.raises(SplitTimeoutError) as caught:
        async for done in as_completed(play, [1, 99, -2, 3], timeout=4, ordered=ordered, engine=engine):
            seen.append(done.task_index)
    assert seen == [0, 2, 3]
    assert caught.value.limit == 4
    result = caught.value.result
    assert result is not None
    assert (result.completed_count, result.total_count, result.cancelled) == (3, 4, (1,))


async def test_the_timeout_is_raised_late_to_a_slow_consumer(engine):
    seen: list[int] = []
    with pytest.raises(SplitTimeoutError):
        async for done in as_completed(play, [1, 2, 3, 99], timeout=4, engine=engine):
            await asyncio.sleep(50)
            seen.append(done.task_index)
    assert seen == [0, 1, 2]


async def test_an_error_of_the_source_is_raised_after_what_ended_was_yielded(engine):
    trouble = OSError()

    def source():
        yield 1
        yield 2
        raise trouble

    seen: list[float] = []
    with pytest.raises(TaskError) as caught:
        async for done in as_completed(play, source, bulkhead=1, engine=engine):
            assert done.result is not None
            seen.append(done.result)
    assert caught.value.__cause__ is trouble
    assert seen == [1, 2]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_branch_goes_through(engine, kind):
    log: list[str] = []

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(0)
            if item:
                raise kind
            await asyncio.sleep(99)
        finally:
            log.append(f"{item} over")

    async def main() -> None:
        async for _ in as_completed(branch, range(2), engine=engine):
            raise AssertionError

    with pytest.raises(kind):
        asyncio.run(main())
    assert sorted(log) == ["0 over", "1 over"]


@pytest.mark.parametrize(
    "options",
    [{"buffer": 0}, {"buffer": -1}, {"buffer": True}, {"ordered": 1}, {"bulkhead": 0}, {"timeout": 0}, {"engine": "x"}],
    ids=str,
)
def test_bad_options_are_refused_by_the_call_itself(engine, options):
    with pytest.raises(ConfigurationError):
        as_completed(play, [1], **{"engine": engine, **options})


@pytest.mark.parametrize("name", ["strategy", "fail_fast", "min_successes", "hedge_delay"])
def test_options_it_does_not_have(name):
    with pytest.raises(TypeError):
        as_completed(play, [1], **{name: 1})


async def test_two_loops_at_once(engine):
    first = as_completed(play, [1, 3], engine=engine)
    second = as_completed(play, [2, 4], engine=engine)
    seen = [(await anext(rows)).result for rows in (first, second, first, second)]
    assert seen == [1, 2, 3, 4]
    for rows in (first, second):
        with pytest.raises(StopAsyncIteration):
            await anext(rows)


async def test_inside_a_branch(engine):
    async def outer(item: int) -> list[Any]:
        return [done.result async for done in as_completed(play, [item + 1, item], engine=engine)]

    assert [done.result async for done in as_completed(outer, [1, 3], engine=engine)] == [[1, 2], [3, 4]]


async def test_nothing_is_left_afterwards(engine):
    async for _ in as_completed(play, [1, 2], engine=engine):
        pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_consumer_gives_the_loop_its_turn_though_the_clock_stands_still(engine):
    """Whoever finds a result ready each time never waits; in virtual time no slice is ever over."""
    turns = 0

    async def echo(item: int) -> int:
        return item

    async def main() -> None:
        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        assert len([row async for row in as_completed(echo, range(20_000), engine=engine)]) == 20_000
        ticker.cancel()

    run(main())
    assert turns >= 20_000 // 2_048


@pytest.mark.parametrize("lazily", [False, True])
async def test_branches_that_wait_for_their_next_attempt_hold_others_back(engine, lazily):
    """They have been started and not been taken, like those whose results wait."""
    started: set[int] = set()
    taken = most = 0

    async def fail(item: int) -> None:
        nonlocal most
        started.add(item)
        most = max(most, len(started) - taken)
        await asyncio.sleep(1)
        raise OSError

    async def source() -> Any:
        for item in range(30):
            yield item

    items: Any = source() if lazily else range(30)
    rows = as_completed(fail, items, bulkhead=2, buffer=3, retry=Retry.fixed(1, 60), engine=engine)
    async for _ in rows:
        taken += 1
    assert taken == 30
    assert 3 < most <= 2 + 3


@pytest.mark.real_time
def test_taken_on_another_loop_it_says_so(engine):
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def branch(item: int) -> int:
        await asyncio.sleep(0)
        return item

    async def take(rows: Any) -> Any:
        return await anext(rows)

    rows = as_completed(branch, range(3), buffer=1, engine=engine)
    first.run_until_complete(take(rows))
    with pytest.raises(RuntimeError, match="another one"):
        second.run_until_complete(take(rows))
    for loop in (first, second):
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
