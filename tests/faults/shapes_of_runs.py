"""Programs for every way of running: what a source is, what a task is, who watches, who asks for the results.

Like those of `shapes.py`; taken where a point costs little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from tests.contract.given import Boom, Observer, S, join
from tests.faults.shapes import Build, Shape, facts, of

from cano import (
    CancelToken,
    JoinStrategy,
    MemoryStore,
    Node,
    Retry,
    RetryExhaustedError,
    RunCancelledError,
    SplitTimeoutError,
    TaskError,
    Workflow,
    WorkflowTimeoutError,
    as_completed,
    fan_out,
)

if TYPE_CHECKING:
    from tests.contract.shapes import Trace

RUNS: dict[str, Shape] = {}


def workflow(build: Build) -> Build:
    """A program that runs what the function registers."""
    RUNS[build.__name__] = of(build)
    return build


def program(function: Shape) -> Shape:
    RUNS[function.__name__] = function
    return function


def worker(trace: Trace, failing: tuple[int, ...] = ()) -> Callable[[int], Any]:
    async def branch(item: int) -> int:
        await trace.work(item, clean_up=0.5)
        if item in failing:
            raise Boom(item)
        return item

    return branch


def store_of(engine: str, **items: Any) -> Any:
    store = Workflow[Any](engine=engine).store
    for key, value in items.items():
        store.put(key, value)
    return store


# --- tasks ------------------------------------------------------------------------------------------------------------


@workflow
def nodes_in_a_cycle(trace: Trace, flow: Workflow[Any]) -> None:
    """Three rounds of a node whose phases are asynchronous; each second one fails once and begins anew."""

    class Round(Node):  # type: ignore[type-arg]
        fails = True

        async def prep(self, store: MemoryStore) -> int:
            await trace.work(0)
            return len(store.get("rounds", default=[]))

        async def exec(self, value: int) -> int:
            await trace.work(1, clean_up=0.5)
            if value == 1 and self.fails:
                self.fails = False
                raise Boom
            return value + 1

        async def post(self, store: MemoryStore, value: int) -> S:
            store.append("rounds", value)
            await trace.work(0)
            return S.START if value < 3 else S.DONE

    flow.register(S.START, Round(), retry=Retry.fixed(2, 1), attempt_timeout=50)


@workflow
def a_node_on_threads(trace: Trace, flow: Workflow[Any]) -> None:
    class Mixed(Node):  # type: ignore[type-arg]
        def prep(self, store: MemoryStore) -> int:
            return 2

        async def exec(self, value: int) -> int:
            await trace.work(value)
            return value

        def post(self, store: MemoryStore, value: int) -> S:
            store.put("value", value)
            return S.DONE

    flow.register(S.START, Mixed())


@workflow
def threads_that_fail(trace: Trace, flow: Workflow[Any]) -> None:
    tries: list[int] = []

    def branch(item: int) -> int:
        tries.append(item)
        if tries.count(item) < 2:
            raise Boom
        return item

    flow.register_map(S.START, branch, range(3), join(bulkhead=2), retry=Retry.fixed(1, 1), attempt_timeout=50)


@workflow
def threads_that_answer_with_a_coroutine(trace: Trace, flow: Workflow[Any]) -> None:
    flow.register_map(S.START, lambda item: trace.work(item, clean_up=0.5), range(3), join())


@workflow
def states_that_are_sync(trace: Trace, flow: Workflow[Any]) -> None:
    """On a thread and in place, in turn."""
    order = [S.START, S.FAN, S.WORK, S.JOINED, S.DONE]
    for number, (state, following) in enumerate(zip(order, order[1:], strict=False)):
        flow.register(state, lambda following=following: following, inline=bool(number % 2))


@program
async def out_of_retries(trace: Trace, engine: str) -> Any:
    async def fail() -> Any:
        await trace.work(1)
        raise Boom

    flow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    flow.register(S.START, fail, retry=Retry.exponential(3, base=1, jitter=0, max_elapsed=20))
    try:
        return await flow.orchestrate(S.START)
    except RetryExhaustedError as error:
        return error.attempts, type(error.__cause__)


# --- sources ----------------------------------------------------------------------------------------------------------


@workflow
def a_source_of_tasks(trace: Trace, flow: Workflow[Any]) -> None:
    """Branches decided by an asynchronous function of the store."""

    async def choose(store: MemoryStore) -> Any:
        await trace.work(1, clean_up=0.5)
        return [lambda: trace.work(1), lambda: trace.work(2, clean_up=0.5)]

    flow.register_split(S.START, choose, join(strategy=JoinStrategy.Quorum(2)), inline=True)


@program
async def a_source_that_fails(trace: Trace, engine: str) -> Any:
    def source() -> Any:
        yield from (1, 9)
        raise Boom

    try:
        return await fan_out(worker(trace), source, bulkhead=2, engine=engine)
    except TaskError as error:
        return type(error.__cause__)


@program
async def an_asynchronous_source_that_fails(trace: Trace, engine: str) -> Any:
    async def source() -> Any:
        trace.begun += 1
        try:
            for number in (9, 1):
                await asyncio.sleep(1)
                yield number
            raise Boom
        finally:
            trace.ended += 1

    try:
        return await fan_out(worker(trace), source, engine=engine)
    except TaskError as error:
        return type(error.__cause__)


@workflow
def an_iterator_of_ones_own(trace: Trace, flow: Workflow[Any]) -> None:
    """No generator: it has nothing that could be closed. It is slower than the branches, then faster."""

    class Numbers:
        def __init__(self) -> None:
            self.number = 0

        def __aiter__(self) -> Numbers:
            return self

        async def __anext__(self) -> int:
            self.number += 1
            if self.number > 4:
                raise StopAsyncIteration
            await asyncio.sleep(2 if self.number < 3 else 0)
            return 1

    flow.register_map(S.START, worker(trace), Numbers, join(bulkhead=1))


@workflow
def a_source_whose_end_takes_time(trace: Trace, flow: Workflow[Any]) -> None:
    """The join is decided while the source waits, and its clean-up awaits."""

    async def source() -> Any:
        trace.begun += 1
        try:
            yield 1
            yield 0
            await asyncio.sleep(9)
        finally:
            await asyncio.sleep(0.5)
            trace.ended += 1

    flow.register_map(S.START, worker(trace), source, join(strategy=JoinStrategy.Quorum(2)))


# --- runs -------------------------------------------------------------------------------------------------------------


@program
async def executed(trace: Trace, engine: str) -> Any:
    flow: Workflow[Any] = Workflow(engine=engine, max_transitions=9).add_exit_state(S.DONE)
    flow.register_map(S.START, worker(trace), [1, 0], join(S.FAN))
    flow.register_map(S.FAN, worker(trace, (0,)), [1, 0], join(S.WORK, JoinStrategy.Any, store_partial_results=True))
    flow.register(S.WORK, lambda: trace.work(0, S.DONE), inline=True)
    report = await flow.execute(S.START, timeout=100, cancel=CancelToken())
    return report.path, [split.outputs() for split in report.splits], facts(flow)


@program
async def streamed_and_left(trace: Trace, engine: str) -> Any:
    """Whoever leaves the loop early cancels the run, and waits for it."""
    flow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    flow.register_map(S.START, worker(trace), [2, 0, 9], join())
    seen = []
    async with aclosing(flow.stream(S.START)) as events:
        async for event in events:
            seen.append(event.kind)
            if seen.count("branch_success") == 2:
                break
    return seen


@program
async def several_at_once(trace: Trace, engine: str) -> Any:
    """Three runs of one workflow, each with a store of its own."""
    flow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    flow.register_map(S.START, worker(trace), lambda store: range(store["items"]), join())
    async with asyncio.TaskGroup() as group:
        runs = [
            group.create_task(flow.orchestrate(S.START, store=store_of(engine, items=number))) for number in range(3)
        ]
    return [run.result() for run in runs]


@program
async def a_run_past_its_limit(trace: Trace, engine: str) -> Any:
    """The limit of an inner run passes, and a token ends another; the run around them goes on."""
    inner: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    inner.register_map(S.START, worker(trace), [1, 9], join())
    flow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)

    async def limited() -> Any:
        try:
            return await inner.orchestrate(S.START, timeout=1.5)
        except WorkflowTimeoutError:
            return S.WORK

    async def ended() -> Any:
        token = CancelToken()
        asyncio.get_running_loop().call_later(1.5, token.cancel, "enough")
        try:
            return await inner.orchestrate(S.START, cancel=token)
        except RunCancelledError as error:
            return S.DONE if error.reason == "enough" else S.FAILED

    flow.register(S.START, limited).register(S.WORK, ended)
    return await flow.orchestrate(S.START, timeout=100)


@program
async def runs_in_branches(trace: Trace, engine: str) -> Any:
    """Branches that run a workflow with an observer each; one is past its limit."""
    observer = Observer()
    inner: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE).add_observer(observer)
    inner.register_map(S.START, worker(trace), lambda store: range(store["items"]), join())

    async def branch(item: int) -> Any:
        return await inner.orchestrate(S.START, store=store_of(engine, items=item), timeout=3)

    options: dict[str, Any] = {"strategy": JoinStrategy.PartialTimeout, "timeout": 50}
    split = await fan_out(branch, [1, 2, 4], **options, engine=engine)
    return split.outputs(), [type(row.error) for row in split.errors], observer.kinds


@program
async def on_another_loop(trace: Trace, engine: str) -> Any:
    """`run`, on a thread, beside a split that goes on meanwhile."""

    async def immediate(item: int) -> int:
        return item

    flow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    flow.register_map(S.START, immediate, range(3), join())

    async def branch(item: int) -> Any:
        return await (asyncio.to_thread(flow.run, S.START) if item == 1 else trace.work(item))

    return (await fan_out(branch, range(3), engine=engine)).outputs()


@workflow
def results_in_the_store(trace: Trace, flow: Workflow[Any]) -> None:
    """Each state reads what the split before it has left."""

    def reads(following: S) -> Any:
        async def run(store: MemoryStore) -> S:
            split = store.get("split_results")
            await trace.work(0)
            store.put("sum", sum(split.outputs()) + store.get("sum", default=0))
            return following

        return run

    flow.register_map(S.START, worker(trace), [1, 2], join(S.FAN, store_partial_results=True))
    flow.register(S.FAN, reads(S.WORK))
    config = join(S.JOINED, JoinStrategy.PartialTimeout, timeout=1.5, store_partial_results=True)
    flow.register_map(S.WORK, lambda item, store: trace.work(item, store["sum"]), [0, 9], config, inline=True)
    flow.register(S.JOINED, reads(S.DONE))


# --- as_completed -----------------------------------------------------------------------------------------------------


@program
async def rows_as_they_come(trace: Trace, engine: str) -> Any:
    """The consumer is slower than the branches, and holds them back."""
    seen = []
    async with aclosing(as_completed(worker(trace, (1,)), [2, 1, 0, 1], buffer=1, bulkhead=2, engine=engine)) as rows:
        async for row in rows:
            await trace.work(1)
            seen.append((row.task_index, type(row.error)))
    return seen


@program
async def rows_that_nobody_takes(trace: Trace, engine: str) -> Any:
    async with aclosing(as_completed(worker(trace), [0, 2, 9, 9], engine=engine)) as rows:
        async for row in rows:
            if row.result == 2:
                break
    return row.task_index


@program
async def rows_too_late(trace: Trace, engine: str) -> Any:
    seen = []
    try:
        async with aclosing(as_completed(worker(trace), [0, 1, 9], timeout=4, ordered=True, engine=engine)) as rows:
            async for row in rows:
                seen.append(row.result)
    except SplitTimeoutError:
        seen.append(-1)
    return seen


@program
async def rows_of_an_asynchronous_source(trace: Trace, engine: str) -> Any:
    tries: list[int] = []

    async def source() -> Any:
        for number in (1, 0, 2):
            await asyncio.sleep(1)
            yield number

    async def branch(item: int) -> int:
        tries.append(item)
        await trace.work(item, clean_up=0.5)
        if tries.count(item) < 2:
            raise Boom
        return item

    rows = as_completed(branch, source, retry=Retry.fixed(1, 1), attempt_timeout=50, bulkhead=2, engine=engine)
    async with aclosing(rows) as done:
        return [(row.task_index, row.attempts) async for row in done]
