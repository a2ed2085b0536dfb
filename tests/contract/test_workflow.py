"""Building and running a workflow: contract section 2."""

from __future__ import annotations

import asyncio
import enum
import threading
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join, sleeper, to

from cano import (
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    MemoryStore,
    Retry,
    RetryExhaustedError,
    TaskResult,
    Workflow,
    WorkflowError,
)
from cano._engine import resolve


def linear(engine: str, store: Any = None, **options: Any) -> Workflow[Any]:
    return Workflow(store, engine=engine, **options).register(S.START, to(S.DONE)).add_exit_state(S.DONE)


# --- the tour -----------------------------------------------------------------------------------------------------


async def test_the_tour(engine: str, store: Any) -> None:
    class DataState(enum.Enum):
        START = "start"
        PARALLEL = "parallel"
        AGGREGATE = "aggregate"
        COMPLETE = "complete"

    async def load(store: MemoryStore) -> TaskResult[DataState]:
        store.put("input_data", list(range(1, 11)))
        return TaskResult.Single(DataState.PARALLEL)

    class Processor:
        def __init__(self, task_id: int) -> None:
            self.task_id = task_id

        async def run(self, store: MemoryStore) -> int:
            await asyncio.sleep(0.1 * self.task_id)
            return sum(x * self.task_id for x in store.get("input_data", list))

    async def aggregate(store: MemoryStore) -> DataState:
        split = store.get("split_results")
        store.put("final_result", sum(split.outputs()))
        return DataState.COMPLETE

    workflow = (
        Workflow(store, engine=engine)
        .register(DataState.START, load)
        .register_split(
            DataState.PARALLEL,
            [Processor(i) for i in (1, 2, 3)],
            JoinConfig(JoinStrategy.All, DataState.AGGREGATE, store_partial_results=True).with_timeout(5),
        )
        .register(DataState.AGGREGATE, aggregate)
        .add_exit_state(DataState.COMPLETE)
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await workflow.orchestrate(DataState.START) is DataState.COMPLETE
    assert store.get("final_result") == 330
    assert loop.time() - began == pytest.approx(0.3)


# --- the store ----------------------------------------------------------------------------------------------------


async def test_the_store_is_shared_not_copied(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)

    @workflow.state(S.START)
    async def write(store: Any) -> S:
        store.put("seen", store)
        return S.DONE

    assert workflow.store is store
    await workflow.orchestrate(S.START)
    assert store.get("seen") is store


async def test_any_object_may_be_the_store(engine: str) -> None:
    mine = {"n": 1}
    workflow = Workflow(mine, engine=engine).add_exit_state(S.DONE)

    @workflow.state(S.START)
    def write(store: Any) -> S:
        store["n"] += 1
        return S.DONE

    await workflow.orchestrate(S.START)
    assert mine == {"n": 2}


async def test_an_empty_store_is_a_store(engine: str) -> None:
    mine: dict[str, int] = {}  # falsy, and still the one that was given
    workflow = Workflow(mine, engine=engine).register(S.START, lambda store: store.update(a=1) or S.DONE)
    await workflow.add_exit_state(S.DONE).orchestrate(S.START)
    assert mine == {"a": 1}
    other: dict[str, int] = {}
    await workflow.orchestrate(S.START, store=other)
    assert other == {"a": 1}


def test_no_store_given_is_a_fresh_memory_store(engine: str) -> None:
    first, second = Workflow(engine=engine), Workflow(engine=engine)
    assert type(first.store) is type(resolve(engine).new_store())
    assert first.store is not second.store
    assert len(first.store) == 0


async def test_store_at_orchestrate_gives_a_run_its_own(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)
    workflow.register(S.START, to(S.FAN))

    async def branch(store: Any) -> None:
        store.append("log", 1)

    workflow.register_split(S.FAN, [branch, branch], join(store_partial_results=True))
    own = MemoryStore()
    await workflow.orchestrate(S.START, store=own)
    assert own.get("log") == [1, 1]
    assert own.get("split_results").total_count == 2
    assert store.is_empty()


# --- registering --------------------------------------------------------------------------------------------------


def test_every_method_changes_the_workflow_and_returns_it(engine: str) -> None:
    workflow = Workflow(engine=engine)
    assert workflow.register(S.START, to(S.FAN)) is workflow
    assert workflow.register_split(S.FAN, [to(1)], join(S.WORK)) is workflow
    assert workflow.register_map(S.WORK, str, [1], join(S.JOINED)) is workflow
    assert workflow.add_exit_state(S.DONE) is workflow
    assert workflow.add_exit_states([S.JOINED, S.FAILED]) is workflow
    assert workflow.add_observer(Observer()) is workflow
    assert workflow.validate() is None


async def test_chained_and_statement_style_are_the_same(engine: str) -> None:
    workflow = Workflow(engine=engine)
    workflow.register(S.START, to(S.DONE))
    workflow.add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START) is S.DONE


