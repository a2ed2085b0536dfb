"""Very much at once, or very often, each in a process of its own: `python programs.py CHECK ENGINE COUNT ROUNDS`.

Prints, as JSON, what figures.py describes. One in a hundred branches, runs or timers fails, one is cancelled, one runs out
of time.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tests.leaks.census import native_heap, peak, resident
from tests.probe import Probe

from cano import (
    AttemptTimeoutError,
    BranchCancelledError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    TaskError,
    Workflow,
    WorkflowTimeoutError,
    fan_out,
    sleep,
)

SHARE = 100


class Boom(Exception):  # noqa: N818 - a short word
    pass


def fault(item: int) -> str:
    return {1: "fails", 2: "is cancelled", 3: "times out"}.get(item % SHARE, "")


# --- much at once -----------------------------------------------------------------------------------------------------


async def branches(engine: str, count: int) -> float:
    """A split of very many branches, of which the last ones are not waited for."""

    async def branch(item: int) -> int:
        await sleep(0.05)
        match fault(item):
            case "fails":
                raise Boom
            case "is cancelled":
                raise asyncio.CancelledError
            case "times out":
                await sleep(1000)
        return item

    # Long enough for those that end by themselves, on this machine, at this time.
    loop = asyncio.get_running_loop()
    began = loop.time()
    await fan_out(lambda _: sleep(1e-3), range(count // 10), inline=True, engine=engine)
    attempt_timeout = max(2.0, 15 * (loop.time() - began))
    # Cancelling is one step, however many there are left: few, beside those that will run out of time.
    need = count - 3 * count // SHARE - count // 500
    async with Probe() as probe:
        result = await fan_out(
            branch,
            range(count),
            strategy=JoinStrategy.Quorum(need),
            attempt_timeout=attempt_timeout,
            bulkhead=count // 4,
            engine=engine,
        )
    assert len(result.successes) == need
    assert len(result.successes) + len(result.errors) + len(result.cancelled) == result.total_count == count
    kinds = Counter(type(row.error) for row in result.errors)
    assert kinds[Boom] > 0
    assert kinds[BranchCancelledError] > 0
    assert kinds.keys() <= {Boom, BranchCancelledError, AttemptTimeoutError}
    return probe.worst


async def runs_at_once(engine: str, count: int) -> float:
    """As many runs as that, all of them waiting at one time."""
    workflow: Workflow[str] = Workflow(engine=engine)
    parked = 0
    loop = asyncio.get_running_loop()
    gates = [loop.create_future() for _ in range(count)]
    tasks: list[asyncio.Task[str]] = []

    async def wait(store: Any) -> str:
        nonlocal parked
        item = store.get("item", int)
        parked += 1
        if fault(item) == "times out":
            await sleep(1000)
        await gates[item]
        if fault(item) == "fails":
            raise Boom
        return "end"

    workflow.register("wait", wait).add_exit_state("end")
    async with Probe() as probe:
        for item in range(count):
            store = workflow.store.__class__()
            store.put("item", item)
            timeout = 0.5 if fault(item) == "times out" else None
            tasks.append(asyncio.create_task(workflow.orchestrate("wait", store=store, timeout=timeout)))
            if item % 20 == 0:
                await asyncio.sleep(0)
        while parked < count:
            await asyncio.sleep(0)
        alive = 0
        for item, task in enumerate(tasks):
            alive += not task.done()
            if fault(item) == "is cancelled":
                task.cancel()
                await asyncio.sleep(0)
        assert alive >= count - count // SHARE - 1
        for item, task in enumerate(tasks):
            if not gates[item].done():
                gates[item].set_result(None)
            if item % 20 == 0:  # not all in one turn: asyncio itself would keep the loop
                await asyncio.sleep(0)
            if fault(item) == "times out":
                await asyncio.wait([task])
        for task in tasks:
            if not task.done():
                await asyncio.wait([task])
    ends = Counter(
        "cancelled" if task.cancelled() else type(task.exception()).__name__ if task.exception() else "ok"
        for task in tasks
    )
    faults = Counter(fault(item) for item in range(count))
    assert ends == {
        "ok": faults[""],
        TaskError.__name__: faults["fails"],
        "cancelled": faults["is cancelled"],
        WorkflowTimeoutError.__name__: faults["times out"],
    }
    return probe.worst


async def timers(engine: str, count: int) -> float:
    """As many sleepers, all asleep at one time; each wakes once, and not early."""
    loop = asyncio.get_running_loop()
    asleep = most = woken = 0

    async def branch(item: int) -> int:
        nonlocal asleep, most, woken
        due = max(due_from, loop.time()) + (item % 1000) / 1000
        asleep += 1
        most = max(most, asleep)
        await sleep(due - loop.time())
        asleep -= 1
        woken += 1
        assert loop.time() >= due - 1e-3
        if fault(item):
            raise Boom
        return item

    # They wake when all are asleep: so long it takes to start them, on this machine, at this time.
    began = loop.time()
    await fan_out(lambda _: sleep(1e-3), range(count // 10), inline=True, engine=engine)
    due_from = loop.time() + max(0.5, 15 * (loop.time() - began))
    async with Probe() as probe:
        try:
            result: Any = await fan_out(branch, range(count), fail_fast=False, engine=engine)
        except JoinError as error:
            group = error  # kept: letting go of it takes the user's time
            result = group.result
    assert woken == result.completed_count == count
    assert Counter(type(row.error) for row in result.errors) == {Boom: sum(bool(fault(item)) for item in range(count))}
    assert most > count * 3 // 4
    return probe.worst


# --- very often -------------------------------------------------------------------------------------------------------


async def many_runs(engine: str, count: int) -> float:
    """Runs of five kinds, one after the other."""
    workflow: Workflow[str] = Workflow(engine=engine)

    async def branch(item: int, store: Any) -> int:
        kind = store.get("kind", int)
        await asyncio.sleep(0)
        if kind == 1 and item == 1:
            raise Boom
        if kind == 2:
            await asyncio.get_running_loop().create_future()
        if kind == 3:
            await sleep(item * 0.0001)
        return item

    join = JoinConfig(JoinStrategy.All, "joined", timeout=60, store_partial_results=True)
    workflow.register("start", lambda: "fan", inline=True)
    workflow.register_map("fan", branch, range(5), join, retry=Retry.fixed(1, 0), attempt_timeout=30)
    workflow.register("joined", lambda: "end", inline=True).add_exit_state("end")
    for number in range(count):
        store = workflow.store.__class__()
        store.put("kind", number % 5)
        run = workflow.orchestrate("start", store=store, timeout=0.0005 if number % 10 == 2 else 60)
        if number % 10 == 7:
            task = asyncio.create_task(run)
            await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            continue
        try:
            assert await run == "end"
            assert number % 5 in (0, 3, 4)
        except JoinError:
            assert number % 5 == 1
        except WorkflowTimeoutError:
            assert number % 10 == 2
    return 0.0


CHECKS: dict[str, Callable[[str, int], Awaitable[float]]] = {
    check.__name__: check for check in (branches, runs_at_once, timers, many_runs)
}


async def main(check: str, engine: str, count: int, rounds: int) -> None:
    # Branches that fail after the decision, before it is their turn to be cancelled: how many is chance.
    logging.getLogger("cano").setLevel(logging.ERROR)
    # As in the fairness tests: Python's collector stops everybody, and that is not what is measured.
    memory, heap, blocks, stalls = [], [], [], []
    await CHECKS[check](engine, 400)  # imports what is imported at first use
    began = time.monotonic()
    for _ in range(rounds):
        if check != "many_runs":
            gc.disable()
        stalls.append(await CHECKS[check](engine, count))
        gc.enable()
        gc.collect()
        memory.append(resident())
        heap.append(native_heap())
        blocks.append(sys.getallocatedblocks())
    assert asyncio.all_tasks() == {asyncio.current_task()}
    told = {
        "count": count * rounds if check == "many_runs" else count,
        "rounds": rounds,
        "seconds": round(time.monotonic() - began, 1),
        "memory_mb": [round(memory[1] / 1e6, 1), round(memory[-1] / 1e6, 1)],
        "peak_mb": round(peak() / 1e6, 1),
        "heap_growth": heap[-1] - heap[1],
        "block_growth": blocks[-1] - blocks[1],
        "stall_ms": round(1000 * max(stalls), 1),
        "least_stall_ms": round(1000 * min(stalls), 1),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
