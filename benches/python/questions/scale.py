"""Does the cost per branch stay the same from 10² to 10⁶? And what do the other large shapes cost?

Each point in a fresh process, once: seconds of wall and of CPU time, and how far the peak of memory rose.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benches.python import process
from benches.python.harness import Budget
from benches.python.questions.common import GATHER, NATIVE, PURE, by_gather, by_workflow

import cano
from cano import JoinConfig, JoinStrategy, MemoryStore, Workflow, fan_out

BULKHEAD = 1_000
BOUNDED = "cano, native, bulkhead of 1,000, lazy source"
# asyncio alone takes too long for a million sleeps and for its nested splits at this size: left to one try of the rest.
LARGEST = {("sleep", GATHER): 100_000, ("no-op", PURE): 100_000, ("sleep", PURE): 100_000}


def points(budget: Budget) -> list[dict[str, Any]]:
    sizes = [n for n in (100, 1_000, 10_000, 100_000, 1_000_000) if n <= budget.largest]
    found = [
        {"case": case, "n": n, "who": who}
        for case in ("no-op", "sleep")
        for n in sizes
        for who in (NATIVE, BOUNDED, PURE, GATHER)
        if n <= LARGEST.get((case, who), n)
    ]
    large = 1_000_000 // budget.shrink**2
    for case, n, others in (
        ("nested: 1,000 splits of 1,000", large, (GATHER,)),
        ("10,000 concurrent runs", 10_000 // budget.shrink, (PURE, GATHER)),
        ("a chain of 1,000,000", large, (PURE,)),
    ):
        found += [{"case": case, "n": n, "who": who} for who in (NATIVE, *others)]
    return found


async def returns(item: int) -> int:
    return item


async def sleeps_engine(item: int) -> int:
    await cano.sleep(0.001)
    return item


async def sleeps_asyncio(item: int) -> int:
    await asyncio.sleep(0.001)
    return item


def job_of(case: str, who: str, n: int) -> Callable[[], Awaitable[Any]]:
    """The job of a point. Fairness asks with the same ones."""
    engine = "python" if who == PURE else "native"
    if case in {"no-op", "sleep"}:
        fn: Any = returns if case == "no-op" else sleeps_asyncio if who == GATHER else sleeps_engine
        if who == GATHER:
            return by_gather(fn, n)
        if who == BOUNDED:

            async def bounded() -> None:
                await fan_out(fn, (item for item in range(n)), bulkhead=BULKHEAD, engine="native")

            return bounded
        return by_workflow(fn, n, engine)
    if case.startswith("nested"):
        side = round(n**0.5)
        inner = by_gather(returns, side) if who == GATHER else by_workflow(returns, side, engine)

        async def branch(_item: int) -> None:
            await inner()

        return by_gather(branch, side) if who == GATHER else by_workflow(branch, side, engine)
    if case.startswith("a chain"):
        return _chain(n, engine)
    return _runs(n, engine, who)


def _chain(n: int, engine: str) -> Callable[[], Awaitable[Any]]:
    route = itertools.chain(itertools.islice(itertools.cycle("ba"), n - 1), ["end"])

    async def step() -> str:
        return next(route)

    workflow = Workflow[str](engine=engine).register("a", step).register("b", step).add_exit_state("end")

    async def chained() -> None:
        await workflow.orchestrate("a")

    return chained


def _runs(n: int, engine: str, who: str) -> Callable[[], Awaitable[Any]]:
    """Many runs at once: a state, a split of three that sleep, a state; each run with a store of its own."""
    sleep = asyncio.sleep if who == GATHER else cano.sleep

    async def first(store: Any) -> str:
        store.put("x", 1)
        return "split"

    async def branch(_item: int) -> None:
        await sleep(0.001)

    async def last(store: Any) -> str:
        return "end" if store.get("x") == 1 else "first"

    if who == GATHER:

        class Store(dict[str, Any]):
            put = dict.__setitem__
            get = dict.__getitem__  # type: ignore[assignment]

        async def one() -> None:
            store = Store()
            await first(store)
            await asyncio.gather(*[branch(item) for item in range(3)])
            await last(store)

    else:
        workflow = Workflow[str](engine=engine).register("first", first).register("last", last).add_exit_state("end")
        workflow.register_map("split", branch, range(3), JoinConfig(JoinStrategy.All, "last"))

        async def one() -> None:
            await workflow.orchestrate("first", store=MemoryStore())

    async def all_at_once() -> None:
        await asyncio.gather(*[one() for _ in range(n)])

    return all_at_once


async def measure(point: dict[str, Any]) -> dict[str, Any]:
    case, who, n = point["case"], point["who"], point["n"]
    await job_of(case, who, 4)()  # what happens only once
    # A small one is over too soon to be read once.
    repeat = max(1, 20_000 // n) if case in {"no-op", "sleep"} else 1
    jobs = [job_of(case, who, n) for _ in range(repeat)]
    gc.collect()
    process.forget_peak()
    before = process.resident()
    wall, cpu = time.perf_counter(), time.process_time()
    for job in jobs:
        await job()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    grown = max(0, process.peak() - before)
    return {**point, "repeat": repeat, "wall": wall / repeat, "cpu": cpu / repeat, "peak_bytes": grown}
