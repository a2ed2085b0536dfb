"""Splits decided at run time: `TaskResult.Split`, and `register_split` with a function or an iterator."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.contract.given import Boom, S, join, never, sleeper, to

from cano import (
    ConfigurationError,
    JoinError,
    JoinStrategy,
    Retry,
    TaskError,
    TaskResult,
    Workflow,
    WorkflowError,
)


def choosing(engine: str, answer: Callable[[], Any], **options: Any) -> Workflow[Any]:
    """A workflow whose first task answers with a split."""
    workflow = Workflow(engine=engine).register(S.START, answer, **options)
    return workflow.register(S.JOINED, to(S.DONE)).add_exit_state(S.DONE)


def tasks(*values: Any) -> list[Any]:
    return [to(value) for value in values]


# --- TaskResult.Split ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "thread", "inline"])
async def test_a_task_fans_out_to_tasks_chosen_at_run_time(engine: str, kind: str) -> None:
    def choose() -> Any:
        return TaskResult.Split(tasks("a", "b"), join(S.JOINED))

    async def achoose() -> Any:
        return choose()

    workflow = choosing(engine, achoose if kind == "async" else choose, inline=kind == "inline")
    report = await workflow.execute(S.START)
    assert report.path == (S.START, S.JOINED, S.DONE)
    assert report.splits[0].outputs() == ["a", "b"]


async def test_the_branches_see_the_store_and_the_result_is_stored(engine: str, store: Any) -> None:
    async def count(store: Any) -> int:
        return store.update("n", lambda n: n + 1)  # type: ignore[no-any-return]

    async def choose(store: Any) -> Any:
        store.put("n", 0)
        return TaskResult.Split([count] * 3, join(S.DONE, store_partial_results=True))

    workflow = Workflow(store, engine=engine).register(S.START, choose).add_exit_state(S.DONE)
    await workflow.orchestrate(S.START)
    assert store.get("split_results").outputs() == [1, 2, 3]


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: tasks(1, 2, 3),
    "tuple": lambda: tuple(tasks(1, 2, 3)),
    "generator": lambda: (to(n) for n in (1, 2, 3)),
    "function": lambda: lambda: tasks(1, 2, 3),
    "function of the store": lambda: lambda store: tasks(*store.get("numbers")),
    "async function": lambda: _later,
    "async generator": lambda: _one_by_one(),
    "async generator function": lambda: _one_by_one,
}


async def _later() -> Any:
    await asyncio.sleep(1)
    return tasks(1, 2, 3)


async def _one_by_one() -> Any:
    for number in (1, 2, 3):
        await asyncio.sleep(1)
        yield to(number)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("how", ["Split", "register_split"])
async def test_branches_come_from_a_function_of_the_store_or_an_iterator(engine: str, how: str, kind: str) -> None:
    source = SOURCES[kind]()
    if how == "Split":
        workflow = choosing(engine, lambda: TaskResult.Split(source, join(S.DONE)))
    else:
        workflow = Workflow(engine=engine).register_split(S.START, source, join(S.DONE)).add_exit_state(S.DONE)
    workflow.store.put("numbers", [1, 2, 3])
    assert (await workflow.execute(S.START)).splits[0].outputs() == [1, 2, 3]


async def test_branches_are_started_lazily(engine: str) -> None:
    drawn: list[int] = []
    live = 0

    def source() -> Any:
        for number in range(10):
            drawn.append(number)

            async def work() -> int:
                nonlocal live
                live += 1
                assert live <= 2
                await asyncio.sleep(1)
                live -= 1
                return 1

            yield work

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, source, join(strategy=JoinStrategy.Quorum(3), bulkhead=2))
    report = await workflow.execute(S.START)
    assert report.elapsed == 2
    assert len(drawn) <= 5
    assert report.splits[0].total_count == len(drawn)


async def test_any_strategy_and_setting_holds(engine: str) -> None:
    config = join(S.DONE, JoinStrategy.Any, hedge_delay=1, timeout=10)
    workflow = choosing(engine, lambda: TaskResult.Split([sleeper(5, 1), sleeper(1, 2)], config))
    report = await workflow.execute(S.START)
    assert (report.elapsed, report.splits[0].outputs()) == (2, [2])


async def test_the_branches_have_the_options_of_that_state(engine: str) -> None:
    tries: list[int] = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise Boom
        return 1

    workflow = choosing(engine, lambda: TaskResult.Split([flaky], join(S.DONE)), retry=Retry.fixed(2, 1), name="choose")
    assert (await workflow.execute(S.START)).splits[0].successes[0].attempts == 3


@pytest.mark.parametrize("inline", [False, True])
async def test_also_whether_they_run_in_place(engine: str, inline: bool) -> None:
    async def choose() -> Any:
        return TaskResult.Split([threading.current_thread], join(S.DONE))

    (thread,) = (await choosing(engine, choose, inline=inline).execute(S.START)).splits[0].outputs()
    assert (thread is threading.current_thread()) == inline


async def test_a_split_that_fails_is_not_retried_by_its_state(engine: str) -> None:
    chosen: list[int] = []

    async def bad() -> None:
        raise Boom

    def choose() -> Any:
        chosen.append(1)
        return TaskResult.Split([bad], join(S.DONE))

    with pytest.raises(JoinError):
        await choosing(engine, choose, retry=Retry.fixed(3, 0)).orchestrate(S.START)
    assert chosen == [1]


async def test_no_branches(engine: str) -> None:
    report = await choosing(engine, lambda: TaskResult.Split([], join(S.DONE))).execute(S.START)
    assert report.splits[0].total_count == 0
    with pytest.raises(JoinError):
        await choosing(engine, lambda: TaskResult.Split([], join(S.DONE, JoinStrategy.Any))).orchestrate(S.START)


async def test_a_new_split_at_each_visit(engine: str, store: Any) -> None:
    async def choose(store: Any) -> Any:
        store.append("visits", 1)
        count = len(store.get("visits"))
        return S.DONE if count > 3 else TaskResult.Split(tasks(*range(count)), join(S.START))

    workflow = Workflow(store, engine=engine).register(S.START, choose).add_exit_state(S.DONE)
    report = await workflow.execute(S.START)
    assert [split.total_count for split in report.splits] == [1, 2, 3]


# --- what cannot work ---------------------------------------------------------------------------------------------


def test_split_needs_a_join_config_where_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match="needs a JoinConfig as its second argument, but JoinStrategy came"):
        TaskResult.Split([], JoinStrategy.All)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"TaskResult\.Single\(state\) or TaskResult\.Split"):
        TaskResult()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: (5, join(S.DONE)), ConfigurationError, "branches come from an iterable.*but int came"),
        (lambda: ("ab", join(S.DONE)), ConfigurationError, "branches come from an iterable of tasks.*but str came"),
        (lambda: ([5], join(S.DONE)), ConfigurationError, "a branch must be a callable or an object with run"),
        (lambda: ([never], join(S.DONE, JoinStrategy.Quorum(2))), ConfigurationError, "needs more successes"),
        (lambda: ([never], join(S.DONE, bulkhead=0)), ConfigurationError, "bulkhead is 0"),
        (lambda: ([never], join(S.DONE, JoinStrategy.PartialTimeout)), ConfigurationError, "needs a timeout"),
        (lambda: ([never], join(S.FAILED)), WorkflowError, r"S\.FAILED, which is no state of this workflow"),
    ],
)
async def test_a_split_that_can_never_be_joined_fails_the_state(
    engine: str, make: Any, kind: type[Exception], message: str
) -> None:
    workflow = choosing(engine, lambda: TaskResult.Split(*make()), name="choose", retry=Retry.fixed(3, 0))
    with pytest.raises(kind, match=message) as caught:
        await workflow.orchestrate(S.START)
    error: Any = caught.value
    assert (error.state, error.task, error.path) == (S.START, "choose", (S.START,))


async def test_a_branch_drawn_at_run_time_that_is_no_task_has_failed(engine: str) -> None:
    """The others are not held responsible for it: it is a failed branch like any other."""
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, lambda: iter([to(1), 5, to(3)]), join(strategy=JoinStrategy.Quorum(2)))
    split = (await workflow.execute(S.START)).splits[0]
    assert split.outputs() == [1, 3]
    assert isinstance(split.errors[0].error, ConfigurationError)


@pytest.mark.parametrize("source", [lambda: 5, lambda: None, lambda store: "ab"])
async def test_a_function_that_returns_no_source_fails_the_state(engine: str, source: Any) -> None:
    workflow = Workflow(engine=engine).register_split(S.START, source, join()).add_exit_state(S.DONE)
    with pytest.raises((ConfigurationError, TaskError, JoinError)):
        await workflow.orchestrate(S.START)


async def test_an_async_function_that_returns_no_source_fails_the_state(engine: str) -> None:
    async def source() -> Any:
        return 5

    workflow = Workflow(engine=engine).register_split(S.START, source, join()).add_exit_state(S.DONE)
    with pytest.raises(ConfigurationError, match="but int came"):
        await workflow.orchestrate(S.START)


# --- one-shot iterators -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["generator", "async generator", "iterator"])
async def test_a_one_shot_iterator_serves_one_run(engine: str, kind: str) -> None:
    source: Any = {
        "generator": lambda: (to(n) for n in range(2)),
        "async generator": _one_by_one,
        "iterator": lambda: iter(tasks(1, 2)),
    }[kind]()
    workflow = Workflow(engine=engine).register_split(S.START, source, join(), name="once").add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START) is S.DONE
    with pytest.raises(ConfigurationError, match="once is an iterator that has already served a run; register a list"):
        await workflow.orchestrate(S.START)


async def test_also_if_a_later_change_has_the_workflow_checked_again(engine: str) -> None:
    workflow = Workflow(engine=engine).register_split(S.START, iter(tasks(1)), join()).add_exit_state(S.DONE)
    await workflow.orchestrate(S.START)
    workflow.register(S.WORK, to(S.DONE))
    with pytest.raises(ConfigurationError, match="already served a run"):
        await workflow.orchestrate(S.START)


async def test_a_generator_made_for_a_split_is_closed_when_the_split_ends(engine: str) -> None:
    closed: list[str] = []

    def generator() -> Any:
        try:
            for number in range(100):
                yield to(number)
        finally:
            closed.append("sync")

    async def agenerator() -> Any:
        try:
            for number in range(100):
                yield to(number)
        finally:
            await asyncio.sleep(1)
            closed.append("async")

    for source in (generator, agenerator):
        workflow = Workflow(engine=engine).add_exit_state(S.DONE)
        workflow.register_split(S.START, source, join(strategy=JoinStrategy.Any))
        await workflow.orchestrate(S.START)
    assert closed == ["sync", "async"]


async def test_sources_are_called_on_the_loops_thread(engine: str) -> None:
    loop = asyncio.get_running_loop()
    seen: list[Any] = []

    def source() -> Any:
        seen.append(asyncio.get_running_loop())
        for number in range(2):
            seen.append(asyncio.get_running_loop())
            yield to(number)

    await Workflow(engine=engine).register_split(S.START, source, join()).add_exit_state(S.DONE).orchestrate(S.START)
    assert seen == [loop] * 3
