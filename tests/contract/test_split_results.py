"""`SplitResult` and the join's errors: what they hold, in which order, and when it is in the store."""

from __future__ import annotations

import asyncio
import pickle
from collections import UserDict
from typing import Any

import pytest
from tests.contract.given import Observer

from cano import (
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    SplitTimeoutError,
    TaskError,
    TaskResult,
    Workflow,
    WorkflowError,
    fan_out,
)
from cano.results import SplitTaskResult


async def play(outcome: float) -> float:
    """Positive: succeed after so many seconds; negative: fail."""
    await asyncio.sleep(abs(outcome))
    if outcome < 0:
        raise ValueError(outcome)
    return outcome


async def test_rows(engine):
    result = await fan_out(play, [2, -1, 3, 99], strategy=JoinStrategy.Quorum(2), engine=engine)
    assert result.successes == (
        SplitTaskResult(0, 2, None, 1, 2.0),
        SplitTaskResult(2, 3, None, 1, 3.0),
    )
    (failed,) = result.errors
    assert (failed.task_index, failed.result, failed.attempts, failed.duration) == (1, None, 1, 1.0)
    assert isinstance(failed.error, ValueError)
    assert result.cancelled == (3,)
    assert (result.completed_count, result.total_count) == (3, 4)


async def test_outputs_are_in_index_order_and_rows_in_order_of_completion(engine):
    result = await fan_out(play, [3, 1, 2], engine=engine)
    assert result.outputs() == [3, 1, 2]
    assert [row.task_index for row in result.successes] == [1, 2, 0]


async def test_outputs_leave_out_what_failed(engine):
    result = await fan_out(play, [3, -1, 2], strategy=JoinStrategy.PartialResults(2), engine=engine)
    assert result.outputs() == [3, 2]


async def test_by_index(engine):
    result = await fan_out(play, [2, -1, 99], strategy=JoinStrategy.Quorum(1), engine=engine)
    assert result.by_index(0) == result.successes[0]
    assert result.by_index(1) == result.errors[0]
    assert result.by_index(2) is None
    for index in (3, -1):
        with pytest.raises(IndexError):
            result.by_index(index)


async def test_a_none_is_a_value_like_any(engine):
    async def branch(item: int) -> None:
        assert item < 5

    result = await fan_out(branch, range(3), engine=engine)
    assert result.outputs() == [None] * 3
    assert result.by_index(0) == SplitTaskResult(0, None, None, 1, 0.0)


async def test_a_branch_may_return_any_value(engine):
    values: list[Any] = [None, 0, "text", ValueError("returned"), asyncio.CancelledError(), object(), [1], ...]

    async def branch(item: Any) -> Any:
        return item

    result = await fan_out(branch, values, engine=engine)
    assert all(got is given for got, given in zip(result.outputs(), values, strict=True))


async def test_completions_of_one_turn_are_in_the_order_they_happened(engine):
    order = [3, 0, 4, 1, 2]
    gates = [asyncio.get_running_loop().create_future() for _ in order]

    async def branch(index: int) -> int:
        await gates[index]
        return index

    async def open_gates() -> None:
        await asyncio.sleep(1)
        for index in order:
            gates[index].set_result(None)

    opening = asyncio.create_task(open_gates())
    result = await fan_out(branch, range(5), engine=engine)
    await opening
    assert [row.task_index for row in result.successes] == order


async def test_attempts_and_duration_count_retries(engine):
    tries: dict[int, int] = {}

    async def branch(item: int) -> int:
        await asyncio.sleep(1)
        tries[item] = tries.get(item, 0) + 1
        if tries[item] <= item:
            raise ValueError(item, tries[item])
        return item

    result = await fan_out(
        branch, [0, 1, 2, 3], strategy=JoinStrategy.PartialResults(3), retry=Retry.fixed(2, 0.5), engine=engine
    )
    assert {row.task_index: (row.attempts, row.duration) for row in result.successes} == {
        0: (1, 1.0),
        1: (2, 2.5),
        2: (3, 4.0),
    }


