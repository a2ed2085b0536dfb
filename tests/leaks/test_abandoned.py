"""Runs that nobody will ever resume: all of theirs can be collected, and what somebody holds on to stays whole.

A branch that is suspended is held by its split, and what its frame holds by its coroutine. An engine that spares the
collector the sight of these must show it what they refer to, no less (or nothing here would ever be freed) and no more (or
what the user holds would be taken apart). And clean-up that a collection sets off is user's code: it must find its world as
it was, as in an abandoned `asyncio.Task`.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import cano
from cano import CancelToken, JoinConfig, JoinStrategy, Retry, Workflow, as_completed, fan_out

pytestmark = [pytest.mark.fault("F7"), pytest.mark.timeout(300)]

FOREVER = 3600.0


class Thing:
    """What can be watched, and can refer to anything."""

    other: Any = None


class Watch(list[tuple[str, "weakref.ref[Any]"]]):
    """Weak references to what must be gone."""

    def __call__(self, name: str, thing: Any) -> Any:
        self.append((name, weakref.ref(thing)))
        return thing

    def alive(self) -> list[str]:
        return sorted({name for name, ref in self if ref() is not None})


# --- ways to wait, for ever -------------------------------------------------------------------------------------------

Way = Callable[[], Awaitable[Any]]


async def _yields() -> None:
    while True:
        await asyncio.sleep(0)


async def _future() -> None:
    await asyncio.get_running_loop().create_future()


async def _in_a_timeout() -> None:
    async with asyncio.timeout(FOREVER):
        await asyncio.Event().wait()


async def _deep(end: Way, depth: int = 5) -> None:
    thing = Thing()
    thing.other = thing
    await (_deep(end, depth - 1) if depth else end())


async def _generator() -> AsyncIterator[int]:
    yield 1
    await _future()


async def _in_a_generator() -> None:
    generator = _generator()
    async for _ in generator:
        pass


# None that schedules something when it is closed (a queue, a task group): a closed loop refuses, for tasks, too.
WAYS: dict[str, Way] = {
    "bare yields": _yields,
    "cano.sleep": lambda: cano.sleep(FOREVER),
    "asyncio.sleep": lambda: asyncio.sleep(FOREVER),
    "future": _future,
    "event": lambda: asyncio.Event().wait(),
    "timeout": _in_a_timeout,
    "gather": lambda: asyncio.gather(_future(), _future()),
    "deep": lambda: _deep(_future),
    "deep yields": lambda: _deep(_yields),
    "async generator": _in_a_generator,
}


# --- what waits -------------------------------------------------------------------------------------------------------


def tied(watch: Watch, way: Way, *, own_coroutine: bool = False) -> Callable[[Any], Awaitable[None]]:
    """A branch with cycles all around: its locals know each other, its task, and if asked its coroutine."""

    async def branch(item: Any) -> None:
        task: Any = asyncio.current_task()
        watch("task", task)
        local = watch("local", Thing())
        local.other = [local, {"item": item, "task": task}]
        if own_coroutine:
            local.other.append(watch("coroutine", task.get_coro()))
        await way()

    return branch


def items(watch: Watch, count: int = 3) -> list[Thing]:
    return [watch("item", Thing()) for _ in range(count)]


def joined(strategy: JoinStrategy = JoinStrategy.All, **options: Any) -> JoinConfig[str]:
    return JoinConfig(strategy, "end", **options)


def workflow(engine: str, watch: Watch, **options: Any) -> Workflow[str]:
    flow = Workflow[str](engine=engine, **options).add_exit_state("end")
    flow.store.put("thing", watch("stored", Thing()))
    flow.store["thing"].other = flow.store
    return watch("workflow", flow)


async def plain(engine: str, watch: Watch, way: Way) -> None:
    await fan_out(tied(watch, way), items(watch), engine=engine)


async def with_its_own_coroutine(engine: str, watch: Watch, way: Way) -> None:
    await fan_out(tied(watch, way, own_coroutine=True), items(watch), engine=engine)


async def made_by_a_function(engine: str, watch: Watch, way: Way) -> None:
    """Which keeps what it made, in what the coroutine itself refers to."""
    made: list[Any] = []
    watch("made", thing := Thing())
    thing.other = made

    async def branch(item: Thing) -> None:
        item.other = made, thing
        await way()

    def make(item: Thing) -> Any:
        made.append(branch(item))
        watch("coroutine", made[-1])
        return made[-1]

    await fan_out(make, items(watch), engine=engine, inline=True)


async def nested(engine: str, watch: Watch, way: Way) -> None:
    async def outer(_: Any) -> Any:
        local = watch("outer", Thing())
        local.other = asyncio.current_task(), local
        return await fan_out(tied(watch, way), items(watch, 2), engine=engine)

    await fan_out(outer, range(2), engine=engine)


async def in_a_workflow(engine: str, watch: Watch, way: Way) -> None:
    async def start() -> str:
        await asyncio.sleep(0)
        return "fan"

    flow = workflow(engine, watch).register("start", start)
    flow.register_map("fan", tied(watch, way), items(watch), joined(timeout=FOREVER), attempt_timeout=FOREVER)
    await flow.orchestrate("start", timeout=FOREVER, cancel=CancelToken().child())


async def in_a_task(engine: str, watch: Watch, way: Way) -> None:
    flow = workflow(engine, watch)
    branch = tied(watch, way)
    await flow.register("start", lambda: branch(flow), attempt_timeout=FOREVER, inline=True).orchestrate("start")


async def in_real_tasks(engine: str, watch: Watch, way: Way) -> None:
    flow = workflow(engine, watch, introspect=True)
    await flow.register_map("start", tied(watch, way), items(watch), joined()).orchestrate("start")


async def by_and_by(engine: str, watch: Watch, way: Way) -> None:
    def source() -> Iterator[Thing]:
        mine = watch("source", Thing())
        mine.other = mine
        while True:
            yield watch("item", Thing())

    rows = as_completed(tied(watch, way), source, bulkhead=3, engine=engine)
    async for _ in rows:
        pass


async def from_an_async_source(engine: str, watch: Watch, way: Way) -> None:
    async def source() -> AsyncIterator[Thing]:
        mine = watch("source", Thing())
        mine.other = mine
        yield watch("item", Thing())
        await way()

    await fan_out(tied(watch, way), source, engine=engine)


async def backing_off(engine: str, watch: Watch, way: Way) -> None:
    async def fail(item: Thing) -> None:
        local = watch("local", Thing())
        local.other = asyncio.current_task(), local, item
        item.other = item
        raise ValueError(local)

    await fan_out(fail, items(watch), retry=Retry.fixed(3, FOREVER), engine=engine)


async def hedged(engine: str, watch: Watch, way: Way) -> None:
    await fan_out(
        tied(watch, way), items(watch), strategy=JoinStrategy.Any, hedge_delay=FOREVER, timeout=FOREVER, engine=engine
    )


async def losers_that_linger(engine: str, watch: Watch, way: Way) -> None:
    """The join is met; the others were cancelled, and take their time."""

    async def race(item: Any) -> Any:
        if item == 0:
            await asyncio.sleep(0)
            return watch("won", Thing())
        try:
            await asyncio.sleep(FOREVER)
        finally:
            local = watch("local", Thing())
            local.other = asyncio.current_task(), local
            await way()

    await fan_out(race, range(3), strategy=JoinStrategy.Any, engine=engine)


RUNS = [
    plain, with_its_own_coroutine, made_by_a_function, nested, in_a_workflow, in_a_task, in_real_tasks, by_and_by,
    from_an_async_source, backing_off, hedged, losers_that_linger,
]  # fmt: skip


# --- leaving them -----------------------------------------------------------------------------------------------------


def turn(loop: asyncio.AbstractEventLoop, times: int = 6) -> None:
    for _ in range(times):
        loop.call_soon(loop.stop)
        loop.run_forever()


def begun(run: Awaitable[Any]) -> asyncio.AbstractEventLoop:
    """The loop on which a run has come to where it waits, held by nobody else."""

    async def main() -> Any:
        return await run

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    turn(loop)
    assert not task.done(), task.exception()
    # That they were dropped is no fault of the engine's, and asyncio's to say.
    for each in asyncio.all_tasks(loop):
        each._log_destroy_pending = False  # type: ignore[attr-defined]
    return loop


def leave(engine: str, run: Any, way: Way, watch: Watch) -> None:
    loop = begun(run(engine, watch, way))
    watch("loop", loop)
    assert not {"task", "local", "item", "coroutine"}.isdisjoint(watch.alive())
    loop.close()


def collect() -> None:
    # Closing what was suspended can set free what only the next collection finds.
    for _ in range(3):
        gc.collect()


def branches() -> int:
    """How many branches are alive: the engine's own objects, after the user's."""
    gc.collect()
    return sum(type(one).__name__ == "Branch" for one in gc.get_objects())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_an_abandoned_run_is_collected(engine: str, run: Any, way: str, tried: Any) -> None:
    watch, before = Watch(), branches()
    leave(engine, run, WAYS[way], watch)
    collect()
    assert watch.alive() == []
    assert branches() == before
    tried(abandoned=1)


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
@pytest.mark.parametrize("way", ["bare yields", "cano.sleep", "future"])
@pytest.mark.parametrize(
    "run", [plain, nested, in_a_workflow, backing_off, losers_that_linger], ids=lambda run: run.__name__
)
def test_a_run_is_collected_with_its_open_loop(engine: str, run: Any, way: str, tried: Any) -> None:
    """Nobody even closed the loop, whose queue and timers refer to the run."""
    watch = Watch()
    before = branches()
    watch("loop", begun(run(engine, watch, WAYS[way])))
    collect()
    assert watch.alive() == []
    assert branches() == before
    tried(abandoned=1)


# --- what somebody holds ----------------------------------------------------------------------------------------------


def ring(item: Any, watch: Watch) -> dict[str, Any]:
    """A cycle that a collector would empty if it took it for garbage."""
    made: dict[str, Any] = {"item": item, "thing": watch("held", Thing())}
    made["self"] = [made]
    made["thing"].other = made
    return made


def is_whole(made: dict[str, Any], item: Any) -> bool:
    return (
        made.keys() == {"item", "thing", "self"}
        and made["item"] == item
        and made["self"] == [made]
        and made["thing"].other is made
    )


@pytest.mark.parametrize("way", WAYS)
def test_clean_up_finds_its_world_whole(engine: str, way: str) -> None:
    """And may take parts of it elsewhere: they stay as they are."""
    watch, seen, rescued = Watch(), list[bool](), list[Any]()

    async def branch(item: int) -> None:
        made = ring(item, watch)
        task: Any = asyncio.current_task()
        made["thing"].task = task
        try:
            await WAYS[way]()
        finally:
            # On its way out it uses everything that it has.
            seen.append(is_whole(made, item) and task is made["thing"].task and "branch" in task.get_name())
            rescued.append(made)

    begun(fan_out(branch, range(4), engine=engine)).close()
    collect()
    assert seen == [True] * 4
    assert all(is_whole(made, made["item"]) for made in rescued)
    assert sorted(made["item"] for made in rescued) == [0, 1, 2, 3]
    rescued.clear()
    collect()
    assert watch.alive() == []


@pytest.mark.parametrize("how", ["get_coro", "made by a function", "weakly at first"])
@pytest.mark.parametrize("way", ["bare yields", "deep yields", "cano.sleep", "future"])
def test_what_is_held_outlives_its_split(engine: str, how: str, way: str) -> None:
    """A coroutine is held; its split, its branch and their loop are garbage, unless what it waits for knows them."""
    watch, held, rings = Watch(), list[Any](), list[weakref.ref[Any]]()

    async def branch(item: int) -> None:
        made = ring(item, watch)
        rings.append(weakref.ref(made["thing"]))
        task: Any = asyncio.current_task()
        if item == 1:
            watch("task", task)
            if how == "get_coro":
                held.append(task.get_coro())
        del task
        await WAYS[way]()
        assert made

    def make(item: int) -> Any:
        coroutine = branch(item)
        if item == 1 and how != "get_coro":
            held.append(weakref.ref(coroutine) if how == "weakly at first" else coroutine)
        return coroutine

    loop = begun(fan_out(make, range(3), engine=engine, inline=True))
    if how == "weakly at first":
        held[0] = held[0]()
    watch("loop", loop)
    loop.close()
    del loop
    collect()

    if way.endswith("yields"):
        assert watch.alive() == ["held"]
        assert [index for index, thing in enumerate(rings) if thing() is not None] == [1]
    assert is_whole(held[0].cr_frame.f_locals["made"], 1)
    assert inspect.getcoroutinestate(held[0]) == inspect.CORO_SUSPENDED
    held[0].close()
    assert inspect.getcoroutinestate(held[0]) == inspect.CORO_CLOSED
    held.clear()
    collect()
    assert watch.alive() == []


@pytest.mark.parametrize("way", ["bare yields", "cano.sleep", "future"])
def test_a_frame_is_held(engine: str, way: str) -> None:
    """It holds no coroutine: that one is closed, and the frame can still be looked at."""
    watch, frames = Watch(), list[Any]()

    async def branch(item: int) -> None:
        made = ring(item, watch)
        frames.append(sys._getframe())
        await WAYS[way]()
        assert made

    begun(fan_out(branch, range(3), engine=engine)).close()
    collect()
    assert [frame.f_code for frame in frames] == [branch.__code__] * 3
    assert [frame.f_locals.get("item", index) for index, frame in enumerate(frames)] == [0, 1, 2]
    frames.clear()
    collect()
    assert watch.alive() == []


def test_a_token_holds_what_it_may_still_end(engine: str) -> None:
    """Until it is set, even where the loop was closed under the run."""
    watch, token = Watch(), CancelToken()
    flow = workflow(engine, watch).register_map("start", tied(watch, _future), items(watch), joined())
    begun(flow.orchestrate("start", cancel=token)).close()
    del flow
    collect()
    assert "local" in watch.alive()
    token.cancel()
    collect()
    assert watch.alive() == []


@pytest.mark.parametrize("ending", ["value", "error", "cancelled"])
async def test_a_coroutine_kept_beyond_its_run(engine: str, ending: str) -> None:
    """It is over, and holds nothing; the run is gone."""
    watch, kept = Watch(), list[Any]()

    async def branch(item: int) -> int:
        task: Any = asyncio.current_task()
        made = ring(item, watch)
        kept.append(watch("coroutine", task.get_coro()))
        watch("task", task)
        await asyncio.sleep(0)
        if ending == "error":
            raise ValueError(made["item"])
        if ending == "cancelled":
            task.cancel()
            await asyncio.sleep(FOREVER)
        return item

    split = await fan_out(
        branch, range(3), strategy=JoinStrategy.PartialTimeout, timeout=9, engine=engine, min_successes=0
    )
    assert split.total_count == 3
    del split
    await asyncio.sleep(0)
    collect()
    assert watch.alive() == ["coroutine"]
    assert [inspect.getcoroutinestate(coroutine) for coroutine in kept] == [inspect.CORO_CLOSED] * 3
    assert [coroutine.cr_frame for coroutine in kept] == [None] * 3
    kept.clear()
    collect()
    assert watch.alive() == []


@pytest.mark.parametrize("way", ["future", "timer"])
def test_a_run_that_only_what_it_waits_for_holds_goes_on(engine: str, way: str) -> None:
    """Neither the run, its task nor its branches are held by anybody else; collections come in between."""
    watch, outputs = Watch(), list[Any]()
    loop = asyncio.new_event_loop()
    future = loop.create_future()

    async def branch(item: int) -> int:
        made = ring(item, watch)
        await (future if way == "future" else cano.sleep(0.001))
        await asyncio.sleep(0)
        assert is_whole(made, item)
        return item

    async def main() -> None:
        outputs.extend((await fan_out(branch, range(3), engine=engine)).outputs())
        loop.stop()

    loop.create_task(main())  # noqa: RUF006 - that nobody holds it is what is tested
    turn(loop)
    collect()
    assert watch.alive() == ["held"]
    if way == "future":
        future.set_result(None)
    collect()
    loop.run_forever()
    assert outputs == [0, 1, 2]
    loop.close()
