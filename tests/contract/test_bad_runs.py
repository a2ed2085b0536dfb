"""What mistakes get that show only when the run gets there: an error that says what was expected, what came, and what to try."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.contract.given import Boom, S, join, never, simple, to

from cano import (
    CanoError,
    ConfigurationError,
    JoinError,
    JoinStrategy,
    KeyNotFoundError,
    TaskError,
    TaskResult,
    Workflow,
    WorkflowError,
)

pytestmark = pytest.mark.fault("F2")

ok = to(S.DONE)


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("initial", [S.FAILED, "START", 5, None, [], Unhashable()])
async def test_an_unknown_initial_state(engine: str, initial: Any) -> None:
    workflow = simple(engine, ok)
    await workflow.orchestrate(S.START)  # also once the plan is made
    for way in (workflow.orchestrate, workflow.execute):
        with pytest.raises((WorkflowError, ConfigurationError), match=r"no handler for|is no state|must be hashable"):
            await way(initial)


async def test_a_task_that_returns_nothing(engine: str) -> None:
    async def forgot() -> None: ...

    with pytest.raises(WorkflowError, match=r"forgot of state S\.START returned None, expected the next state; return"):
        await simple(engine, forgot).orchestrate(S.START)


@pytest.mark.parametrize("answer", [Unhashable(), object(), "DONE", S, (S.DONE,), TaskResult.Single("DONE"), True])
async def test_a_task_that_returns_what_is_no_state(engine: str, answer: Any) -> None:
    with pytest.raises(WorkflowError, match="which is no state of this workflow; return a state that is registered"):
        await simple(engine, to(answer)).orchestrate(S.START)


async def test_a_state_whose_methods_raise(engine: str) -> None:
    class Bad:
        def __init__(self, word: str) -> None:
            self.word = word

        def __hash__(self) -> int:
            return 5

        def __eq__(self, other: object) -> bool:
            if self.word == "eq" or getattr(other, "word", "") == "eq":
                raise Boom("eq")
            return self is other

        def __repr__(self) -> str:
            raise Boom("repr")

    class BadHash(Bad):
        def __hash__(self) -> int:
            raise Boom("hash")

    good = Bad("good")
    workflow = Workflow(engine=engine).register(good, to(Bad("eq"))).add_exit_state(S.DONE)
    with pytest.raises((WorkflowError, Boom)):
        await workflow.orchestrate(good)
    workflow.register(good, to(BadHash("hash")), replace=True)
    with pytest.raises((WorkflowError, Boom)):
        await workflow.orchestrate(good)
    workflow.register(good, to(Bad("other")), replace=True)
    with pytest.raises(WorkflowError, match="no state of this workflow"):
        await workflow.orchestrate(good)
    assert await workflow.register(good, to(S.DONE), replace=True).orchestrate(good) is S.DONE


async def test_a_generator_used_twice(engine: str) -> None:
    workflow = Workflow(engine=engine).register_map(S.START, str, (n for n in range(3)), join(), inline=True)
    workflow.add_exit_state(S.DONE)
    assert (await workflow.execute(S.START)).splits[0].outputs() == ["0", "1", "2"]
    with pytest.raises(
        ConfigurationError, match="has already served a run; register a list, or a function that returns"
    ):
        await workflow.orchestrate(S.START)


async def test_a_list_changed_during_a_run(engine: str) -> None:
    items = [1, 2, 3]
    tasks = [to(1), to(2)]

    async def grow(item: int) -> int:
        if len(items) < 50:
            items.append(item)
        await asyncio.sleep(1)
        return item

    workflow = Workflow(engine=engine).add_exit_state(S.DONE).register_split(S.WORK, tasks, join())
    workflow.register_map(S.START, grow, items, join(S.WORK, bulkhead=1))
    report = await workflow.execute(S.START)  # whatever it means for the items: it ends, and the counts add up
    first, second = report.splits
    assert len(first.successes) + len(first.errors) + len(first.cancelled) == first.total_count
    tasks.clear()
    assert second.outputs() == [1, 2]
    items.clear()

    async def shrink(item: int) -> int:
        items.clear()
        return item

    items.extend(range(5))
    workflow.register_map(S.START, shrink, items, join(S.WORK, JoinStrategy.Any), replace=True)
    assert (await workflow.execute(S.START)).state is S.DONE


async def test_a_set_or_mapping_changed_during_a_run(engine: str) -> None:
    items = {1, 2, 3}

    async def grow(item: int) -> None:
        items.add(item + 100)

    workflow = Workflow(engine=engine).register_map(S.START, grow, items, join()).add_exit_state(S.DONE)
    with pytest.raises(TaskError, match="source of the branches .* changed size during iteration"):
        await workflow.orchestrate(S.START)


@pytest.mark.parametrize("key", [5, None, b"key", S.START, ("a",), 1.5])
async def test_a_store_key_that_is_no_string(engine: str, store: Any, key: Any) -> None:
    async def put(store: Any) -> S:
        store.put(key, 1)
        return S.DONE

    workflow = Workflow(store, engine=engine).register(S.START, put).add_exit_state(S.DONE)
    with pytest.raises(TaskError) as caught:
        await workflow.orchestrate(S.START)
    assert isinstance(caught.value.__cause__, TypeError)
    assert "str" in str(caught.value.__cause__)
    assert len(store) == 0


async def test_a_missing_key(engine: str) -> None:
    with pytest.raises(TaskError) as caught:
        await simple(engine, lambda store: store.get("missing")).orchestrate(S.START)
    assert isinstance(caught.value.__cause__, KeyNotFoundError)
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_store_that_cannot_keep_results(engine: str) -> None:
    """Any object may be the store; `store_partial_results` needs one with `put`."""
    workflow = Workflow(object(), engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [ok], join(store_partial_results=True))
    with pytest.raises(Exception, match="put") as caught:
        await workflow.orchestrate(S.START)
    assert not isinstance(caught.value, AssertionError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_run_inside_a_loop(engine: str) -> None:
    with pytest.raises(ConfigurationError, match="one is running in this thread; write: await"):
        simple(engine, ok).run(S.START)


def test_orchestrate_outside_a_loop(engine: str) -> None:
    run = simple(engine, ok).orchestrate(S.START)
    with pytest.raises(RuntimeError, match="no running event loop"):
        run.send(None)


@pytest.mark.parametrize("kind", ["raises", "None", "word", "number", "verdict class", "coroutine", "wait for ever"])
async def test_a_strategy_function_that_raises_or_answers_nonsense(engine: str, kind: str) -> None:
    def decide(_: Any) -> Any:
        if kind == "raises":
            raise Boom("in the strategy")
        return {"None": None, "word": "maybe", "number": 1, "verdict class": S, "wait for ever": "wait"}.get(
            kind, ok() if kind == "coroutine" else None
        )

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [to(1), never], join(strategy=JoinStrategy.Custom(decide)))
    if kind == "wait for ever":
        workflow.register_split(S.START, [to(1)], join(strategy=JoinStrategy.Custom(decide)), replace=True)
    with pytest.raises(CanoError) as caught:
        await workflow.orchestrate(S.START)
    error: Any = caught.value
    assert error.state is S.START
    if kind == "raises":
        assert isinstance(error, TaskError)
        assert isinstance(error.__cause__, Boom)
    elif kind == "wait for ever":
        assert isinstance(error, JoinError)
    else:
        assert isinstance(error, WorkflowError)
        assert "must answer JoinVerdict.PROCEED, FAIL or WAIT" in str(error)


@pytest.mark.parametrize("kind", ["sync", "async", "function", "async function"])
@pytest.mark.parametrize("bulkhead", [None, 1])
async def test_a_source_that_raises_half_way(engine: str, kind: str, bulkhead: int | None) -> None:
    ended: list[int] = []

    def sync() -> Any:
        yield 1
        yield 2
        raise Boom("half-way")

    async def asynchronous() -> Any:
        yield 1
        await asyncio.sleep(0.5)
        yield 2
        raise Boom("half-way")

    def at_once() -> Any:
        raise Boom("half-way")

    async def at_once_async() -> Any:
        await asyncio.sleep(1)
        raise Boom("half-way")

    async def branch(item: int) -> int:
        try:
            await asyncio.sleep(item)
            return item
        finally:
            ended.append(item)

    source = {"sync": sync, "async": asynchronous, "function": at_once, "async function": at_once_async}[kind]
    workflow = Workflow(engine=engine).register_map(S.START, branch, source, join(bulkhead=bulkhead), name="map")
    with pytest.raises(TaskError, match="the source of the branches of split map .* failed with .*half-way") as caught:
        await workflow.add_exit_state(S.DONE).orchestrate(S.START)
    assert isinstance(caught.value.__cause__, Boom)
    assert sorted(ended) == ([] if "function" in kind else [1, 2])  # live branches are cancelled and awaited