async def test_the_error_is_the_branchs_own_last_exception(engine):
    raised: list[ValueError] = []

    async def branch(_: int) -> None:
        raised.append(ValueError(len(raised)))
        raise raised[-1]

    with pytest.raises(JoinError) as caught:
        await fan_out(branch, [0], retry=Retry.fixed(2, 1), engine=engine)
    result = caught.value.result
    assert result is not None
    (row,) = result.errors
    assert (row.error, row.attempts) == (raised[2], 3)
    assert caught.value.exceptions == (raised[2],)
    assert raised[2].__cause__ is None


async def test_the_duration_starts_with_the_branch_and_not_with_the_split(engine):
    result = await fan_out(play, [2, 3], bulkhead=1, engine=engine)
    assert [row.duration for row in result.successes] == [2.0, 3.0]


# --- JoinError ---


async def test_a_join_error_is_a_group_of_the_branches_own_exceptions(engine):
    with pytest.raises(JoinError) as caught:
        await fan_out(play, [-2, 3, -1], fail_fast=False, engine=engine)
    error = caught.value
    assert isinstance(error, ExceptionGroup)
    assert [inner.args for inner in error.exceptions] == [(-1,), (-2,)]
    assert [inner.__notes__ for inner in error.exceptions] == [["branch 2"], ["branch 0"]]
    assert error.result is not None
    assert [row.error for row in error.result.errors] == list(error.exceptions)
    assert error.result.outputs() == [3]
    assert "2 failed" in str(error)


async def test_except_star_reaches_the_branches_exceptions(engine):
    found: list[BaseException] = []
    try:
        await fan_out(play, [-1, 2], engine=engine)
    except* ValueError as group:
        found.extend(group.exceptions)
    assert [type(error) for error in found] == [ValueError]


async def test_the_traceback_of_a_branch_is_untouched(engine):
    with pytest.raises(JoinError) as caught:
        await fan_out(play, [-1], engine=engine)
    trace = caught.value.exceptions[0].__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    assert trace.tb_frame.f_code is play.__code__


async def test_without_a_failed_branch_it_says_why(engine):
    with pytest.raises(JoinError) as caught:
        await fan_out(play, [], strategy=JoinStrategy.Any, engine=engine)
    (only,) = caught.value.exceptions
    assert isinstance(only, WorkflowError)
    assert "needs one success" in str(only)


async def test_an_exception_shared_by_branches_is_noted_once_for_each(engine):
    shared = ValueError("shared")

    async def branch(item: int) -> None:
        await asyncio.sleep(item)
        raise shared

    with pytest.raises(JoinError) as caught:
        await fan_out(branch, [1, 2], fail_fast=False, engine=engine)
    assert caught.value.exceptions == (shared, shared)
    assert shared.__notes__ == ["branch 0", "branch 1"]


async def test_an_exception_that_is_no_exception_is_represented(engine):
    class Strange(BaseException):
        pass

    strange = Strange()

    async def branch(_: int) -> None:
        raise strange

    with pytest.raises(JoinError) as caught:
        await fan_out(branch, [0], engine=engine)
    (only,) = caught.value.exceptions
    assert isinstance(only, TaskError)
    assert only.__cause__ is strange
    assert caught.value.result is not None
    assert caught.value.result.errors[0].error is strange


async def test_where_a_join_failed(engine):
    workflow = Workflow(engine=engine).add_exit_state("end")

    async def first() -> str:
        return "fan"

    workflow.register("first", first)
    workflow.register_map("fan", play, [-1], JoinConfig(JoinStrategy.All, "end"), name="players")
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate("first")
    error = caught.value
    assert (error.category, error.state, error.task, error.path) == ("workflow", "fan", "players", ("first", "fan"))


async def test_a_split_timeout_carries_what_failed(engine):
    with pytest.raises(SplitTimeoutError) as caught:
        await fan_out(play, [1, -2, 99], fail_fast=False, timeout=3, engine=engine)
    result = caught.value.result
    assert result is not None
    assert (result.outputs(), result.cancelled) == ([1], (2,))
    assert [type(row.error) for row in result.errors] == [ValueError]