@pytest.mark.parametrize("how", ["register", "register_split", "register_map"])
def test_registering_a_state_twice_raises(engine: str, how: str) -> None:
    def add(workflow: Workflow[Any], **options: Any) -> None:
        if how == "register":
            workflow.register(S.START, to(S.FAILED), **options)
        elif how == "register_split":
            workflow.register_split(S.START, [to(1)], join(S.FAILED), **options)
        else:
            workflow.register_map(S.START, str, [1], join(S.FAILED), **options)

    workflow = linear(engine).add_exit_state(S.FAILED).register(S.WORK, to(S.DONE))
    with pytest.raises(ConfigurationError, match=r"S\.START is registered already; use replace=True"):
        add(workflow)
    assert workflow.run(S.START) is S.DONE  # and what was there is still there
    add(workflow, replace=True)
    assert workflow.run(S.START) is S.FAILED


async def test_options_of_a_split_hold_for_each_branch(engine: str) -> None:
    tries = {0: 0, 1: 0}

    async def flaky(item: int) -> int:
        tries[item] += 1
        if tries[item] < 3:
            raise Boom
        return item

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_map(S.START, flaky, [0, 1], join(), retry=Retry.fixed(2, 1), name="flaky ones")
    report = await workflow.execute(S.START)
    assert [row.attempts for row in report.splits[0].successes] == [3, 3]
    assert report.splits[0].successes[0].duration == pytest.approx(2)

    workflow.register_map(S.START, flaky, [0], join(), attempt_timeout=1, replace=True)
    assert (await workflow.execute(S.START)).state is S.DONE


async def test_inline_on_a_split_holds_for_each_branch(engine: str) -> None:
    threads: list[Any] = []

    def where() -> None:
        threads.append(threading.current_thread())

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [where, where], join(), inline=True)
    await workflow.orchestrate(S.START)
    assert threads == [threading.current_thread()] * 2


async def test_a_task_list_is_copied(engine: str) -> None:
    ran: list[int] = []

    def task(number: int) -> Any:
        async def note() -> None:
            ran.append(number)

        return note

    tasks = [task(0)]
    workflow = Workflow(engine=engine).register_split(S.START, tasks, join()).add_exit_state(S.DONE)
    tasks.append(task(1))
    await workflow.orchestrate(S.START)
    assert ran == [0]


async def test_a_change_after_a_run_holds_for_the_next_one(engine: str) -> None:
    workflow = linear(engine)
    assert await workflow.orchestrate(S.START) is S.DONE
    workflow.register(S.START, to(S.FAILED), replace=True).add_exit_state(S.FAILED)
    assert await workflow.orchestrate(S.START) is S.FAILED


