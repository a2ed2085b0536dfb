"""Programs that use the package in every way there is, each with a result that is the same every time.

Those of `tests.contract.shapes`, and what no workflow of those has: threads, strategies and filters of the user's, the ways of
running without a workflow, real tasks for branches. Every enumerator takes these; more of them, for those whose points cost
little, are in `shapes_of_joins.py`, `shapes_of_awaits.py` and `shapes_of_runs.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from tests.contract import shapes as contract
from tests.contract.given import Boom, Observer, S, join
from tests.contract.shapes import Trace

import cano
from cano import CancelToken, JoinStrategy, JoinVerdict, Node, Retry, Workflow, as_completed, fan_out

Shape = Callable[[Trace, str], Awaitable[Any]]

SHAPES: dict[str, Shape] = {}


def shape(function: Shape) -> Shape:
    SHAPES[function.__name__] = function
    return function


Build = Callable[[Trace, Workflow[Any]], None]

TAKE_A_TOKEN: set[Shape] = set()  # programs that are one run of a workflow, which the trace's token ends


def of(build: Build) -> Shape:
    """The program that runs a workflow, which `build` registers the states of, from START to DONE."""

    async def run(trace: Trace, engine: str) -> Any:
        workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
        build(trace, workflow)
        if trace.observer is not None:
            workflow.add_observer(trace.observer)
        return await workflow.orchestrate(S.START, cancel=trace.token), facts(workflow)

    TAKE_A_TOKEN.add(run)
    return run


SHAPES.update({name: of(build) for name, build in contract.SHAPES.items()})


def facts(workflow: Workflow[Any]) -> Any:
    """What a run left in the store, as far as it can be compared."""
    found = dict(workflow.store.snapshot())
    split = found.pop("split_results", None)
    return found, None if split is None else (split.outputs(), split.cancelled)


@shape
async def observed(trace: Trace, engine: str) -> Any:
    workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    contract.quorum(trace, workflow)
    observer = Observer()
    report = await workflow.add_observer(observer).execute(S.START, timeout=1000, cancel=CancelToken())
    return report.path, observer.kinds, report.splits[0].outputs()


@shape
async def streamed(trace: Trace, engine: str) -> Any:
    workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    contract.fan(trace, workflow)
    async with aclosing(workflow.stream(S.START)) as events:
        return [event.kind async for event in events]


@shape
async def real_tasks(trace: Trace, engine: str) -> Any:
    workflow: Workflow[Any] = Workflow(engine=engine, introspect=True).add_exit_state(S.DONE)
    contract.quorum(trace, workflow)
    return await workflow.orchestrate(S.START)


@shape
async def on_threads(trace: Trace, engine: str) -> Any:
    def square(item: int) -> int:
        return item * item

    workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register(S.START, lambda: S.FAN)
    workflow.register_map(S.FAN, square, range(3), join(store_partial_results=True, bulkhead=2))
    return await workflow.orchestrate(S.START), facts(workflow)


@shape
async def at_once(trace: Trace, engine: str) -> Any:
    """Nothing suspends: inline functions, coroutines that return at once, a node."""

    class Doubling(Node):  # type: ignore[type-arg]
        def prep(self, store: Any) -> int:
            return 2

        def exec(self, value: int) -> int:
            return value * 2

        def post(self, store: Any, value: int) -> S:
            store.put("doubled", value)
            return S.WORK

    async def immediate(item: int) -> int:
        return item

    workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register(S.START, Doubling(), inline=True)
    workflow.register_map(S.WORK, immediate, range(4), join(S.JOINED, store_partial_results=True))
    workflow.register_map(S.JOINED, lambda item, store: item, range(4), join(), inline=True)
    return await workflow.orchestrate(S.START), facts(workflow)


@shape
async def by_a_function(trace: Trace, engine: str) -> Any:
    """A strategy, a filter and a source of the user's."""

    def enough(progress: Any) -> JoinVerdict:
        return JoinVerdict.PROCEED if progress.succeeded == 2 else JoinVerdict.WAIT

    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        await trace.work(item, clean_up=1)
        if item == 1 and tries.count(1) < 2:
            raise Boom
        return item

    async def source(store: Any) -> Any:
        await asyncio.sleep(1)
        return [1, 2, 9]

    workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    config = join(strategy=JoinStrategy.Custom(enough), store_partial_results=True, timeout=100)
    retry = Retry.exponential(2, base=1, jitter=0, retry_on=lambda error: isinstance(error, Boom))
    workflow.register_map(S.START, branch, source, config, retry=retry)
    return await workflow.orchestrate(S.START), facts(workflow)


@shape
async def alone(trace: Trace, engine: str) -> Any:
    """A split without a workflow, with another in each branch."""

    async def inner(item: int) -> int:
        await trace.work(item, clean_up=0.5)
        return item

    async def branch(item: int) -> list[Any]:
        return (await fan_out(inner, range(item), engine=engine)).outputs()

    split = await fan_out(branch, [1, 2, 3], strategy=JoinStrategy.Percentage(0.6), timeout=100, engine=engine)
    return split.outputs(), split.cancelled


@shape
async def row_by_row(trace: Trace, engine: str) -> Any:
    async def branch(item: int) -> int:
        await trace.work(item, clean_up=0.5)
        if item == 2:
            raise Boom
        return item

    rows = as_completed(branch, [3, 1, 2, 0], ordered=True, buffer=2, bulkhead=3, engine=engine)
    async with aclosing(rows) as done:
        return [(row.task_index, row.result, type(row.error)) async for row in done]


@shape
async def in_batches(trace: Trace, engine: str) -> Any:
    """Branches that yield bare, and pauses, in many turns."""

    async def branch(item: int) -> int:
        trace.begun += 1
        try:
            for _ in range(item):
                await asyncio.sleep(0)
            await cano.sleep(item)
            return item
        finally:
            try:
                await cano.sleep(0)
            finally:
                trace.ended += 1

    split = await fan_out(branch, range(4), strategy=JoinStrategy.PartialResults(3), engine=engine)
    return sorted(split.outputs()), split.cancelled
