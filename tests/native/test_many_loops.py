"""Many event loops in many threads at once, which share a workflow, a store, worker threads and the collector."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from cano import JoinConfig, JoinError, JoinStrategy, Workflow, as_completed, fan_out

pytestmark = pytest.mark.fault("F4", "F11")

LOOPS = 8
RUNS = 10


@pytest.fixture(autouse=True)
def _restless():
    """Threads change as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def each_on_its_own_loop(work: Any) -> None:
    """Run `work(number)` on loops in threads of their own, all begun at the same moment."""
    errors: list[BaseException] = []
    together = threading.Barrier(LOOPS)

    def run(number: int) -> None:
        try:
            together.wait(200)
            asyncio.run(work(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(LOOPS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


def test_they_share_a_workflow(engine: str) -> None:
    async def branch(item: int, store: Any) -> int:
        await asyncio.sleep(0)
        store.update("branches", lambda count: count + 1)
        return item

    def count(store: Any) -> str:
        store.update("runs", lambda count: count + 1)
        return "done"

    workflow = Workflow[str](engine=engine).add_exit_state("done").register("counted", count)
    workflow.register_map("start", branch, range(20), JoinConfig(JoinStrategy.All, "counted", bulkhead=7))
    workflow.store.put("branches", 0)
    workflow.store.put("runs", 0)

    async def work(_: int) -> None:
        for _ in range(RUNS):
            assert await workflow.orchestrate("start", timeout=200) == "done"

    each_on_its_own_loop(work)
    assert workflow.store["runs"] == LOOPS * RUNS
    assert workflow.store["branches"] == LOOPS * RUNS * 20


def test_they_share_the_worker_threads(engine: str) -> None:
    async def work(number: int) -> None:
        for run in range(RUNS):
            items = range(number * 1000 + run, number * 1000 + run + 30)
            split = await fan_out(lambda item: item * 2, items, engine=engine)
            assert split.outputs() == [item * 2 for item in items]

    each_on_its_own_loop(work)


def test_failures_and_losers_stay_where_they_are(engine: str) -> None:
    async def uneven(item: int) -> int:
        await asyncio.sleep(0)
        if item % 3 == 0:
            raise ValueError(item)
        if item % 3 == 1:
            await asyncio.sleep(60)
        return item

    async def work(number: int) -> None:
        items = range(number, number + 12)
        for _ in range(RUNS):
            split = await fan_out(uneven, items, strategy=JoinStrategy.Quorum(3), engine=engine)
            assert [row.result for row in split.successes] == [item for item in items if item % 3 == 2][:3]
            with pytest.raises(JoinError) as raised:
                await fan_out(uneven, items, engine=engine)
            first = next(item for item in items if item % 3 == 0)
            assert [error.args for error in raised.value.exceptions] == [(first,)]
            rows = [row.result async for row in as_completed(uneven, range(2, 30, 3), bulkhead=2, engine=engine)]
            assert sorted(rows) == list(range(2, 30, 3))

    each_on_its_own_loop(work)
