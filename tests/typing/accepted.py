"""Checked and never run: what users write, with the types a checker must infer. See test_types.py."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any, Literal, assert_type

from cano import (
    CancelToken,
    JoinConfig,
    JoinError,
    JoinProgress,
    JoinStrategy,
    JoinVerdict,
    MemoryStore,
    Node,
    Retry,
    RunEvent,
    RunReport,
    SplitResult,
    SplitTaskResult,
    StateVisit,
    Task,
    TaskResult,
    Workflow,
    as_completed,
    fan_out,
    set_thread_limit,
    sleep,
)


class S(enum.Enum):
    START = "start"
    FAN = "fan"
    JOINED = "joined"
    DONE = "done"


async def fetch(item: int) -> str:
    return str(item)


def parse(item: int) -> float:
    return item / 2


async def numbers() -> AsyncIterator[int]:
    yield 1


async def load(store: MemoryStore) -> TaskResult[S]:
    store.put("n", 1)
    return TaskResult.Single(S.FAN)


def report(store: MemoryStore) -> S:
    assert_type(store.get("n", int), int)
    return S.DONE


async def either() -> Literal[S.FAN, S.DONE]:
    return S.DONE


class Processor:
    async def run(self, store: MemoryStore) -> int:
        return store.get("n", int)


class Loading(Task[S]):
    name = "loading"
    config = {"retry": Retry.fixed(2, 0.1)}  # noqa: RUF012 - as users write it

    async def run(self, store: MemoryStore) -> S:
        return S.DONE


class Shout(Node[S, str, str]):
    def prep(self, store: MemoryStore) -> str:
        return store.get("text", str)

    def exec(self, value: str) -> str:
        return value.upper()

    def post(self, store: MemoryStore, value: str) -> S:
        store.put("text", value)
        return S.DONE


# --- building: chained, statements, decorators ------------------------------------------------------------------------

joined = JoinConfig(JoinStrategy.All, S.JOINED, timeout=timedelta(seconds=1), bulkhead=8)
assert_type(joined, JoinConfig[S])
assert_type(joined.join_state, S)
assert_type(joined.with_timeout(5).with_bulkhead(None).with_store_partial_results(True), JoinConfig[S])
assert_type(joined.with_join_state("elsewhere"), JoinConfig[str])
assert_type(joined.timeout, float | None)

chained = (
    Workflow[S](MemoryStore(), name="chained", max_transitions=100)
    .register(S.START, load, retry=Retry.exponential(3), attempt_timeout=timedelta(seconds=1), next=[S.FAN])
    .register_split(S.FAN, [Processor(), Processor()], joined, inline=False)
    .register(S.JOINED, report, name="report", replace=True)
    .add_exit_state(S.DONE)
)
assert_type(chained, Workflow[S])

statements: Workflow[S] = Workflow(engine="python", introspect=True)
statements.register(S.START, either, next=S)
statements.register_map(S.FAN, fetch, numbers, joined, retry=None)
statements.register_map(S.FAN, fetch, [1, 2, 3], joined)
statements.register(S.JOINED, Shout()).register(S.DONE, Loading())
statements.add_exit_states({S.DONE})
statements.validate()
assert_type(statements.add_observer(object()), Workflow[S])
assert_type(statements.to_mermaid(), str)
assert_type(statements.name, str | None)
assert_type(statements.engine, str)

decorated = Workflow[S]()


@decorated.state(S.START, retry=Retry.none())
async def first(store: MemoryStore) -> S:
    return S.FAN


@decorated.split(S.FAN, over=[1, 2], join=joined)
async def each(item: int, store: MemoryStore) -> str:
    return str(item)


@decorated.split(S.FAN, join=joined)
def tasks(store: MemoryStore) -> list[Processor]:
    return [Processor()]


# A decorator leaves the function as it was.
assert_type(each(1, MemoryStore()).close(), None)
assert_type(tasks(MemoryStore()), list[Processor])

# States may be anything hashable.
strings = Workflow[str]().register("a", report).add_exit_state("b")
assert_type(strings, Workflow[str])


# --- what tasks answer ------------------------------------------------------------------------------------------------

assert_type(TaskResult.Single(S.DONE), TaskResult[S])
assert_type(TaskResult.Single("done"), TaskResult[str])
assert_type(TaskResult.Split([Processor()], joined), TaskResult[S])


# --- running ----------------------------------------------------------------------------------------------------------


async def runs(workflow: Workflow[S], token: CancelToken) -> None:
    assert_type(await workflow.orchestrate(S.START, timeout=3, cancel=token), S)
    assert_type(await workflow.orchestrate(S.START, store=MemoryStore(), timeout=timedelta(minutes=1)), S)
    done = await workflow.execute(S.START)
    assert_type(done, RunReport[S])
    assert_type(done.state, S)
    assert_type(done.path, tuple[S, ...])
    assert_type(done.visits, tuple[StateVisit[S], ...])
    assert_type(done.visits[0].state, S)
    assert_type(done.splits, tuple[SplitResult[Any], ...])
    assert_type(done.elapsed, float)
    assert_type(workflow.to_dot(done), str)
    assert_type(workflow.stream(S.START), AsyncGenerator[RunEvent, None])
    async for event in workflow.stream(S.START, cancel=token.child()):
        assert_type(event, RunEvent)
        assert_type(event.kind, str)
        assert_type(event.branch, int | None)
    assert_type(await token.wait(), str | None)


def runs_without_a_loop(workflow: Workflow[S]) -> S:
    return workflow.run(S.START)


# --- a split without a workflow ---------------------------------------------------------------------------------------


async def splits() -> None:
    fetched = await fan_out(fetch, [1, 2], strategy=JoinStrategy.Quorum(1), timeout=1)
    assert_type(fetched, SplitResult[str])
    assert_type(fetched.outputs(), list[str])
    assert_type(fetched.successes, tuple[SplitTaskResult[str], ...])
    assert_type(fetched.cancelled, tuple[int, ...])
    assert_type(fetched.by_index(0), SplitTaskResult[str] | None)
    assert_type(fetched.successes[0].result, str | None)
    assert_type(fetched.errors[0].error, BaseException | None)

    assert_type(await fan_out(parse, range(3), inline=True), SplitResult[float])
    assert_type(await fan_out(parse, numbers(), bulkhead=2), SplitResult[float])
    assert_type(await fan_out(fetch, numbers, retry=Retry.fixed(1, 0)), SplitResult[str])
    assert_type(await fan_out(lambda item: item * 2, [1, 2]), SplitResult[int])

    async for row in as_completed(fetch, [1, 2], ordered=True, buffer=3):
        assert_type(row, SplitTaskResult[str])
        assert_type(row.task_index, int)
        assert_type(row.result, str | None)
    async for number in as_completed(parse, numbers()):
        assert_type(number, SplitTaskResult[float])
    assert_type(as_completed(parse, [1]), AsyncGenerator[SplitTaskResult[float], None])

    pausing: Awaitable[None] = sleep(0.1)
    await pausing
    assert_type(await sleep(timedelta(seconds=1), "late"), str)
    set_thread_limit(4)


# --- the store --------------------------------------------------------------------------------------------------------


def stores(store: MemoryStore) -> None:
    assert_type(store.get("k", int), int)
    assert_type(store.get("k", str, default=None), str | None)
    assert_type(store.get("k", list[int]), list[int])
    assert_type(store["k"], Any)
    assert_type(store.update("k", len), int)
    assert_type(store.keys(), list[str])
    assert_type(store.snapshot(), dict[str, Any])
    split = store.get("split_results", SplitResult[int])
    assert_type(split.outputs(), list[int])
    scope: MemoryStore = store.scoped("part")
    scope.append("k", 1)


# --- a strategy of one's own, and errors ------------------------------------------------------------------------------


def most(progress: JoinProgress) -> JoinVerdict:
    assert_type(progress.pending, int | None)
    return JoinVerdict.PROCEED if progress.succeeded > progress.failed else JoinVerdict.WAIT


assert_type(JoinStrategy.Custom(most), JoinStrategy)
assert_type(JoinStrategy.Custom(lambda progress: "fail"), JoinStrategy)


def join_failed(error: JoinError) -> None:
    assert_type(error.result, SplitResult[Any] | None)
    assert_type(error.state, Any)
    assert_type(error.path, tuple[Any, ...])
    for inner in error.exceptions:
        assert_type(inner, Exception | ExceptionGroup[Exception])