async def test_results_and_errors_travel(engine):
    """A result that was unpickled is equal; an exception in it is compared by what it says."""
    result = await fan_out(play, [1, 2], engine=engine)
    assert pickle.loads(pickle.dumps(result)) == result
    with pytest.raises(JoinError) as caught:
        await fan_out(play, [-1, 2], engine=engine)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is JoinError
    assert copy.result.cancelled == (1,)
    assert [error.args for error in copy.exceptions] == [(-1,)]


# --- in the store ---


def split_workflow(engine: str, outcomes: Any, **options: Any) -> Workflow[str]:
    options.setdefault("store_partial_results", True)
    strategy = options.pop("strategy", JoinStrategy.All)
    workflow: Workflow[str] = Workflow(engine=engine)
    workflow.register_map("fan", play, outcomes, JoinConfig(strategy, "join", **options))

    async def join(store: Any) -> str:
        store.put("seen", store.get("split_results", default=None))
        return "end"

    return workflow.register("join", join).add_exit_state("end")


async def test_in_the_store_before_the_join_states_task_runs(engine):
    workflow = split_workflow(engine, [1, 2])
    await workflow.orchestrate("fan")
    assert workflow.store.get("seen").outputs() == [1, 2]
    assert workflow.store.get("split_results") is workflow.store.get("seen")


async def test_not_in_the_store_unless_asked_for(engine):
    workflow = split_workflow(engine, [1, 2], store_partial_results=False)
    await workflow.orchestrate("fan")
    assert not workflow.store.contains_key("split_results")


async def test_in_the_store_when_the_join_fails(engine):
    workflow = split_workflow(engine, [1, -2, 99])
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate("fan")
    stored = workflow.store.get("split_results")
    assert stored is caught.value.result
    assert (stored.outputs(), stored.cancelled) == ([1], (2,))


async def test_in_the_store_when_the_split_times_out(engine):
    workflow = split_workflow(engine, [1, 99], timeout=2)
    with pytest.raises(SplitTimeoutError) as caught:
        await workflow.orchestrate("fan")
    assert workflow.store.get("split_results") is caught.value.result


async def test_in_the_store_when_the_source_fails(engine):
    def source():
        yield 1
        yield 99
        raise OSError

    workflow = split_workflow(engine, source, bulkhead=2)
    with pytest.raises(TaskError):
        await workflow.orchestrate("fan")
    stored = workflow.store.get("split_results")
    assert (stored.outputs(), stored.cancelled) == ([1], (1,))


async def test_in_the_store_of_the_run(engine, store):
    workflow = split_workflow(engine, [1])
    await workflow.orchestrate("fan", store=store)
    assert store.get("seen").outputs() == [1]
    assert not workflow.store.contains_key("split_results")


async def test_in_a_dict_that_serves_as_the_store(engine):
    def seen(store: dict[str, Any]) -> str:
        store["seen"] = store["split_results"].outputs()
        return "end"

    store: dict[str, Any] = {}
    await split_workflow(engine, [1]).register("join", seen, replace=True).orchestrate("fan", store=store)
    assert store["seen"] == [1]


async def test_a_store_that_cannot_keep_it_is_refused_before_anything_runs(engine):
    called: list[Any] = []
    workflow = split_workflow(engine, lambda: called.append(1) or [1]).register("join", lambda: "end", replace=True)
    with pytest.raises(ConfigurationError, match=r"needs put\(key, value\).* type object came"):
        await workflow.orchestrate("fan", store=object())
    assert not called
    plain = split_workflow(engine, [1], store_partial_results=False).register("join", lambda: "end", replace=True)
    assert await plain.orchestrate("fan", store=object()) == "end"


