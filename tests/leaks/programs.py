"""The programs that test_leaks.py starts, each in a process of its own: `python programs.py CHECK ENGINE SCENARIO RUNS`."""

from __future__ import annotations

import asyncio
import gc
import sys
import sysconfig
import threading
import traceback
from typing import Any

import scenarios
from census import Watch, census, grown, native_heap, references, resident
from scenarios import FAIL, SUCCEED, Boom, Thing, fan_out, items, on_a_future

from cano import JoinError, set_thread_limit
from cano._engine.threads import call_in_thread, outstanding, pool

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
WARM_UP = 50  # runs after which caches, interned strings and free lists are what they will be


async def settle() -> None:
    """Let the loop forget what it has called, and the workers what they have done."""
    while outstanding():
        await asyncio.sleep(0.0005)
    if FREE_THREADED and pool._workers:
        # What a thread has made and another lets go of, CPython frees when its maker runs next: so each of them runs.
        together = threading.Barrier(pool._workers)
        await asyncio.gather(*(call_in_thread(together.wait, 60) for _ in range(pool._workers)))
        while outstanding():
            await asyncio.sleep(0.0005)
    for _ in range(3):
        await asyncio.sleep(0)


async def nothing_is_left(engine: str, name: str, runs: int) -> None:
    """Of one run, and of many."""
    await nothing_is_left_of_one(engine, name)
    gc.enable()
    await nothing_grows(engine, name, runs)


async def nothing_is_left_of_one(engine: str, name: str) -> None:
    """One run: whatever it made is gone, without a collection if it succeeded."""
    scenario = (SUCCEED | FAIL)[name]
    for _ in range(3):  # the first ones import modules
        await scenario(engine, Watch())
    await settle()
    gc.collect()
    gc.disable()
    before = census()
    watch = Watch()
    await scenario(engine, watch)
    await settle()
    if name in FAIL:
        gc.collect()
    assert len(watch) > 1
    assert not watch.alive(), watch.alive()
    assert not grown(before, census()), grown(before, census())


async def nothing_grows(engine: str, name: str, runs: int) -> None:
    """Many runs: as many objects, references and bytes afterwards as before."""
    scenario = (SUCCEED | FAIL)[name]
    shared: list[Any] = [scenarios.SHARED, scenarios.TOKEN, *scenarios.S, asyncio.get_running_loop(), asyncio.sleep]

    async def repeat(times: int) -> tuple[Any, ...]:
        for _ in range(times):
            await scenario(engine, Watch())
        await settle()
        gc.collect()
        return census(), references(shared), sys.getallocatedblocks(), native_heap(), resident()

    await repeat(WARM_UP)
    objects, counts, *sizes = await repeat(WARM_UP)
    few = runs // 20  # less than one in twenty runs left behind; what is cached along the way does not count
    # Caches of the interpreter fill up over hundreds of runs, ever more slowly; a leak goes on at its pace.
    for _ in range(3):
        objects_after, counts_after, *sizes_after = await repeat(runs)
        assert not grown(objects, objects_after, few), grown(objects, objects_after, few)
        assert all(after - before < few for before, after in zip(counts, counts_after, strict=True)), (
            counts,
            counts_after,
        )
        blocks, heap, memory = (after - before for before, after in zip(sizes, sizes_after, strict=True))
        if blocks < 200 + runs // 4 and heap < 16_384 + runs * 16 and memory < 2_000_000 + sizes[2] // 100:
            return
        sizes = sizes_after
    raise AssertionError(
        f"{blocks} blocks, {heap} bytes of the C heap, {memory} bytes more in {runs} runs, time and again"
    )


async def an_error_keeps_no_other_branch(engine: str, way: str, count: int) -> None:
    """Whoever keeps one branch's exception keeps that branch's frames, and nothing of the others."""
    for fail_fast in (True, False):
        watch = Watch()
        kept = await one_error(engine, way, watch, count, fail_fast)
        await settle()
        gc.collect()
        assert len(watch) >= count // 2
        assert not watch.alive(), f"{len(watch.alive())} alive: {set(watch.alive())}"
        assert "fail_at_the_middle" in {frame.name for frame in traceback.extract_tb(kept.__traceback__)}


async def one_error(engine: str, way: str, watch: Watch, count: int, fail_fast: bool) -> BaseException:
    middle = count // 2

    def fail_at_the_middle(item: int) -> Thing:
        if item == middle:
            raise Boom
        return watch("result", Thing())

    async def async_fail_at_the_middle(item: int) -> Thing:
        local = watch("local", Thing()) if item != middle else None
        if item == middle:
            await asyncio.sleep(0)
        elif item > middle:
            await on_a_future(local)
        return fail_at_the_middle(item)

    fn: Any = async_fail_at_the_middle if way == "async" else fail_at_the_middle
    try:
        await fan_out(fn, range(count), fail_fast=fail_fast, inline=way == "inline", engine=engine)
    except JoinError as group:
        return group.exceptions[0]
    raise AssertionError("no branch failed")


async def a_cancelled_branch_keeps_nothing(engine: str, _: str, count: int) -> None:
    """A group of failures keeps what failed, not what was cancelled."""
    watch = Watch()
    try:
        await fan_out(fail_first(watch), items(Watch(), count), engine=engine)
    except JoinError as group:
        kept = group
    await settle()
    gc.collect()
    assert len(watch) > 5  # of many not all had begun
    assert not watch.alive(), f"{len(watch.alive())} alive"
    assert kept.result is not None
    assert len(kept.result.cancelled) == count - 1


def fail_first(watch: Watch) -> Any:
    begun: list[int] = []

    async def branch(_: Any) -> None:
        begun.append(1)
        if len(begun) == 1:
            await asyncio.sleep(0)
            raise Boom
        local = watch("local", Thing())
        await scenarios.never(local)

    return branch


async def a_collector_that_never_rests(engine: str, _: str, runs: int) -> None:
    """Every kind of run while each allocation may start a collection, which looks at everything half-made."""
    gc.set_threshold(1, 1, 1)
    try:
        for name, scenario in (SUCCEED | FAIL).items():
            for _ in range(runs):
                watch = Watch()
                await scenario(engine, watch)
                await settle()
                gc.collect()
                assert not watch.alive(), f"{name}: {watch.alive()}"
    finally:
        gc.set_threshold(700, 10, 10)


CHECKS = {
    check.__name__: check
    for check in (
        nothing_is_left,
        an_error_keeps_no_other_branch,
        a_cancelled_branch_keeps_nothing,
        a_collector_that_never_rests,
    )
}

if __name__ == "__main__":
    set_thread_limit(1)  # each worker, once it is there, keeps a context of its own
    asyncio.run(CHECKS[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4])))
