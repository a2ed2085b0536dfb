"""A collector, and whoever looks through its eyes, at every phase of a run: the run goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import cano
from cano import (
    JoinConfig,
    JoinError,
    JoinStrategy,
    MemoryStore,
    Retry,
    SplitTimeoutError,
    Workflow,
    as_completed,
    fan_out,
)
from cano.observe import KINDS

pytestmark = [pytest.mark.fault("F7"), pytest.mark.timeout(600)]

ROUNDS = 100 if os.environ.get("CANO_SOAK") == "1" else 3

Look = Callable[[str], None]


@pytest.fixture(autouse=True)
def _few() -> Iterator[None]:
    """What pytest and its plugins are made of need not be looked at a thousand times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Restless:
    """A value that looks when it dies, when it is compared, and when it is printed."""

    def __init__(self, look: Look, number: int) -> None:
        self.look, self.number = look, number
        self.me = self  # only a collection ends it

    def __eq__(self, other: object) -> bool:
        self.look("eq")
        return isinstance(other, Restless) and other.number == self.number

    def __hash__(self) -> int:
        self.look("hash")
        return self.number

    def __repr__(self) -> str:
        self.look("repr")
        return f"Restless({self.number})"

    def __del__(self) -> None:
        self.look("del")


class Flaky(Exception):  # noqa: N818
    """What is retried."""


class Observer:
    """Looks at every event."""

    def __init__(self, look: Look) -> None:
        for kind in KINDS:
            setattr(self, f"on_{kind}", lambda _, kind=kind: look(kind))


def looking_flow(engine: str, look: Look) -> Workflow[str]:
    """Every phase there is looks: sources, calls, suspensions, retries, joins, clean-up, observers, the store."""
    failed: set[int] = set()

    def source() -> Iterator[int]:
        try:
            for number in range(12):
                look("source")
                yield number
        finally:
            look("source closed")

    async def branch(number: int, store: MemoryStore) -> Restless:
        look("begin")
        made = Restless(look, number)
        ring: list[Any] = [made, number]
        ring.append(ring)
        store.update("count", lambda count: look("update") or count + 1)
        if number % 4 == 1 and number not in failed:
            failed.add(number)
            raise Flaky(made)
        try:
            await asyncio.sleep(0)
            look("after a yield")
            await cano.sleep(0.0002 * (number % 3))
            look("after a timer")
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(lambda: future.done() or future.set_result(made))
            assert await future is made
            look("after a future")
            if number >= 8:
                await asyncio.sleep(3600)
        finally:
            look("finally")
        assert ring[2] is ring
        assert ring[0].number == number
        return made

    def retry_on(error: BaseException) -> bool:
        look("retry_on")
        return isinstance(error, Flaky)

    def judge(progress: Any) -> str:
        look("judge")
        return "proceed" if progress.succeeded == 8 else "wait"

    def total(store: MemoryStore) -> str:
        look("thread")
        rows = store["split_results"].successes
        look("rows")
        assert sorted(row.result.number for row in rows) == list(range(8))
        return "inner"

    async def inner(number: int) -> list[int]:
        look("outer")
        rows = [row.result async for row in as_completed(quick, asynchronous, engine=engine)]
        return sorted(rows)

    async def asynchronous() -> AsyncIterator[int]:
        for number in range(3):
            look("async source")
            await asyncio.sleep(0)
            yield number

    async def quick(number: int) -> int:
        look("inner")
        await asyncio.sleep(0)
        return number

    join: JoinConfig[str] = JoinConfig(JoinStrategy.Custom(judge), "total", store_partial_results=True, bulkhead=5)
    flow = Workflow[str](engine=engine).add_exit_state("done").add_observer(Observer(look))
    flow.register_map("start", branch, source, join, retry=Retry.fixed(2, 0.0001, retry_on=retry_on))
    flow.register("total", total)
    return flow.register_map("inner", inner, range(2), JoinConfig(JoinStrategy.All, "done", timeout=600))


PHASES = {
    "source", "source closed", "begin", "update", "retry_on", "after a yield", "after a timer", "after a future", "finally",
    "judge", "thread", "rows", "outer", "inner", "async source", "del", "branch_start", "branch_success", "join", "task_start",
}  # fmt: skip