async def test_a_change_during_a_run_does_not_touch_that_run(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_states([S.DONE, S.FAILED])

    @workflow.state(S.START)
    async def change() -> S:
        workflow.register(S.WORK, to(S.FAILED), replace=True)
        return S.WORK

    workflow.register(S.WORK, to(S.DONE))
    assert await workflow.orchestrate(S.START) is S.DONE
    assert await workflow.orchestrate(S.START) is S.FAILED


# --- a split over data --------------------------------------------------------------------------------------------


async def numbers() -> Any:
    for number in (1, 2, 3):
        yield number


async def eventually() -> Any:
    await asyncio.sleep(1)
    return [1, 2, 3]


SOURCES = {
    "list": [1, 2, 3],
    "range": range(1, 4),
    "iterator": iter([1, 2, 3]),
    "function": lambda: [1, 2, 3],
    "generator function": lambda: (n for n in (1, 2, 3)),
    "function of the store": lambda store: store.get("numbers"),
    "async function": eventually,
    "async generator function": numbers,
}


@pytest.mark.parametrize("kind", SOURCES)
async def test_over_is_an_iterable_an_async_iterable_or_a_function_of_the_store(engine: str, kind: str) -> None:
    source = iter([1, 2, 3]) if kind == "iterator" else SOURCES[kind]
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.store.put("numbers", [1, 2, 3])

    async def double(item: int) -> int:
        return 2 * item

    workflow.register_map(S.START, double, source, join())
    report = await workflow.execute(S.START)
    assert report.splits[0].outputs() == [2, 4, 6]


async def test_over_may_be_an_async_iterable_object(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_map(S.START, str, numbers(), join(), inline=True)
    assert (await workflow.execute(S.START)).splits[0].outputs() == ["1", "2", "3"]


async def test_fn_takes_the_item_or_the_item_and_the_store(engine: str, store: Any) -> None:
    async def alone(item: int) -> int:
        return item

    async def both(item: int, store: Any) -> Any:
        return item, store

    async def by_name(item: int, factor: int = 3, *, store: Any) -> Any:
        return item * factor, store

    for fn, expected in ((alone, [1, 2]), (both, [(1, store), (2, store)]), (by_name, [(3, store), (6, store)])):
        workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)
        workflow.register_map(S.START, fn, [1, 2], join())
        assert (await workflow.execute(S.START)).splits[0].outputs() == expected


async def test_items_are_drawn_lazily(engine: str) -> None:
    drawn: list[int] = []
    ended: list[int] = []

    def source() -> Any:
        for number in range(6):
            drawn.append(number)
            yield number

    async def work(item: int) -> None:
        assert len(drawn) - len(ended) <= 2
        await asyncio.sleep(1)
        ended.append(item)

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_map(S.START, work, source, join(bulkhead=2))
    report = await workflow.execute(S.START)
    assert report.elapsed == pytest.approx(3)
    assert drawn == ended == list(range(6))


async def test_decorator_twins(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)

    @workflow.state(S.START, name="first")
    async def first(store: Any) -> S:
        store.put("items", ["a", "b"])
        return S.FAN

    @workflow.split(S.FAN, over=lambda store: store.get("items"), join=join(S.WORK))
    async def each(item: str) -> str:
        return item.upper()

    @workflow.split(S.WORK, join=join(S.DONE))
    def tasks(store: Any) -> Any:
        return [to(item) for item in store.get("items")]

    report = await workflow.execute(S.START)
    assert [split.outputs() for split in report.splits] == [["A", "B"], ["a", "b"]]
    assert await each("c") == "C"  # the function itself is left as it was
    assert callable(first)
    assert callable(tasks)


# --- states -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["word", 7, 2.5, ("a", 1), frozenset({1}), S.START, int, b"raw", False, 0, ""])
async def test_a_state_is_any_hashable_value(engine: str, state: Any) -> None:
    workflow = Workflow(engine=engine).register("begin", to(state)).add_exit_state(state)
    result = await workflow.orchestrate("begin")
    assert result == state
    assert type(result) is type(state)


async def test_a_frozen_object_of_ones_own_is_a_state(engine: str) -> None:
    class Place:
        pass

    here, there = Place(), Place()
    workflow = Workflow(engine=engine).register(here, to(there)).add_exit_state(there)
    assert await workflow.orchestrate(here) is there


async def test_enum_members_that_nothing_registers_are_fine(engine: str) -> None:
    assert await linear(engine).orchestrate(S.START) is S.DONE


# --- running ------------------------------------------------------------------------------------------------------


async def test_orchestrate_returns_the_exit_state_reached(engine: str) -> None:
    workflow = linear(engine).add_exit_state(S.FAILED)
    assert await workflow.orchestrate(S.START) is S.DONE
    workflow.register(S.WORK, to(S.FAILED))
    assert await workflow.orchestrate(S.WORK) is S.FAILED


async def test_an_exit_state_is_checked_before_its_handler(engine: str) -> None:
    def refuse() -> S:
        raise AssertionError("the handler of an exit state was called")

    workflow = linear(engine).register(S.DONE, refuse)
    assert await workflow.orchestrate(S.START) is S.DONE


async def test_the_initial_state_may_be_an_exit_state(engine: str) -> None:
    report = await linear(engine).execute(S.DONE)
    assert (report.state, report.path, report.elapsed) == (S.DONE, (S.DONE,), 0)


async def test_one_workflow_runs_any_number_of_times(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)
    workflow.register(S.START, lambda store: store.append("runs", 1) or S.FAN, inline=True)
    workflow.register_split(S.FAN, [sleeper(1), sleeper(2)], join())
    for _ in range(5):
        assert await workflow.orchestrate(S.START) is S.DONE
    assert len(store.get("runs")) == 5


async def test_one_workflow_runs_many_times_at_once(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_states([S.DONE, S.FAILED])

    async def begin(store: Any) -> S:
        await asyncio.sleep(store.get("number") % 7)
        return S.FAN

    def items(store: Any) -> Any:
        return range(store.get("number"))

    async def square(item: int, store: Any) -> int:
        await asyncio.sleep(item % 3)
        if store.get("number") % 10 == 9 and item == 8:
            raise Boom
        return item * item

    async def total(store: Any) -> S:
        store.put("total", sum(store.get("split_results").outputs()))
        return S.DONE

    workflow.register(S.START, begin)
    workflow.register_map(S.FAN, square, items, join(S.JOINED, store_partial_results=True, bulkhead=4))
    workflow.register(S.JOINED, total)
    stores = [MemoryStore() for _ in range(100)]
    for number, store in enumerate(stores):
        store.put("number", number)
    ends = await asyncio.gather(
        *(workflow.orchestrate(S.START, store=store) for store in stores), return_exceptions=True
    )
    for number, (store, end) in enumerate(zip(stores, ends, strict=True)):
        if number % 10 == 9:
            assert isinstance(end, JoinError)
        else:
            assert end is S.DONE
            assert store.get("total") == sum(i * i for i in range(number))


async def test_cycles_are_allowed(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)
    store.put("left", 2500)  # more than the states an error remembers

    @workflow.state(S.START)
    async def ping() -> S:
        return S.WORK

    @workflow.state(S.WORK)
    async def pong(store: Any) -> S:
        return S.START if store.update("left", lambda n: n - 1) else S.DONE

    report = await workflow.execute(S.START)
    assert len(report.path) == 5001
    assert report.path[-1] is S.DONE
    assert report.path[:4] == (S.START, S.WORK, S.START, S.WORK)


async def test_a_state_may_follow_itself(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)
    workflow.register(S.START, lambda store: S.START if len(store.append("n", 1) or store.get("n")) < 4 else S.DONE)
    observer = Observer()
    workflow.add_observer(observer)
    report = await workflow.execute(S.START)
    assert report.path == (S.START, S.START, S.START, S.START, S.DONE)
    assert [event.state for event in observer.of("state_exit")] == [S.START] * 4


async def test_a_split_may_join_at_itself(engine: str, store: Any) -> None:
    async def branch(store: Any) -> None:
        store.append("n", 1)

    workflow = Workflow(store, engine=engine, max_transitions=3).add_exit_state(S.DONE)
    workflow.register_split(S.FAN, [branch], join(S.FAN)).register(S.WORK, to(S.DONE))
    with pytest.raises(WorkflowError):
        await workflow.orchestrate(S.FAN)
    assert store.get("n") == [1] * 4


async def test_max_transitions_bounds_a_run(engine: str) -> None:
    workflow = Workflow(engine=engine, max_transitions=3).add_exit_state(S.DONE)
    workflow.register(S.START, to(S.WORK)).register(S.WORK, to(S.FAN)).register(S.FAN, to(S.DONE))
    assert await workflow.orchestrate(S.START) is S.DONE  # three transitions are allowed
    workflow.register(S.FAN, to(S.JOINED), replace=True).register(S.JOINED, to(S.DONE))
    with pytest.raises(WorkflowError, match="more than 3 transitions") as caught:
        await workflow.orchestrate(S.START)
    assert caught.value.path == (S.START, S.WORK, S.FAN, S.JOINED)
    assert "S.START -> S.WORK -> S.FAN -> S.JOINED" in str(caught.value)


async def test_an_unbounded_cycle_names_its_last_states(engine: str) -> None:
    workflow = Workflow(engine=engine, max_transitions=5000).add_exit_state(S.DONE)
    workflow.register(S.START, to(S.WORK)).register(S.WORK, to(S.START))
    with pytest.raises(WorkflowError, match="max_transitions") as caught:
        await workflow.orchestrate(S.START)
    assert len(caught.value.path) == 1000
    assert "S.WORK -> S.START" in str(caught.value)


@pytest.mark.real_time
async def test_a_chain_of_tasks_that_never_suspend_gives_the_loop_its_turn(engine: str) -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count)

    workflow = Workflow(engine=engine, max_transitions=50_000_000).add_exit_state(S.DONE)

    @workflow.state(S.START)
    async def again() -> S:
        return S.DONE if turns >= 10 else S.START

    asyncio.get_running_loop().call_soon(count)
    assert await workflow.orchestrate(S.START) is S.DONE


async def test_a_run_that_never_suspends_needs_no_turn_of_the_loop(engine: str) -> None:
    workflow = linear(engine)
    coro = workflow.orchestrate(S.START)
    with pytest.raises(StopIteration) as stopped:
        coro.send(None)
    assert stopped.value.value is S.DONE


async def test_a_state_without_handler_ends_the_run(engine: str) -> None:
    with pytest.raises(WorkflowError, match=r"no handler for the state S\.WORK; register"):
        await linear(engine).orchestrate(S.WORK)


async def test_a_task_of_a_state_can_run_another_workflow(engine: str) -> None:
    inner = Workflow(engine=engine).register_map(S.FAN, str, range(3), join(), inline=True).add_exit_state(S.DONE)
    outer = Workflow(engine=engine).add_exit_state(S.DONE)

    @outer.state(S.START)
    async def nested() -> S:
        return (await inner.execute(S.FAN)).state

    @outer.split(S.FAN, over=range(3), join=join(S.DONE))
    async def deeper(item: int) -> Any:
        return (await inner.execute(S.FAN)).splits[0].outputs()

    assert await outer.orchestrate(S.START) is S.DONE
    assert (await outer.execute(S.FAN)).splits[0].outputs() == [["0", "1", "2"]] * 3


async def test_a_name_is_what_the_repr_shows(engine: str) -> None:
    workflow = linear(engine, name="nightly")
    assert workflow.name == "nightly"
    assert repr(workflow) == f"<Workflow nightly on the {engine} engine; states: S.START; exits: S.DONE>"
    assert "0x" not in repr(Workflow(engine=engine))


async def test_a_failed_run_leaves_the_workflow_usable(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)
    broken = [True]

    async def flaky() -> S:
        if broken[0]:
            raise Boom
        return S.DONE

    workflow.register(S.START, flaky, retry=Retry.fixed(1, 0))
    with pytest.raises(RetryExhaustedError):
        await workflow.orchestrate(S.START)
    broken[0] = False
    assert await workflow.orchestrate(S.START) is S.DONE


async def test_introspect_makes_every_branch_a_real_task(engine: str) -> None:
    async def whoami() -> bool:
        task = asyncio.current_task()
        return isinstance(task, asyncio.Task) and task in asyncio.all_tasks()

    workflow = Workflow(engine=engine, introspect=True).add_exit_state(S.DONE)
    workflow.register_split(S.START, [whoami, whoami], join())
    assert (await workflow.execute(S.START)).splits[0].outputs() == [True, True]
