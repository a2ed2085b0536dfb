"""Programs for every way a join can end: each strategy over tasks, data, branches chosen at run time, and without a workflow.

Like those of `shapes.py`; taken where a point costs little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.contract.given import Boom, S, join
from tests.faults.shapes import Build, Shape, facts, of

from cano import (
    JoinConfig,
    JoinError,
    JoinProgress,
    JoinStrategy,
    JoinVerdict,
    Retry,
    SplitTimeoutError,
    TaskError,
    TaskResult,
    Workflow,
    fan_out,
)

if TYPE_CHECKING:
    from tests.contract.shapes import Trace

JOINS: dict[str, Shape] = {}


def workflow(build: Build) -> Build:
    """A program that runs what the function registers."""
    JOINS[build.__name__] = of(build)
    return build


def program(function: Shape) -> Shape:
    JOINS[function.__name__] = function
    return function


def worker(trace: Trace, failing: tuple[int, ...] = (), clean_up: float = 0.5) -> Callable[[int], Any]:
    """A branch that takes as long as its item says, and may fail then."""

    async def branch(item: int) -> int:
        await trace.work(item, clean_up=clean_up)
        if item in failing:
            raise Boom(item)
        return item

    return branch


def tasks(trace: Trace, *seconds: int, failing: tuple[int, ...] = ()) -> list[Any]:
    branch = worker(trace, failing)
    return [lambda item=item: branch(item) for item in seconds]


def at_run_time(trace: Trace, flow: Workflow[Any], chosen: Callable[[], Any], config: JoinConfig[Any]) -> None:
    async def choose() -> Any:
        await trace.work(0)
        return TaskResult.Split(chosen(), config)

    flow.register(S.START, choose)


def ended(error: JoinError | SplitTimeoutError) -> Any:
    """What a failed join says, where `fail` is what it should."""
    result: Any = error.result
    assert len(result.successes) + len(result.errors) + len(result.cancelled) == result.total_count
    return type(error).__name__, [row.task_index for row in result.errors], result.cancelled


@workflow
def all_of_tasks(trace: Trace, flow: Workflow[Any]) -> None:
    class Processor:
        def __init__(self, seconds: int) -> None:
            self.seconds = seconds

        async def run(self, store: Any) -> int:
            await trace.work(self.seconds, clean_up=1)
            store.append("seen", self.seconds)
            return self.seconds

    branches = [Processor(2), Processor(1), lambda: trace.work(0)]
    flow.register_split(S.START, branches, join(S.WORK, store_partial_results=True), inline=True)
    flow.register(S.WORK, lambda store: S.DONE if store["split_results"].outputs() else S.FAILED, inline=True)


@program
async def all_fails_fast(trace: Trace, engine: str) -> Any:
    flow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    flow.register_split(S.START, tasks(trace, 3, 1, 9, 9, failing=(1,)), join(store_partial_results=True), inline=True)
    try:
        return await flow.orchestrate(S.START)
    except JoinError as error:
        return ended(error), facts(flow)


@program
async def all_fails_at_the_end(trace: Trace, engine: str) -> Any:
    try:
        return await fan_out(worker(trace, (1, 2)), [2, 1, 3], fail_fast=False, engine=engine)
    except JoinError as error:
        return ended(error)


@workflow
def all_of_none(trace: Trace, flow: Workflow[Any]) -> None:
    """Joins that are decided before anything begins."""
    flow.register_map(S.START, worker(trace), [], join(S.FAN, store_partial_results=True))
    flow.register_map(S.FAN, worker(trace), range(5), join(S.WORK, JoinStrategy.Quorum(0)))
    flow.register(S.WORK, lambda: trace.work(0, S.DONE), inline=True)


@workflow
def any_of_tasks(trace: Trace, flow: Workflow[Any]) -> None:
    flow.register_split(S.START, tasks(trace, 1, 9, 2, 9, failing=(1,)), join(strategy=JoinStrategy.Any), inline=True)


@workflow
def any_at_run_time(trace: Trace, flow: Workflow[Any]) -> None:
    at_run_time(trace, flow, lambda: tasks(trace, 2, 1, 9), join(strategy=JoinStrategy.Any, bulkhead=2))


@program
async def any_fails(trace: Trace, engine: str) -> Any:
    try:
        return await fan_out(worker(trace, (1, 2)), [1, 2, 1], strategy=JoinStrategy.Any, engine=engine)
    except JoinError as error:
        return ended(error)


@workflow
def any_of_an_endless_source(trace: Trace, flow: Workflow[Any]) -> None:
    """Every branch fails until one does not; nobody knows how many there are."""

    def source() -> Any:
        number = 0
        while True:
            yield number
            number += 1

    async def branch(item: int) -> int:
        await trace.work(0.5, clean_up=1)
        if item < 3:
            raise Boom
        return item

    flow.register_map(S.START, branch, source, join(strategy=JoinStrategy.Any, bulkhead=2))


@workflow
def hedged_tasks(trace: Trace, flow: Workflow[Any]) -> None:
    """The second starts because the first fails, the third because the second takes its time."""
    config = join(strategy=JoinStrategy.Any, hedge_delay=2, timeout=100)
    flow.register_split(S.START, tasks(trace, 1, 9, 2, 9, failing=(1,)), config, inline=True)


@workflow
def hedged_and_retried(trace: Trace, flow: Workflow[Any]) -> None:
    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        await trace.work(1, clean_up=0.5)
        if len(tries) < 4:
            raise Boom
        return item

    config = join(strategy=JoinStrategy.Any, hedge_delay=1.5)
    flow.register_map(S.START, branch, range(3), config, retry=Retry.fixed(1, 1))


@workflow
def quorum_at_run_time(trace: Trace, flow: Workflow[Any]) -> None:
    chosen = lambda: tasks(trace, 9, 1, 2, 3, failing=(2,))  # noqa: E731
    at_run_time(trace, flow, chosen, join(strategy=JoinStrategy.Quorum(2), store_partial_results=True))


@program
async def quorum_out_of_reach(trace: Trace, engine: str) -> Any:
    try:
        await fan_out(worker(trace, (1, 2)), [9, 1, 2, 9], strategy=JoinStrategy.Quorum(3), engine=engine)
    except JoinError as error:
        return ended(error)


@program
async def quorum_too_late(trace: Trace, engine: str) -> Any:
    flow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    config = join(strategy=JoinStrategy.Quorum(2), timeout=3, bulkhead=2, store_partial_results=True)
    flow.register_map(S.START, worker(trace), [1, 9, 9, 9], config)
    try:
        return await flow.orchestrate(S.START)
    except SplitTimeoutError as error:
        return ended(error), facts(flow)


@workflow
def percentage_of_data(trace: Trace, flow: Workflow[Any]) -> None:
    config = join(strategy=JoinStrategy.Percentage(0.5), bulkhead=3)
    flow.register_map(S.START, worker(trace, (1,)), [2, 1, 3, 9, 0, 9], config)


@workflow
def percentage_of_tasks(trace: Trace, flow: Workflow[Any]) -> None:
    config = join(strategy=JoinStrategy.Percentage(1.0), timeout=50)
    flow.register_split(S.START, tasks(trace, 1, 2, 0), config, inline=True)


@workflow
def percentage_at_run_time(trace: Trace, flow: Workflow[Any]) -> None:
    chosen = lambda: tasks(trace, 1, 9, 2)  # noqa: E731
    at_run_time(trace, flow, chosen, join(strategy=JoinStrategy.Percentage(0.6)))


@workflow
def partial_results_of_tasks(trace: Trace, flow: Workflow[Any]) -> None:
    config = join(S.WORK, JoinStrategy.PartialResults(2), store_partial_results=True)
    flow.register_split(S.START, tasks(trace, 2, 1, 9, 9), config, inline=True)
    flow.register(S.WORK, lambda: trace.work(1, S.DONE, clean_up=1), inline=True)


@workflow
def partial_results_of_an_endless_source(trace: Trace, flow: Workflow[Any]) -> None:
    async def source() -> Any:
        number = 0
        while True:
            await asyncio.sleep(0)
            yield number % 3
            number += 1

    config = join(strategy=JoinStrategy.PartialResults(3), bulkhead=2)
    flow.register_map(S.START, worker(trace, (1,)), source, config)


@program
async def partial_timeout_with_too_few(trace: Trace, engine: str) -> Any:
    options: dict[str, Any] = {"strategy": JoinStrategy.PartialTimeout, "timeout": 3, "min_successes": 2}
    try:
        return await fan_out(worker(trace, (1,)), [1, 0, 9, 9], **options, engine=engine)
    except JoinError as error:
        return ended(error)


@workflow
def partial_timeout_in_time(trace: Trace, flow: Workflow[Any]) -> None:
    """Every branch ends before the deadline."""
    config = join(strategy=JoinStrategy.PartialTimeout, timeout=50, min_successes=1)
    flow.register_split(S.START, tasks(trace, 1, 2, 0, failing=(2,)), config, inline=True)


@workflow
def partial_timeout_at_run_time(trace: Trace, flow: Workflow[Any]) -> None:
    config = join(strategy=JoinStrategy.PartialTimeout, timeout=3, bulkhead=2, store_partial_results=True)
    at_run_time(trace, flow, lambda: tasks(trace, 1, 9, 9, 0), config)


def weighing(progress: JoinProgress) -> JoinVerdict:
    if progress.pending == 0:
        return JoinVerdict.PROCEED if progress.succeeded else JoinVerdict.FAIL
    return JoinVerdict.FAIL if progress.failed == 2 else JoinVerdict.WAIT


@workflow
def custom_of_tasks(trace: Trace, flow: Workflow[Any]) -> None:
    config = join(strategy=JoinStrategy.Custom(weighing))
    flow.register_split(S.START, tasks(trace, 1, 2, 0, failing=(2,)), config, inline=True)


@workflow
def custom_of_a_source(trace: Trace, flow: Workflow[Any]) -> None:
    """It is asked once more when the source turns out to have ended."""
    config = join(strategy=JoinStrategy.Custom(weighing), bulkhead=2)
    flow.register_map(S.START, worker(trace, (2,)), lambda: iter([1, 2, 0]), config)


@program
async def custom_says_no(trace: Trace, engine: str) -> Any:
    try:
        await fan_out(worker(trace, (1, 2)), [1, 2, 9], strategy=JoinStrategy.Custom(weighing), engine=engine)
    except JoinError as error:
        return ended(error)


@program
async def custom_raises(trace: Trace, engine: str) -> Any:
    def broken(progress: JoinProgress) -> JoinVerdict:
        raise Boom

    try:
        await fan_out(worker(trace), [1, 9, 9], strategy=JoinStrategy.Custom(broken), engine=engine)
    except TaskError as error:
        return type(error.__cause__)


@workflow
def permits_and_back_off(trace: Trace, flow: Workflow[Any]) -> None:
    """Branches that back off hold no permit, and wait for one when they are due."""
    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        await trace.work(1, clean_up=0.5)
        if tries.count(item) < 3 and item % 2:
            raise Boom
        return item

    retry = Retry.exponential(3, base=1, factor=2, jitter=0)
    flow.register_map(S.START, branch, range(5), join(bulkhead=2, fail_fast=False), retry=retry)


@workflow
def three_rounds(trace: Trace, flow: Workflow[Any]) -> None:
    """A split at run time whose join state splits again."""
    rounds: list[int] = []

    async def choose() -> Any:
        rounds.append(1)
        await trace.work(0)
        last = len(rounds) % 3 == 0
        return TaskResult.Split(tasks(trace, 1, 0), join(S.DONE if last else S.START, JoinStrategy.Quorum(1)))

    flow.register(S.START, choose)