def run_looking(engine: str, look: Look) -> Counter[str]:
    """Run it; how often each phase was looked at."""
    seen: Counter[str] = Counter()
    busy = threading.local()

    def guarded(phase: str) -> None:
        seen[phase] += 1
        if not getattr(busy, "now", False):  # what a look sets off looks no further
            busy.now = True
            try:
                look(phase)
            finally:
                busy.now = False

    async def main() -> str:
        store = MemoryStore()
        store.put("count", 0)
        reached = await looking_flow(engine, guarded).orchestrate("start", store=store)
        assert 9 <= store["count"] <= 12 + 3  # some may not have begun, or not again, when it is decided
        assert [row.result for row in store["split_results"].successes] != []
        return reached

    assert asyncio.run(main()) == "done"
    gc.collect()
    return seen


def test_a_collection_at_every_phase(engine: str, tried: Any) -> None:
    seen = Counter[str]()
    for _ in range(ROUNDS):
        seen += run_looking(engine, lambda _: gc.collect() and None)
    assert not PHASES - seen.keys(), PHASES - seen.keys()
    tried(collections=sum(seen.values()))


def test_only_the_young_are_collected_at_every_phase(engine: str, tried: Any) -> None:
    """Generation by generation, so that what is half-made moves into the old ones at all sorts of moments."""
    turn = iter(range(10**9))
    seen = Counter[str]()
    for _ in range(ROUNDS):
        seen += run_looking(engine, lambda _: gc.collect(next(turn) % 3) and None)
    tried(collections=sum(seen.values()))


def look_at_everything(_: str) -> None:
    """What a debugger or a leak hunter does."""
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("cano") or type(thing).__name__ == "coroutine":
            for other in gc.get_referents(thing):
                repr(type(other))
            if not isinstance(thing, type):
                repr(thing)
            sys.getsizeof(thing)
            gc.is_tracked(thing)


def test_everything_is_looked_at_in_every_phase(engine: str, tried: Any) -> None:
    seen = Counter[str]()
    for _ in range(ROUNDS):
        seen += run_looking(engine, look_at_everything)
    tried(looks=sum(seen.values()))


async def test_a_leak_hunter_finds_who_refers_to_a_local(engine: str) -> None:
    """By way of the coroutine, or of the branch that spares the collector the sight of it; and from there up to the run."""

    class Local:
        pass

    found: list[set[str]] = []
    future = asyncio.get_running_loop().create_future()

    async def branch(_: int) -> None:
        local = Local()
        await future
        assert local

    def names_of_referrers(depth: int = 12) -> set[str]:
        (local,) = (thing for thing in gc.get_objects() if type(thing) is Local)
        names: set[str] = set()
        seen, layer = {id(local)}, [local]
        for _ in range(depth):
            layer = [
                other for other in gc.get_referrers(*layer) if id(other) not in seen and type(other).__name__ != "frame"
            ]
            seen |= {id(other) for other in layer}
            names |= {type(other).__name__ for other in layer}
        return names

    def look() -> None:
        found.append(names_of_referrers())
        future.set_result(None)

    asyncio.get_running_loop().call_later(0.001, look)
    await fan_out(branch, [1], engine=engine)
    assert "Branch" in found[0], found[0]


def test_a_thread_that_collects_all_the_time(engine: str, tried: Any) -> None:
    """On a free-threaded build truly at the same time, with the world stopped wherever the run happens to be."""
    stop, rounds = threading.Event(), Counter[str]()

    def collect() -> None:
        while not stop.is_set():
            gc.collect(rounds["collections"] % 3)
            rounds["collections"] += 1

    async def fail(number: int) -> int:
        await asyncio.sleep(0)
        if number == 3:
            raise Flaky(number)
        await asyncio.sleep(60)
        return number

    async def main() -> None:
        for _ in range(40):
            with suppress(JoinError, SplitTimeoutError):
                await fan_out(fail, range(6), engine=engine, timeout=1)
            store = MemoryStore()
            store.put("count", 0)
            assert await looking_flow(engine, lambda _: None).orchestrate("start", store=store) == "done"

    collector = threading.Thread(target=collect)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    collector.start()
    try:
        asyncio.run(main())
    finally:
        stop.set()
        collector.join(300)
        sys.setswitchinterval(before)
    assert rounds["collections"] > 3
    tried(collections=rounds["collections"])
