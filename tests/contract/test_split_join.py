"""Splits in a workflow: registered, chosen at run time, nested; options, events and the deadline."""

from __future__ import annotations

import asyncio
import contextvars
from datetime import timedelta
from typing import Any

import pytest

from cano import (
    AttemptTimeoutError,
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    MemoryStore,
    Retry,
    RunEvent,
    SplitTimeoutError,
    Task,
    TaskError,
    TaskResult,
    Workflow,
    WorkflowError,
    fan_out,
)

All = JoinStrategy.All


def answering(value: Any, delay: float = 1) -> Any:
    async def task() -> Any:
        await asyncio.sleep(delay)
        return value

    return task


def failing(error: BaseException, delay: float = 1) -> Any:
    async def task() -> None:
        await asyncio.sleep(delay)
        raise error

    return task


def joined(**options: Any) -> JoinConfig[str]:
    options.setdefault("store_partial_results", True)
    return JoinConfig(options.pop("strategy", All), "end", **options)


def split(engine: str, tasks: Any, join: JoinConfig[str] | None = None, **options: Any) -> Workflow[str]:
    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    return workflow.register_split("fan", tasks, joined() if join is None else join, **options)


# --- what the branches are ---


async def test_branches_are_callables_or_objects_with_run_sync_or_async(engine):
    class WithRun:
        def run(self) -> str:
            return "object"

    class Based(Task[str]):
        async def run(self, store: Any) -> str:
            return store.get("word", str)

    async def coroutine(store: Any) -> str:
        return store.get("word", str) + "!"

    workflow = split(engine, [WithRun(), Based(), coroutine, lambda: "lambda", lambda store: store.get("word")])
    workflow.store.put("word", "stored")
    await workflow.orchestrate("fan")
    assert workflow.store.get("split_results").outputs() == ["object", "stored", "stored!", "lambda", "stored"]


async def test_branches_run_at_once(engine):
    began = asyncio.get_running_loop().time()
    await split(engine, [answering(item, 1 + item) for item in range(5)]).orchestrate("fan")
    assert asyncio.get_running_loop().time() - began == 5


async def test_all_branches_get_the_stores_one_object(engine):
    seen: list[int] = []

    async def branch(store: Any) -> None:
        seen.append(id(store))

    workflow = split(engine, [branch, branch])
    await workflow.orchestrate("fan")
    assert seen == [id(workflow.store)] * 2


async def test_a_branch_returns_any_value_and_the_join_state_steers(engine):
    workflow = split(engine, [answering("fan"), answering(None), answering(TaskResult.Single("fan"))])
    assert await workflow.orchestrate("fan") == "end"
    outputs = workflow.store.get("split_results").outputs()
    assert outputs[:2] == ["fan", None]


async def test_a_list_of_tasks_is_copied(engine):
    tasks = [answering(1)]
    workflow = split(engine, tasks)
    tasks.append(answering(2))
    await workflow.orchestrate("fan")
    assert workflow.store.get("split_results").outputs() == [1]


@pytest.mark.parametrize("tasks", [[5], ["text"], [Task], [None]])
def test_what_is_no_task_is_refused_where_it_is_written(tasks):
    with pytest.raises(ConfigurationError):
        split("python", tasks)


def test_a_called_coroutine_is_refused_and_says_what_to_do():
    task = answering(1)()
    with pytest.raises(ConfigurationError, match="without calling it"):
        split("python", [task])
    task.close()


@pytest.mark.parametrize("tasks", [5, "text", b"text", None])
def test_what_is_no_source_of_tasks_is_refused(tasks):
    with pytest.raises(ConfigurationError):
        split("python", tasks)


def test_a_join_is_needed():
    with pytest.raises(ConfigurationError, match="needs a JoinConfig"):
        Workflow(engine="python").register_split("fan", [], All)  # type: ignore[arg-type]


async def test_a_bulkhead_of_a_registered_split(engine):
    began = asyncio.get_running_loop().time()
    await split(engine, [answering(item) for item in range(4)], joined(bulkhead=2)).orchestrate("fan")
    assert asyncio.get_running_loop().time() - began == 2


# --- branches decided at run time ---