async def test_a_store_that_cannot_keep_the_result_of_a_split_decided_at_run_time(engine):
    called: list[int] = []

    async def plan() -> Any:
        tasks = [lambda: called.append(1)]
        return TaskResult.Split(tasks, JoinConfig(JoinStrategy.All, "end", store_partial_results=True))

    workflow: Workflow[str] = Workflow(object(), engine=engine).register("plan", plan).add_exit_state("end")
    with pytest.raises(ConfigurationError, match=r"needs put\(key, value\)"):
        await workflow.orchestrate("plan")
    assert not called


class Asynchronous:
    async def put(self, key: str, value: Any) -> None: ...


class Attributes(dict[str, Any]):
    """A mapping whose keys are attributes as well: `put` is a value, if anything."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


async def test_a_store_whose_put_is_async_is_refused(engine):
    workflow = split_workflow(engine, [1])
    with pytest.raises(ConfigurationError, match="that of Asynchronous is async"):
        await workflow.orchestrate("fan", store=Asynchronous())


@pytest.mark.parametrize("store", [Attributes(), Attributes(put=3), UserDict()], ids=["none", "a value", "UserDict"])
async def test_a_mapping_without_a_method_put(engine, store):
    await split_workflow(engine, [1]).register("join", lambda: "end", replace=True).orchestrate("fan", store=store)
    assert store["split_results"].outputs() == [1]


class Refuses:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def put(self, key: str, value: Any) -> None:
        raise self.error


@pytest.mark.parametrize("error", [OSError("full"), asyncio.CancelledError()], ids=repr)
async def test_a_store_that_refuses_the_result_fails_the_state(engine, error):
    observer = Observer()
    workflow = split_workflow(engine, [1]).add_observer(observer)
    with pytest.raises(TaskError, match="the store refused the result of split play of state") as caught:
        await workflow.orchestrate("fan", store=Refuses(error))
    assert caught.value.__cause__ is error
    assert caught.value.state == "fan"
    assert observer.one("join").error is caught.value


@pytest.mark.parametrize(
    ("outcomes", "options", "expected"),
    [([1, -2], {}, JoinError), ([1, 99], {"timeout": 2}, SplitTimeoutError)],
    ids=["join", "timeout"],
)
async def test_a_store_that_refuses_does_not_hide_why_the_split_failed(engine, outcomes, options, expected):
    observer = Observer()
    workflow = split_workflow(engine, outcomes, **options).add_observer(observer)
    with pytest.raises(expected) as caught:
        await workflow.orchestrate("fan", store=Refuses(OSError("full")))
    assert "The store refused the result of the split: OSError: full" in caught.value.__notes__
    assert caught.value.result.outputs() == [1]
    assert observer.one("join").error is caught.value


@pytest.mark.parametrize("whose", ["branch", "store"])
def test_an_interrupt_goes_through_whatever_the_store_does(engine, whose):
    async def interrupted(item: int) -> None:
        raise KeyboardInterrupt

    workflow = split_workflow(engine, [1])
    store = Refuses(KeyboardInterrupt() if whose == "store" else OSError("full"))
    if whose == "branch":
        join = JoinConfig(JoinStrategy.All, "join", store_partial_results=True)
        workflow.register_map("fan", interrupted, [1], join, replace=True)
    with pytest.raises(KeyboardInterrupt):
        workflow.run("fan", store=store)


async def test_in_the_store_after_every_loser_has_ended(engine):
    ended: list[float] = []

    async def branch(item: float) -> float:
        try:
            await asyncio.sleep(item)
        finally:
            await asyncio.sleep(1)
            ended.append(item)
        return item

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    join = JoinConfig(JoinStrategy.Any, "join", store_partial_results=True)
    workflow.register_map("fan", branch, [1, 99], join)

    async def check(store: Any) -> str:
        assert store.get("split_results").outputs() == [1]
        assert ended == [1, 99]
        return "end"

    workflow.register("join", check)
    await workflow.orchestrate("fan")


async def test_the_last_split_overwrites(engine):
    workflow = split_workflow(engine, [1])
    await workflow.orchestrate("fan")
    first = workflow.store.get("split_results")
    await workflow.orchestrate("fan")
    assert workflow.store.get("split_results") is not first
    assert workflow.store.get("split_results") == first
