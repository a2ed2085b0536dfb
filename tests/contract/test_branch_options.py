"""What the `config` of a branch's own task says, and what wins over it: contract section 3."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join

from cano import (
    AttemptTimeoutError,
    ConfigurationError,
    JoinError,
    JoinStrategy,
    Node,
    Retry,
    SplitResult,
    Task,
    TaskResult,
    Workflow,
    fan_out,
)

Source = Callable[[list[Any]], Any]


class Fails(Task[Any]):
    """A task that fails so many times before it answers with its number of attempts."""

    def __init__(self, times: int, config: Mapping[str, Any] | None, error: type[Exception] = Boom) -> None:
        self.config = config
        self.times = times
        self.error = error
        self.calls = 0

    async def run(self, store: Any) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return self.calls


class FailsOnAThread(Fails):
    def run(self, store: Any) -> int:  # type: ignore[override]
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return self.calls


class Sleeps(Task[Any]):
    def __init__(self, seconds: float, config: Mapping[str, Any] | None = None) -> None:
        self.seconds = seconds
        self.config = config

    async def run(self, store: Any) -> str:
        await asyncio.sleep(self.seconds)
        return "slept"


def as_list(tasks: list[Any]) -> Any:
    return tasks


def as_function(tasks: list[Any]) -> Any:
    return lambda: iter(tasks)


def as_stream(tasks: list[Any]) -> Any:
    async def source() -> Any:
        for task in tasks:
            yield task

    return source


@pytest.fixture(params=[as_list, as_function, as_stream])
def source(request: pytest.FixtureRequest) -> Source:
    kind: Source = request.param
    return kind


async def split_of(
    engine: str, tasks: Any, *observers: Any, introspect: bool = False, **options: Any
) -> SplitResult[Any]:
    """What came of a split that waits for all of its branches, whether they fail or not."""
    workflow = Workflow(engine=engine, introspect=introspect).add_exit_state(S.DONE)
    workflow.register_split(S.START, tasks, join(fail_fast=False), **options)
    for observer in observers:
        workflow.add_observer(observer)
    try:
        return (await workflow.execute(S.START)).splits[0]
    except JoinError as error:
        return error.result


@pytest.mark.parametrize("kind", [Fails, FailsOnAThread])
async def test_a_branch_is_tried_again_as_its_own_task_says(engine: str, source: Source, kind: Any) -> None:
    tasks = [kind(0, None), kind(2, {"retry": Retry.fixed(2, 1)}), kind(1, {"retry": Retry.fixed(1, 0)})]
    observer = Observer()
    split = await split_of(engine, source(tasks), observer)
    assert split.outputs() == [1, 3, 2]
    assert [split.by_index(i).attempts for i in range(3)] == [1, 3, 2]
    told = sorted((event.branch, event.attempt, event.value) for event in observer.events if event.kind == "retry")
    assert told == [(1, 1, 1.0), (1, 2, 1.0), (2, 1, 0.0)]


async def test_one_that_has_no_retry_of_its_own_fails_at_once(engine: str, source: Source) -> None:
    tasks = [Fails(1, {"retry": Retry.fixed(5, 0)}), Fails(1, None), Fails(1, {"attempt_timeout": 9}), Fails(9, {})]
    split = await split_of(engine, source(tasks))
    assert [task.calls for task in tasks] == [2, 1, 1, 1]
    assert sorted(branch.task_index for branch in split.errors) == [1, 2, 3]


async def test_its_own_retry_gives_up_where_it_says(engine: str) -> None:
    tasks = [
        Fails(9, {"retry": Retry.fixed(5, 0, retry_on=OSError)}, OSError),
        Fails(9, {"retry": Retry.fixed(5, 0, retry_on=OSError)}, ValueError),
        Fails(9, {"retry": Retry.fixed(2, 0)}),
    ]
    split = await split_of(engine, tasks)
    assert sorted(branch.attempts for branch in split.errors) == [1, 3, 6]
    assert [task.calls for task in tasks] == [6, 1, 3]


@pytest.mark.parametrize("introspect", [False, True])
async def test_a_branch_has_the_time_that_its_own_task_says(engine: str, source: Source, introspect: bool) -> None:
    tasks = [Sleeps(2), Sleeps(2, {"attempt_timeout": 1}), Sleeps(2, {"attempt_timeout": 3})]
    observer = Observer()
    split = await split_of(engine, source(tasks), observer, introspect=introspect)
    assert sorted(branch.task_index for branch in split.successes) == [0, 2]
    error = split.by_index(1).error
    assert isinstance(error, AttemptTimeoutError)
    assert "1" in str(error)
    assert (observer.one("timeout").branch, observer.one("timeout").value) == (1, 1.0)


async def test_a_thread_has_the_time_that_its_own_task_says(engine: str) -> None:
    class Waits(Task[Any]):
        config = {"attempt_timeout": 0.01}  # noqa: RUF012

        def run(self, store: Any) -> None:
            released.wait(60)

    def frees(event: Any) -> None:
        released.set()

    released = threading.Event()
    observer = Observer()
    observer.on_timeout = frees  # type: ignore[attr-defined]
    split = await split_of(engine, [Waits(), lambda: released.wait(60)], observer)
    assert isinstance(split.by_index(0).error, AttemptTimeoutError)
    assert split.by_index(1).result is True


async def test_options_of_the_split_win(engine: str, source: Source) -> None:
    once = Fails(1, {"retry": Retry.fixed(5, 0), "attempt_timeout": 1})
    split = await split_of(engine, source([once, Fails(0, None)]), retry=Retry.none())
    assert (once.calls, [branch.task_index for branch in split.errors]) == (1, [0])
    late = Sleeps(2, {"attempt_timeout": 1, "retry": Retry.fixed(1, 0)})
    split = await split_of(engine, source([late]), attempt_timeout=3)
    assert split.outputs() == ["slept"]
    split = await split_of(engine, source([Sleeps(2, {"attempt_timeout": 1})]), attempt_timeout=None)
    assert split.outputs() == ["slept"]


async def test_what_a_task_leaves_open_its_split_says(engine: str) -> None:
    own_time = Fails(2, {"attempt_timeout": 9})
    split = await split_of(engine, [own_time], retry=Retry.fixed(2, 0))
    assert split.outputs() == [3]
    own_retry = Sleeps(2, {"retry": Retry.fixed(1, 0)})
    split = await split_of(engine, [own_retry], attempt_timeout=1)
    assert isinstance(split.by_index(0).error, AttemptTimeoutError)
    assert split.by_index(0).attempts == 2


async def test_its_own_inline_holds_as_well(engine: str) -> None:
    here = threading.current_thread()

    class Where(Task[Any]):
        def __init__(self, config: Mapping[str, Any] | None) -> None:
            self.config = config

        def run(self, store: Any) -> bool:
            return threading.current_thread() is here

    tasks = [Where({"inline": True}), Where(None), Where({"inline": False})]
    assert (await split_of(engine, tasks)).outputs() == [True, False, False]
    assert (await split_of(engine, tasks, inline=True)).outputs() == [True, True, True]


async def test_in_a_split_decided_at_run_time_its_own_options_win(engine: str) -> None:
    own, inherits = Fails(3, {"retry": Retry.fixed(3, 0)}), Fails(1, None)

    async def plan() -> Any:
        return TaskResult.Split([own, inherits], join(strategy=JoinStrategy.All))

    workflow = Workflow(engine=engine).register(S.START, plan, retry=Retry.fixed(1, 0)).add_exit_state(S.DONE)
    assert (await workflow.execute(S.START)).splits[0].outputs() == [4, 2]


async def test_name_and_next_say_nothing_of_a_branch(engine: str) -> None:
    observer = Observer()
    await split_of(engine, [Fails(0, {"name": "mine", "next": S.FAILED})], observer)
    assert observer.one("branch_success").task == "S.START"


@pytest.mark.parametrize("config", [{"retries": 3}, {"retry": 3}, ["retry"], {"attempt_timeout": 0}])
async def test_a_config_that_makes_no_sense_is_refused_where_it_is_written(engine: str, config: Any) -> None:
    with pytest.raises(ConfigurationError, match="retr|config|attempt_timeout"):
        Workflow(engine=engine).register_split(S.START, [Fails(0, config)], join())
    # Where tasks are drawn one by one, it is that branch's failure, and is not retried.
    split = await split_of(engine, lambda: iter([Fails(0, config)]), retry=Retry.fixed(3, 1))
    assert isinstance(split.by_index(0).error, ConfigurationError)
    assert split.by_index(0).attempts == 1


async def test_a_node_brings_its_options_too(engine: str) -> None:
    class Once(Node[Any, Any, Any]):
        config = {"retry": Retry.fixed(1, 0)}  # noqa: RUF012
        calls = 0

        def exec(self, value: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise Boom

        async def post(self, store: Any, value: Any) -> int:
            return self.calls

    assert (await split_of(engine, [Once(), Once()])).outputs() == [2, 2]


async def test_a_config_on_a_class_or_a_function_is_none(engine: str) -> None:
    def plain() -> str:
        return "plain"

    plain.config = {"retries": 3}  # type: ignore[attr-defined]
    assert (await split_of(engine, [plain])).outputs() == ["plain"]


class Raises:
    """An object whose own words cannot be read."""

    def __init__(self, error: BaseException, attribute: str) -> None:
        self.error = error
        self.attribute = attribute

    @property
    def config(self) -> Any:
        if self.attribute == "config":
            raise self.error
        return None

    @property
    def run(self) -> Any:
        if self.attribute == "run":
            raise self.error
        return lambda: "ran"


@pytest.mark.parametrize("attribute", ["config", "run"])
@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), GeneratorExit()], ids=repr)
async def test_a_task_whose_own_words_cannot_be_read_fails_its_branch(
    engine: str, error: BaseException, attribute: str, source: Source
) -> None:
    if source is as_list:
        with pytest.raises(ConfigurationError, match=r"task of type Raises could not be examined") as caught:
            await split_of(engine, [Raises(error, attribute)])
        assert caught.value.__cause__ is error
        return
    tasks = [Raises(error, attribute), lambda: "plain"]
    split = await split_of(engine, source(tasks), retry=Retry.fixed(2, 1))
    failed = split.by_index(0)
    assert isinstance(failed.error, ConfigurationError)
    assert (failed.error.__cause__, failed.attempts) == (error, 1)
    assert split.by_index(1).result == "plain"


@pytest.mark.parametrize("lazy", [False, True])
async def test_a_task_whose_config_raises_in_a_split_decided_at_run_time(engine: str, lazy: bool) -> None:
    tasks: Any = [Raises(ValueError("no"), "config")]
    observer = Observer()

    async def plan() -> Any:
        return TaskResult.Split((lambda: iter(tasks)) if lazy else tasks, join())

    workflow = Workflow(engine=engine).register(S.START, plan).add_exit_state(S.DONE).add_observer(observer)
    with pytest.raises(JoinError if lazy else ConfigurationError):
        await workflow.orchestrate(S.START)
    assert observer.kinds[-2:] == ["state_exit", "workflow_end"]


@pytest.mark.alone
@pytest.mark.parametrize("config", [{"retry": None}, {"attempt_timeout": 5}], ids=["retry", "time"])
async def test_what_a_branch_has_of_its_own_ends_with_it(engine: str, config: Any) -> None:
    """Memory is that of the live branches: none of what the others were called with is kept (contract section 4)."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Once(Task[Any]):
        def __init__(self) -> None:
            own = {"retry": Retry.fixed(1, 0, retry_on=self.wants)} if "retry" in config else config
            self.config = own
            alive.add(self)

        def wants(self, error: BaseException) -> bool:
            return True

        async def run(self, store: Any) -> None:
            nonlocal most
            await asyncio.sleep(0)
            gc.collect()
            most = max(most, len(alive))

    def source() -> Any:
        return (Once() for _ in range(30))

    workflow = Workflow(engine=engine).register_split(S.START, source, join(bulkhead=2)).add_exit_state(S.DONE)
    await workflow.orchestrate(S.START)
    assert 2 <= most <= 5


async def test_both_halves_of_a_sync_branch_that_answers_with_an_awaitable_have_one_limit(engine: str) -> None:
    loop: Any = asyncio.get_running_loop()

    def work(item: int) -> Any:
        loop._virtual += 3  # on the thread
        return asyncio.sleep(3)

    result = await fan_out(
        work, [0], strategy=JoinStrategy.PartialTimeout, timeout=100, attempt_timeout=5, min_successes=0, engine=engine
    )
    assert [type(row.error) for row in result.errors] == [AttemptTimeoutError]
    result = await fan_out(
        work, [0], strategy=JoinStrategy.PartialTimeout, timeout=100, attempt_timeout=7, engine=engine
    )
    assert len(result.successes) == 1
