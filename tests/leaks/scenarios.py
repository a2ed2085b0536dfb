"""One run each, of every kind: what of it is alive afterwards is looked at by programs.py.

A scenario hands to `watch` what must be gone when it is over. `@succeeds`: gone at once, by reference counts alone;
`@fails`: gone after a collection, since an exception and the frames of its traceback may hold each other.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any

from census import Watch

from cano import (
    AttemptTimeoutError,
    CancelToken,
    JoinConfig,
    JoinError,
    JoinStrategy,
    MemoryStore,
    Retry,
    RunCancelledError,
    SplitTimeoutError,
    TaskError,
    TaskResult,
    Workflow,
    WorkflowTimeoutError,
    as_completed,
    fan_out,
    sleep,
)

Scenario = Callable[[str, Watch], Awaitable[None]]
SUCCEED: dict[str, Scenario] = {}
FAIL: dict[str, Scenario] = {}

logging.getLogger("cano").addHandler(logging.NullHandler())


class S(enum.Enum):
    START = "start"
    FAN = "fan"
    JOINED = "joined"
    DONE = "done"


class Thing:
    """What can be watched."""


class Boom(Exception):  # noqa: N818 - a short word, used all over
    """What fails here."""


class Observer:
    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_branch_start(self, event: object) -> None:
        raise self.watch("error", Boom())


SHARED = Thing()  # what every run is given: its references are counted
TOKEN = CancelToken()  # never set; outlives every run


def succeeds(scenario: Scenario) -> Scenario:
    SUCCEED[scenario.__name__] = scenario
    return scenario


def fails(scenario: Scenario) -> Scenario:
    FAIL[scenario.__name__] = scenario
    return scenario


def watched_branch(watch: Watch, pause: Any = None) -> Callable[[Any], Awaitable[Thing]]:
    """A branch whose task, coroutine, locals, item and result are watched."""

    async def branch(item: Any) -> Thing:
        task: Any = asyncio.current_task()
        watch("task", task)
        watch("coroutine", task.get_coro())
        local = watch("local", Thing())
        if pause is not None:
            await pause(item)
        assert local is not None
        return watch("result", Thing())

    return branch


async def on_a_future(_: Any) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: future.done() or future.set_result(SHARED))
    await future


async def never(_: Any) -> None:
    await asyncio.get_running_loop().create_future()


def items(watch: Watch, count: int = 5) -> list[Thing]:
    return [watch("item", Thing()) for _ in range(count)]


def joined(strategy: JoinStrategy = JoinStrategy.All, **options: Any) -> JoinConfig[S]:
    return JoinConfig(strategy, S.JOINED, **options)


def go(state: S) -> Callable[[], Awaitable[S]]:
    async def to() -> S:
        await asyncio.sleep(0)
        return state

    return to


# --- what succeeds ----------------------------------------------------------------------------------------------------


@succeeds
async def chain(engine: str, watch: Watch) -> None:
    workflow = watch("workflow", Workflow[S](engine=engine))
    workflow.register(S.START, go(S.FAN)).register(S.FAN, lambda: S.JOINED, inline=True).register(S.JOINED, go(S.DONE))
    workflow.add_exit_state(S.DONE).store.put("shared", SHARED)
    run = watch("coroutine", workflow.orchestrate(S.START, store=watch("store", MemoryStore())))
    assert await run is S.DONE
    watch("own store", workflow.store)


@succeeds
async def chain_on_threads(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](watch("store", MemoryStore()), engine=engine)
    workflow.register(S.START, lambda store: store.put("x", watch("value", Thing())) or S.DONE).add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START) is S.DONE


@succeeds
async def fan_that_never_waits(engine: str, watch: Watch) -> None:
    split = await fan_out(watched_branch(watch), items(watch), engine=engine)
    assert len(split.outputs()) == len(split.successes) == 5


@succeeds
async def fan_on_bare_yields(engine: str, watch: Watch) -> None:
    await fan_out(watched_branch(watch, lambda _: asyncio.sleep(0)), items(watch), engine=engine)


@succeeds
async def fan_on_futures(engine: str, watch: Watch) -> None:
    await fan_out(watched_branch(watch, on_a_future), items(watch), engine=engine)


@succeeds
async def fan_on_timers(engine: str, watch: Watch) -> None:
    # The options' own timers must not outlive the split either, though none of them is due.
    await fan_out(
        watched_branch(watch, lambda _: sleep(0.0005)), items(watch), timeout=900, attempt_timeout=900, engine=engine
    )


@succeeds
async def fan_of_real_tasks(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](engine=engine, introspect=True)
    workflow.register_map(S.START, watched_branch(watch, on_a_future), items(watch), joined())
    await workflow.add_exit_state(S.JOINED).orchestrate(S.START)


@succeeds
async def fan_on_threads(engine: str, watch: Watch) -> None:
    split = await fan_out(lambda _: watch("result", Thing()), items(watch), bulkhead=2, engine=engine)
    assert split.completed_count == 5


@succeeds
async def fan_in_place(engine: str, watch: Watch) -> None:
    await fan_out(lambda _: watch("result", Thing()), items(watch), inline=True, engine=engine)


@succeeds
async def nested(engine: str, watch: Watch) -> None:
    async def outer(_: Any) -> Any:
        return await fan_out(watched_branch(watch, on_a_future), items(watch, 2), engine=engine)

    await fan_out(outer, range(3), engine=engine)


@succeeds
async def results_in_the_store(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](engine=engine)
    workflow.register_map(S.START, watched_branch(watch), items(watch), joined(store_partial_results=True))
    workflow.register(S.JOINED, lambda store: S.DONE if store["split_results"].outputs() else None, inline=True)
    store = watch("store", MemoryStore())
    await workflow.add_exit_state(S.DONE).orchestrate(S.START, store=store)
    watch("split", store["split_results"].successes[0].result)


@succeeds
async def chosen_at_run_time(engine: str, watch: Watch) -> None:
    async def choose() -> TaskResult[S]:
        branch = watched_branch(watch, on_a_future)
        return TaskResult.Split([lambda: branch(None), lambda: branch(None)], joined())

    workflow = Workflow[S](engine=engine).register(S.START, choose).add_exit_state(S.JOINED)
    await workflow.orchestrate(S.START, timeout=900, cancel=TOKEN)


@succeeds
async def report(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](engine=engine)
    workflow.register_map(S.START, watched_branch(watch), items(watch), joined()).add_exit_state(S.JOINED)
    done = await workflow.execute(S.START)
    assert done.splits[0].completed_count == 5


@succeeds
async def events(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](engine=engine)
    workflow.register_map(S.START, watched_branch(watch, on_a_future), items(watch), joined()).add_exit_state(S.JOINED)
    assert len([event async for event in workflow.stream(S.START)]) > 10


@succeeds
async def rows(engine: str, watch: Watch) -> None:
    for ordered in (False, True):
        async for row in as_completed(
            watched_branch(watch, on_a_future), items(watch), ordered=ordered, buffer=2, engine=engine
        ):
            assert row.result is not None


@succeeds
async def lazy_source(engine: str, watch: Watch) -> None:
    def source() -> Iterator[Thing]:
        for _ in range(5):
            yield watch("item", Thing())

    await fan_out(watched_branch(watch, on_a_future), watch("source", source()), bulkhead=2, engine=engine)


@succeeds
async def async_source(engine: str, watch: Watch) -> None:
    async def source() -> AsyncIterator[Thing]:
        for _ in range(5):
            await asyncio.sleep(0)
            yield watch("item", Thing())

    await fan_out(watched_branch(watch, on_a_future), watch("source", source()), bulkhead=2, engine=engine)


# --- what is cancelled or fails ---------------------------------------------------------------------------------------


@fails
async def losers(engine: str, watch: Watch) -> None:
    async def race(item: int) -> Thing:
        watch("task", asyncio.current_task())
        local = watch("local", Thing())
        if item != 2:
            await never(local)
        return watch("result", Thing())

    await fan_out(race, range(5), strategy=JoinStrategy.Any, engine=engine)


@fails
async def hedged(engine: str, watch: Watch) -> None:
    async def answer(item: int) -> Thing:
        local = watch("local", Thing())
        await (on_a_future(local) if item == 1 else never(local))
        return watch("result", Thing())

    await fan_out(answer, range(5), strategy=JoinStrategy.Any, hedge_delay=0.0005, engine=engine)


@fails
async def retried(engine: str, watch: Watch) -> None:
    failed: set[int] = set()

    async def flaky(item: int) -> None:
        if item not in failed:
            failed.add(item)
            raise watch("error", Boom())

    await fan_out(flaky, range(5), retry=Retry.fixed(1, 0), engine=engine)


@fails
async def failing_task(engine: str, watch: Watch) -> None:
    async def fail() -> S:
        raise watch("error", Boom())

    workflow = Workflow[S](engine=engine).register(S.START, fail, retry=Retry.fixed(1, 0)).add_exit_state(S.DONE)
    with suppress(TaskError):
        await workflow.orchestrate(S.START, store=watch("store", MemoryStore()))


@fails
async def failing_thread(engine: str, watch: Watch) -> None:
    def fail(_: Any) -> None:
        raise watch("error", Boom())

    with suppress(JoinError):
        await fan_out(fail, items(watch), engine=engine)


@fails
async def failing_branches(engine: str, watch: Watch) -> None:
    async def fail(item: Any) -> None:
        local = watch("local", Thing())
        await on_a_future(local)
        raise watch("error", Boom(local, item))

    with suppress(JoinError):
        await fan_out(fail, items(watch), fail_fast=False, engine=engine)


@fails
async def failing_source(engine: str, watch: Watch) -> None:
    def source() -> Iterator[Thing]:
        yield watch("item", Thing())
        raise watch("error", Boom())

    with suppress(TaskError):
        await fan_out(watched_branch(watch, never), watch("source", source()), engine=engine)


@fails
async def failing_observer(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](engine=engine).add_observer(watch("observer", Observer(watch)))
    workflow.register_map(S.START, watched_branch(watch), items(watch), joined()).add_exit_state(S.JOINED)
    await workflow.orchestrate(S.START)


@fails
async def out_of_time(engine: str, watch: Watch) -> None:
    with suppress(SplitTimeoutError):
        await fan_out(watched_branch(watch, never), items(watch), timeout=0.001, engine=engine)
    with suppress(JoinError):
        await fan_out(watched_branch(watch, never), items(watch), attempt_timeout=0.001, engine=engine)
    workflow = Workflow[S](engine=engine).add_exit_state(S.JOINED)
    workflow.register_map(S.START, watched_branch(watch, never), items(watch), joined())
    with suppress(WorkflowTimeoutError):
        await workflow.orchestrate(S.START, timeout=0.001, store=watch("store", MemoryStore()))
    workflow.register(S.START, lambda: never(None), attempt_timeout=0.001, inline=True, replace=True)
    with suppress(AttemptTimeoutError):
        await workflow.orchestrate(S.START)


@fails
async def cancelled(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](engine=engine).add_exit_state(S.JOINED)
    workflow.register_map(S.START, watched_branch(watch, never), items(watch), joined())
    task = asyncio.create_task(workflow.orchestrate(S.START))
    await asyncio.sleep(0)
    task.cancel("enough")
    with suppress(asyncio.CancelledError):
        await task


@fails
async def cancelled_by_a_token(engine: str, watch: Watch) -> None:
    token = watch("token", TOKEN.child())
    workflow = Workflow[S](engine=engine).add_exit_state(S.JOINED)
    workflow.register_map(S.START, watched_branch(watch, never), items(watch), joined())
    asyncio.get_running_loop().call_later(0, token.cancel)
    with suppress(RunCancelledError):
        await workflow.orchestrate(S.START, cancel=token)


@fails
async def rows_left_early(engine: str, watch: Watch) -> None:
    async def answer(item: int) -> Thing:
        local = watch("local", Thing())
        await (on_a_future(local) if item == 1 else never(local))
        return watch("result", Thing())

    async with aclosing(as_completed(answer, range(5), engine=engine)) as ended:
        async for _ in ended:
            break


@fails
async def events_left_early(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](engine=engine).add_exit_state(S.JOINED)
    workflow.register_map(S.START, watched_branch(watch, never), items(watch), joined())
    async with aclosing(workflow.stream(S.START)) as stream:
        async for event in stream:
            if event.kind == "branch_start":
                break


@fails
async def source_left_early(engine: str, watch: Watch) -> None:
    def source() -> Iterator[Thing]:
        while True:
            yield watch("item", Thing())

    async def endless() -> AsyncIterator[Thing]:
        while True:
            yield watch("item", Thing())

    for over in (source(), endless()):
        await fan_out(
            watched_branch(watch), watch("source", over), strategy=JoinStrategy.Quorum(3), bulkhead=2, engine=engine
        )


@fails
async def never_awaited(engine: str, watch: Watch) -> None:
    workflow = Workflow[S](engine=engine).register(S.START, go(S.DONE)).add_exit_state(S.DONE)
    for coroutine in (workflow.orchestrate(S.START), fan_out(watched_branch(watch), items(watch), engine=engine)):
        watch("coroutine", coroutine).close()


@fails
async def closed_half_way(engine: str, watch: Watch) -> None:
    coroutine = watch("coroutine", fan_out(watched_branch(watch, never), items(watch), engine=engine))
    coroutine.send(None)
    coroutine.close()
    await asyncio.sleep(0)