async def test_a_task_answers_with_a_split(engine):
    async def decide(store: Any) -> TaskResult[str]:
        return TaskResult.Split([answering(item) for item in store.get("items", list)], joined())

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end").register("decide", decide)
    workflow.store.put("items", [1, 2, 3])
    report = await workflow.execute("decide")
    assert report.path == ("decide", "end")
    assert workflow.store.get("split_results").outputs() == [1, 2, 3]
    assert [result.outputs() for result in report.splits] == [[1, 2, 3]]


async def test_a_split_at_run_time_that_can_never_join_is_a_configuration_error(engine):
    async def decide() -> TaskResult[str]:
        return TaskResult.Split([answering(1)], joined(strategy=JoinStrategy.Quorum(2)))

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end").register("decide", decide)
    with pytest.raises(ConfigurationError, match="more successes than there are branches") as caught:
        await workflow.orchestrate("decide")
    assert (caught.value.state, caught.value.path) == ("decide", ("decide",))


async def test_a_split_at_run_time_that_goes_nowhere(engine):
    async def decide() -> TaskResult[str]:
        return TaskResult.Split([answering(1)], JoinConfig(All, "nowhere"))

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end").register("decide", decide)
    with pytest.raises(WorkflowError, match="no state of this workflow"):
        await workflow.orchestrate("decide")


async def test_a_split_at_run_time_over_a_lazy_source(engine):
    def tasks():
        for item in range(3):
            yield answering(item)

    async def decide() -> TaskResult[str]:
        return TaskResult.Split(tasks(), joined(bulkhead=1))

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end").register("decide", decide)
    for _ in range(2):  # a fresh generator for each run
        await workflow.orchestrate("decide")
        assert workflow.store.get("split_results").outputs() == [0, 1, 2]


async def test_a_function_of_the_store_decides(engine):
    def tasks(store: Any) -> Any:
        return [answering(item) for item in store.get("items")]

    workflow = split(engine, tasks)
    for items in ([1], [2, 3]):
        workflow.store.put("items", items)
        await workflow.orchestrate("fan")
        assert workflow.store.get("split_results").outputs() == items


async def test_an_async_iterator_of_tasks(engine):
    async def tasks():
        for item in range(3):
            await asyncio.sleep(0.25)
            yield answering(item)

    workflow = split(engine, tasks)
    await workflow.orchestrate("fan")
    assert workflow.store.get("split_results").outputs() == [0, 1, 2]


# --- one workflow, many runs ---


async def test_runs_at_once_do_not_disturb_each_other(engine):
    async def branch(store: Any) -> int:
        number = store.get("number", int)
        await asyncio.sleep(number)
        if number == 2:
            raise ValueError(number)
        return number

    workflow = split(engine, [branch, branch])
    stores = [MemoryStore() for _ in range(4)]
    for number, store in enumerate(stores):
        store.put("number", number)
    answers = await asyncio.gather(
        *(workflow.orchestrate("fan", store=store) for store in stores), return_exceptions=True
    )
    assert [answer if isinstance(answer, str) else type(answer) for answer in answers] == [
        "end",
        "end",
        JoinError,
        "end",
    ]
    assert [store.get("split_results").outputs() for store in stores] == [[0, 0], [1, 1], [], [3, 3]]


async def test_a_cycle_through_a_split(engine):
    async def again(store: Any) -> str:
        store.append("rounds", store.get("split_results").outputs())
        return "end" if len(store.get("rounds")) == 3 else "fan"

    workflow: Workflow[str] = Workflow(engine=engine, max_transitions=10).add_exit_state("end")
    join = JoinConfig(All, "again", store_partial_results=True)
    workflow.register_split("fan", [answering(1), answering(2)], join).register("again", again)
    report = await workflow.execute("fan")
    assert report.path == ("fan", "again") * 3 + ("end",)
    assert len(report.splits) == 3


# --- timeouts of a split ---


async def test_durations_are_seconds_or_timedelta(engine):
    for timeout in (2, 2.0, timedelta(seconds=2)):
        with pytest.raises(SplitTimeoutError) as caught:
            await split(engine, [answering(1, 99)], joined(timeout=timeout)).orchestrate("fan")
        assert caught.value.limit == 2


async def test_retries_count_for_the_timeout(engine):
    workflow = split(engine, [failing(ValueError())], joined(timeout=5), retry=Retry.fixed(99, 1))
    with pytest.raises(SplitTimeoutError) as caught:
        await workflow.orchestrate("fan")
    assert caught.value.result is not None
    assert caught.value.result.cancelled == (0,)


