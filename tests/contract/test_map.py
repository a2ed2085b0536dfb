"""`register_map`: a split over data, one branch for each item."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from cano import ConfigurationError, JoinConfig, JoinError, JoinStrategy, MemoryStore, Retry, Task, Workflow

JOIN = JoinConfig(JoinStrategy.All, "end", store_partial_results=True)


async def run_map(engine: str, fn: Any, over: Any, join: JoinConfig[str] = JOIN, **options: Any) -> Any:
    """Run a map, and return its result."""
    store = options.pop("store", None)
    workflow: Workflow[str] = Workflow(store, engine=engine).add_exit_state("end")
    workflow.register_map("map", fn, over, join, **options)
    assert await workflow.orchestrate("map") == "end"
    return workflow.store.get("split_results")


# --- how the function is called ---


async def test_the_item(engine):
    async def square(item: int) -> int:
        return item * item

    assert (await run_map(engine, square, range(4))).outputs() == [0, 1, 4, 9]


async def test_the_item_and_the_store(engine):
    async def scale(item: int, store: Any) -> int:
        return item * store.get("factor", int)

    store = MemoryStore()
    store.put("factor", 3)
    assert (await run_map(engine, scale, range(3), store=store)).outputs() == [0, 3, 6]


async def keyword_only(item: int, *, store: Any) -> bool:
    return store is not None


async def optional_store(item: int, store: Any = None) -> bool:
    return store is not None


async def any_second_name(item: int, context: Any) -> bool:
    return context is not None


async def store_after_default(item: int, scale: int = 2, store: Any = None) -> bool:
    return scale == 2 and store is not None


async def variadic(*items: Any) -> bool:
    return len(items) == 1


async def with_default(item: int, scale: int = 2) -> bool:
    return scale == 2


async def named_store(store: Any) -> bool:
    return store in (1, 2)


@functools.wraps(optional_store)
async def wrapped(*args: Any, **kwargs: Any) -> bool:
    return await optional_store(*args, **kwargs)


@pytest.mark.parametrize(
    "fn",
    [
        keyword_only,
        optional_store,
        any_second_name,
        store_after_default,
        variadic,
        with_default,
        named_store,
        wrapped,
        functools.partial(any_second_name),
    ],
    ids=lambda fn: getattr(fn, "__name__", "partial"),
)
async def test_which_arguments_it_gets(engine, fn):
    assert (await run_map(engine, fn, [1, 2])).outputs() == [True, True]


async def test_sync_functions_objects_and_methods(engine):
    class Doubler:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def run(self, item: int) -> int:
            return item * self.factor

        async def later(self, item: int) -> int:
            await asyncio.sleep(1)
            return item * self.factor

        def __call__(self, item: int) -> int:
            return -item

    class Base(Task[str]):
        def run(self, item: int) -> int:
            return item + 1

    assert (await run_map(engine, lambda item: item + 1, range(3))).outputs() == [1, 2, 3]
    assert (await run_map(engine, lambda item: item + 1, range(3), inline=True)).outputs() == [1, 2, 3]
    assert (await run_map(engine, Doubler(2), range(3))).outputs() == [0, 2, 4]  # `run` before `__call__`
    assert (await run_map(engine, Doubler(2).later, range(3))).outputs() == [0, 2, 4]
    assert (await run_map(engine, Base(), range(3))).outputs() == [1, 2, 3]
    assert (await run_map(engine, str, range(3))).outputs() == ["0", "1", "2"]


async def test_a_sync_function_that_returns_an_awaitable(engine):
    async def answer(item: int) -> int:
        await asyncio.sleep(1)
        return item

    assert (await run_map(engine, lambda item: answer(item), range(3))).outputs() == [0, 1, 2]
    assert (await run_map(engine, lambda item: answer(item), range(3), inline=True)).outputs() == [0, 1, 2]


@pytest.mark.parametrize("fn", [lambda: 1, lambda a, b, c: 1, lambda *, item: 1])
def test_a_function_that_cannot_be_called_with_an_item_is_refused(fn):
    workflow: Workflow[str] = Workflow(engine="python")
    with pytest.raises(ConfigurationError, match="must take the item"):
        workflow.register_map("map", fn, [1], JOIN)


# --- where the items come from ---


async def test_over_a_function_of_the_store(engine):
    store = MemoryStore()
    store.put("items", [3, 4])

    async def echo(item: int) -> int:
        return item

    assert (await run_map(engine, echo, lambda store: store.get("items"), store=store)).outputs() == [3, 4]

    async def items(store: Any) -> list[int]:
        await asyncio.sleep(1)
        return store.get("items", list)

    assert (await run_map(engine, echo, items, store=store)).outputs() == [3, 4]


async def test_over_the_state_of_the_run_that_is_underway(engine):
    """The source is called when the split is entered, after the states before it."""
    store = MemoryStore()

    async def first(store: Any) -> str:
        store.put("items", [1, 2])
        return "map"

    async def echo(item: int) -> int:
        return item

    workflow: Workflow[str] = Workflow(store, engine=engine).add_exit_state("end").register("first", first)
    workflow.register_map("map", echo, lambda store: store.get("items"), JOIN)
    await workflow.orchestrate("first")
    assert store.get("split_results").outputs() == [1, 2]


async def test_nothing_to_map(engine):
    result = await run_map(engine, str, [])
    assert (result.outputs(), result.total_count) == ([], 0)


# --- options hold for each branch ---


async def test_retry_and_attempt_timeout_hold_for_each_branch(engine):
    tries: dict[int, int] = {}

    async def branch(item: int) -> int:
        tries[item] = tries.get(item, 0) + 1
        if tries[item] == 1:
            await asyncio.sleep(99)
        return tries[item]

    result = await run_map(engine, branch, range(3), retry=Retry.fixed(1, 1), attempt_timeout=2)
    assert result.outputs() == [2, 2, 2]
    assert [row.duration for row in result.successes] == [3, 3, 3]


async def test_what_a_branch_returns_does_not_steer_the_run(engine):
    async def branch(item: int) -> str:
        return "map"

    assert (await run_map(engine, branch, range(2))).outputs() == ["map", "map"]


# --- decorators ---


async def test_decorators(engine):
    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")

    @workflow.state("first")
    async def first(store: Any) -> str:
        store.put("items", [1, 2])
        return "map"

    @workflow.split("map", over=lambda store: store.get("items"), join=JOIN.with_join_state("tasks"))
    async def double(item: int) -> int:
        return 2 * item

    @workflow.split("tasks", join=JOIN)
    def tasks(store: Any) -> Any:
        outputs = store.get("split_results").outputs()
        return [functools.partial(double, item) for item in outputs]

    await workflow.orchestrate("first")
    assert workflow.store.get("split_results").outputs() == [4, 8]
    assert await double(5) == 10  # the decorated function is left as it was


# --- events and errors name it ---


async def test_it_is_named_after_its_function(engine):
    async def fetch(item: int) -> None:
        raise ValueError(item)

    with pytest.raises(JoinError) as caught:
        await run_map(engine, fetch, [1])
    assert str(caught.value.task).endswith("fetch")
    with pytest.raises(JoinError) as caught:
        await run_map(engine, fetch, [1], name="pages")
    assert caught.value.task == "pages"