async def test_the_timeout_starts_when_the_split_is_entered(engine):
    async def first() -> str:
        await asyncio.sleep(99)
        return "fan"

    workflow = split(engine, [answering(1, 1)], joined(timeout=2)).register("first", first)
    assert await workflow.orchestrate("first") == "end"


async def test_a_branch_that_answers_at_the_deadline(engine):
    """What ended at that very moment but before the deadline was looked at counts; nothing is lost or double."""
    workflow = split(engine, [answering(1, 2)], joined(strategy=JoinStrategy.PartialTimeout, timeout=2))
    outcome = await asyncio.gather(workflow.orchestrate("fan"), return_exceptions=True)
    assert outcome == ["end"] or isinstance(outcome[0], JoinError)
    result = workflow.store.get("split_results")
    assert (result.completed_count, len(result.cancelled)) in ((1, 0), (0, 1))


async def test_a_users_own_timeout_error_is_a_failure_like_any(engine):
    with pytest.raises(JoinError) as caught:
        await split(engine, [failing(TimeoutError("mine"))], joined(timeout=9)).orchestrate("fan")
    assert [type(error) for error in caught.value.exceptions] == [TimeoutError]


# --- options of the branches ---


async def test_an_attempt_timeout_fails_the_branch(engine):
    workflow = split(engine, [answering(1, 1), answering(2, 9)], joined(fail_fast=False), attempt_timeout=2)
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate("fan")
    (error,) = caught.value.exceptions
    assert isinstance(error, AttemptTimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.limit == 2
    assert caught.value.result is not None
    assert caught.value.result.outputs() == [1]


async def test_an_attempt_that_cleans_up_slowly_holds_its_permit(engine):
    loop = asyncio.get_running_loop()
    began = loop.time()
    started: list[float] = []

    async def branch() -> None:
        started.append(loop.time() - began)
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(1)

    with pytest.raises(JoinError):
        await split(engine, [branch, branch], joined(fail_fast=False, bulkhead=1), attempt_timeout=2).orchestrate("fan")
    assert started == [0, 3]


async def test_an_attempt_that_answers_its_timeout_with_a_value_has_succeeded(engine):
    """As with `asyncio.timeout` around code that catches the cancellation: what it returns is what it returns."""

    async def branch() -> str:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            return "partial"
        return "whole"

    workflow = split(engine, [branch], attempt_timeout=2)
    await workflow.orchestrate("fan")
    assert workflow.store.get("split_results").outputs() == ["partial"]


async def test_retries_of_one_branch_leave_the_others_alone(engine):
    tries: list[int] = []

    def branch(index: int) -> Any:
        async def task() -> int:
            tries.append(index)
            await asyncio.sleep(1)
            if index == 1 and tries.count(1) < 3:
                raise ValueError(index)
            return index

        return task

    workflow = split(engine, [branch(index) for index in range(3)], retry=Retry.fixed(5, 1))
    await workflow.orchestrate("fan")
    assert tries == [0, 1, 2, 1, 1]
    result = workflow.store.get("split_results")
    assert {row.task_index: row.attempts for row in result.successes} == {0: 1, 1: 3, 2: 1}


async def test_retry_on_filters_for_each_branch(engine):
    tries: list[str] = []

    def branch(error: Exception) -> Any:
        async def task() -> None:
            tries.append(type(error).__name__)
            raise error

        return task

    retry = Retry.fixed(2, 1, retry_on=OSError)
    join = joined(fail_fast=False)
    with pytest.raises(JoinError):
        await split(engine, [branch(OSError()), branch(ValueError())], join, retry=retry).orchestrate("fan")
    assert sorted(tries) == ["OSError", "OSError", "OSError", "ValueError"]


async def test_a_filter_that_raises_is_the_branchs_error(engine):
    def choose(error: BaseException) -> bool:
        raise KeyError("filter")

    retry = Retry.fixed(2, 1, retry_on=choose)
    with pytest.raises(JoinError) as caught:
        await split(engine, [failing(ValueError())], retry=retry).orchestrate("fan")
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def test_a_retry_delay_of_zero(engine):
    tries = 0

    async def branch() -> int:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ValueError
        return tries

    workflow = split(engine, [branch], retry=Retry.fixed(3, 0))
    await workflow.orchestrate("fan")
    assert workflow.store.get("split_results").outputs() == [4]


async def test_max_elapsed_bounds_the_retries_of_a_branch(engine):
    tries = 0

    async def branch() -> None:
        nonlocal tries
        tries += 1
        raise ValueError

    with pytest.raises(JoinError):
        await split(engine, [branch], retry=Retry.fixed(99, 1, max_elapsed=3.5)).orchestrate("fan")
    assert tries == 4


# --- context variables ---

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_context_variables_reach_branches_and_stay_there(engine):
    seen: list[str] = []

    def branch(name: str, delay: float | None) -> Any:
        async def task() -> None:
            seen.append(variable.get())
            variable.set(name)
            if delay is not None:
                await asyncio.sleep(delay)
            seen.append(variable.get())

        return task

    async def first() -> str:
        variable.set("state")
        return "fan"

    async def last() -> str:
        seen.append(variable.get())
        return "end"

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end").register("first", first)
    workflow.register_split("fan", [branch("a", None), branch("b", None), branch("c", 1)], JoinConfig(All, "last"))
    workflow.register("last", last)
    await workflow.orchestrate("first")
    assert seen == ["state", "a", "state", "b", "state", "c", "state"]
    assert variable.get() == "state"  # set by a state's task: the caller sees it


async def test_a_retry_starts_from_the_runs_context(engine):
    seen: list[str] = []

    async def branch() -> None:
        seen.append(variable.get())
        variable.set("branch")
        if len(seen) < 3:
            raise ValueError

    token = variable.set("run")
    try:
        await split(engine, [branch], retry=Retry.fixed(3, 1)).orchestrate("fan")
    finally:
        variable.reset(token)
    assert seen == ["run", "run", "run"]


async def test_late_starters_see_the_runs_context(engine):
    """A branch that starts when a permit comes free starts in a callback of another branch, not in its context."""
    seen: list[str] = []

    async def branch() -> None:
        seen.append(variable.get())
        variable.set("branch")
        await asyncio.sleep(1)

    token = variable.set("run")
    try:
        await split(engine, [branch] * 4, joined(bulkhead=1)).orchestrate("fan")
    finally:
        variable.reset(token)
    assert seen == ["run"] * 4


# --- splits inside branches ---


async def test_a_workflow_inside_a_branch(engine):
    def inner(number: int) -> Any:
        async def task() -> list[int]:
            workflow = split(engine, [answering(10 * number), answering(10 * number + 1)])
            await workflow.orchestrate("fan")
            return workflow.store.get("split_results").outputs()

        return task

    workflow = split(engine, [inner(1), inner(2)])
    await workflow.orchestrate("fan")
    assert workflow.store.get("split_results").outputs() == [[10, 11], [20, 21]]


async def test_an_inner_join_error_is_the_branchs_own_exception(engine):
    async def inner() -> None:
        await split(engine, [failing(ValueError("deep"))]).orchestrate("fan")

    with pytest.raises(JoinError) as caught:
        await split(engine, [inner]).orchestrate("fan")
    (inner_error,) = caught.value.exceptions
    assert isinstance(inner_error, JoinError)
    assert [error.args for error in inner_error.exceptions] == [("deep",)]


async def test_cancelling_reaches_the_innermost_branches(engine):
    log: list[str] = []

    async def leaf(item: str) -> None:
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(1)
            log.append(item)

    async def inner(item: int) -> None:
        await fan_out(leaf, [f"{item}a", f"{item}b"], engine=engine)

    task = asyncio.create_task(fan_out(inner, [1, 2], engine=engine))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(log) == ["1a", "1b", "2a", "2b"]


# --- events ---


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def note(event: RunEvent) -> None:
            facts = (event.kind, event.branch, event.attempt, event.at)
            self.events.append(tuple(fact for fact in facts if fact is not None))

        return note


async def test_the_events_of_a_split(engine):
    recorder = Recorder()
    tasks = [answering("a", 1), failing(ValueError(), 2), answering("b", 99)]
    workflow = split(engine, tasks, joined(), retry=Retry.fixed(1, 0.5)).add_observer(recorder)
    with pytest.raises(JoinError):
        await workflow.orchestrate("fan")
    assert recorder.events == [
        ("workflow_start", 0),
        ("state_enter", 0),
        ("split_start", 0),
        ("branch_start", 0, 1, 0),
        ("branch_start", 1, 1, 0),
        ("branch_start", 2, 1, 0),
        ("branch_success", 0, 1, 1),
        ("retry", 1, 1, 2),
        ("branch_start", 1, 2, 2.5),
        ("branch_failure", 1, 2, 4.5),
        ("branch_cancelled", 2, 4.5),
        ("join", 4.5),
        ("state_exit", 1, 4.5),
        ("workflow_end", 4.5),
    ]


async def test_what_an_event_of_a_split_tells(engine):
    events: list[RunEvent] = []

    class Listener:
        def on_split_start(self, event: RunEvent) -> None:
            events.append(event)

        on_branch_success = on_branch_failure = on_join = on_timeout = on_retry = on_split_start

    trouble = ValueError("x")
    join = joined(strategy=JoinStrategy.PartialResults(1))
    workflow = split(engine, [failing(trouble, 1), answering("a", 2)], join, name="pair").add_observer(Listener())
    await workflow.orchestrate("fan")
    started, failed, succeeded, joined_ = events
    assert {event.state for event in events} == {"fan"}
    assert {event.task for event in events} == {"pair"}
    assert (started.kind, started.value) == ("split_start", 2)
    assert (failed.kind, failed.branch, failed.attempt, failed.error) == ("branch_failure", 0, 1, trouble)
    assert (succeeded.kind, succeeded.branch, succeeded.value) == ("branch_success", 1, "a")
    assert (joined_.kind, joined_.error) == ("join", None)
    assert joined_.value.outputs() == ["a"]


async def test_a_lazy_split_hides_its_size(engine):
    sizes: list[int | None] = []

    class Listener:
        def on_split_start(self, event: RunEvent) -> None:
            sizes.append(event.value)

    for tasks in ([answering(1)], lambda: [answering(1)], lambda: iter([answering(1)])):
        await split(engine, tasks).add_observer(Listener()).orchestrate("fan")
    assert sizes == [1, 1, None]


async def test_timeouts_are_told(engine):
    told: list[tuple[Any, ...]] = []

    class Listener:
        def on_timeout(self, event: RunEvent) -> None:
            told.append((event.branch, event.attempt, event.value, event.at))

    workflow = split(engine, [answering(1, 99)], joined(timeout=5), retry=Retry.fixed(9, 1), attempt_timeout=2)
    with pytest.raises(SplitTimeoutError):
        await workflow.add_observer(Listener()).orchestrate("fan")
    # The second attempt was at 3 + 2, the moment of the deadline, which is looked at first.
    assert told[0] == (0, 1, 2, 2)
    assert told[-1] == (None, None, 5, 5)


async def test_a_failed_split_ends_the_run_with_its_error(engine):
    ends: list[RunEvent] = []

    class Listener:
        def on_workflow_end(self, event: RunEvent) -> None:
            ends.append(event)

    workflow = split(engine, [failing(ValueError())]).add_observer(Listener())
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate("fan")
    assert [event.error for event in ends] == [caught.value]


# --- where the split's state has a retry of its own there is none ---


async def test_a_join_is_not_retried(engine):
    """The retry given to a split holds for its branches."""
    tries = 0

    async def branch() -> None:
        nonlocal tries
        tries += 1
        raise ValueError

    with pytest.raises(JoinError):
        await split(engine, [branch], retry=Retry.fixed(2, 1)).orchestrate("fan")
    assert tries == 3


async def test_the_branches_of_a_split_at_run_time_have_the_options_of_their_state(engine):
    tries = 0

    async def branch() -> None:
        nonlocal tries
        tries += 1
        raise ValueError

    async def decide() -> TaskResult[str]:
        return TaskResult.Split([branch], joined())

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    workflow.register("decide", decide, retry=Retry.fixed(2, 1))
    with pytest.raises(JoinError):
        await workflow.orchestrate("decide")
    assert tries == 3


async def test_a_store_that_refuses_the_result_fails_the_state(engine):
    class Full(MemoryStore):
        def put(self, key: str, value: Any) -> None:
            raise OSError("full")

    workflow: Workflow[str] = Workflow(Full(), engine=engine).add_exit_state("end")
    workflow.register_split("fan", [answering(1)], joined())
    with pytest.raises((OSError, TaskError)):
        await workflow.orchestrate("fan")
