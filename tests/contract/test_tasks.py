"""What a task may be, how it is called and what it may answer: contract section 3."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join, to

import cano
from cano import (
    ConfigurationError,
    JoinError,
    Node,
    Retry,
    RetryExhaustedError,
    Task,
    TaskError,
    TaskResult,
    Workflow,
    WorkflowError,
)
from cano._engine.threads import pool

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


async def outcome(engine: str, task: Any, store: Any = None, **options: Any) -> Any:
    """Run a task as a state's, and return what it put into the store under `seen`."""
    workflow = Workflow(store, engine=engine).register(S.START, task, **options).add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START) is S.DONE
    return workflow.store.get("seen", default=None)


async def outputs(engine: str, *tasks: Any, store: Any = None, **options: Any) -> list[Any]:
    """Run tasks as branches, and return their outputs."""
    workflow = Workflow(store, engine=engine).register_split(S.START, list(tasks), join(), **options)
    return (await workflow.add_exit_state(S.DONE).execute(S.START)).splits[0].outputs()


# --- what a task is -----------------------------------------------------------------------------------------------


class SyncRun:
    def run(self, store: Any) -> S:
        store.put("seen", "sync run")
        return S.DONE


class AsyncRun:
    async def run(self, store: Any) -> S:
        store.put("seen", "async run")
        return S.DONE


class SyncCall:
    def __call__(self, store: Any) -> S:
        store.put("seen", "sync call")
        return S.DONE


class AsyncCall:
    async def __call__(self, store: Any) -> S:
        store.put("seen", "async call")
        return S.DONE


class ClassRun:
    @staticmethod
    def run(store: Any) -> S:
        store.put("seen", "static run")
        return S.DONE


class Both:
    """Has `run` and can be called: `run` is the task."""

    def __call__(self) -> S:
        raise AssertionError

    def run(self, store: Any) -> S:
        store.put("seen", "run")
        return S.DONE


@pytest.mark.parametrize(
    ("task", "seen"),
    [
        (SyncRun(), "sync run"),
        (AsyncRun(), "async run"),
        (SyncCall(), "sync call"),
        (AsyncCall(), "async call"),
        (ClassRun(), "static run"),
        (Both(), "run"),
        (SyncRun().run, "sync run"),
        (AsyncRun().run, "async run"),
    ],
)
async def test_a_task_is_a_callable_or_an_object_with_run_sync_or_async(engine: str, task: Any, seen: str) -> None:
    assert await outcome(engine, task) == seen


def parameters() -> list[tuple[str, Any, str]]:
    """Tasks that write down what they were called with; `<store>` stands for the store."""

    def note(store: Any, *given: Any) -> S:
        store.put("seen", given)
        return S.DONE

    def the_store(store):
        return note(store, "<store>")

    def other_name(anything: Any) -> S:
        return note(anything, "<store>")

    def positional_only(store: Any, /) -> S:
        return note(store, "<store>")

    def keyword_only(*, store: Any) -> S:
        return note(store, "<store>")

    def default_after(store: Any, factor: int = 2) -> S:
        return note(store, "<store>", factor)

    def default_before(factor: int = 2, *, store: Any) -> S:
        return note(store, "<store>", factor)

    def store_with_default(factor: int = 2, store: Any = None) -> S:
        return note(store, "<store>", factor)

    def variadic(*args: Any) -> S:
        return note(args[0], "<store>", len(args))

    def variadic_after(store: Any, *args: Any, **kwargs: Any) -> S:
        return note(store, "<store>", args, kwargs)

    def two(factor: int, store: Any) -> S:
        return note(store, "<store>", factor)

    @functools.wraps(the_store)
    def wrapped(*args: Any, **kwargs: Any) -> S:
        return the_store(*args, **kwargs)  # type: ignore[no-any-return]

    return [
        ("the store", the_store, "<store>"),
        ("another name", other_name, "<store>"),
        ("positional only", positional_only, "<store>"),
        ("keyword only", keyword_only, "<store>"),
        ("a default after", default_after, "<store> 2"),
        ("a default before", default_before, "<store> 2"),
        ("store with a default", store_with_default, "<store> 2"),
        ("*args", variadic, "<store> 1"),
        ("*args after", variadic_after, "<store> () {}"),
        ("partial", functools.partial(two, 5), "<store> 5"),
        ("partial by name", functools.partial(two, factor=6), "<store> 6"),
        ("partial of partial", functools.partial(functools.partial(two, 7)), "<store> 7"),
        ("wraps", wrapped, "<store>"),
        ("lambda", lambda store: note(store, "<store>"), "<store>"),
    ]


PARAMETERS = {name: (task, seen) for name, task, seen in parameters()}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("place", ["state", "branch"])
async def test_the_store_goes_to_the_parameter_without_a_default_or_named_store(
    engine: str, store: Any, place: str, name: str
) -> None:
    task, seen = PARAMETERS[name]
    if place == "state":
        await outcome(engine, task, store)
    else:
        await outputs(engine, task, store=store)
    assert " ".join(map(str, store.get("seen"))) == seen


@pytest.mark.parametrize("place", ["state", "branch"])
async def test_a_task_may_take_nothing(engine: str, place: str) -> None:
    def nothing() -> S:
        return S.DONE

    async def left_alone(factor: int = 2, *, other: str = "x") -> S:
        assert (factor, other) == (2, "x")
        return S.DONE

    for task in (nothing, left_alone, functools.partial(left_alone, 2)):
        if place == "state":
            await outcome(engine, task)
        else:
            assert await outputs(engine, task) == [S.DONE]


async def test_in_register_map_args_gets_the_item_alone(engine: str) -> None:
    def variadic(*args: Any) -> Any:
        return args

    workflow = Workflow(engine=engine).register_map(S.START, variadic, [1, 2], join()).add_exit_state(S.DONE)
    assert (await workflow.execute(S.START)).splits[0].outputs() == [(1,), (2,)]


async def test_a_wrapped_async_function_is_async(engine: str) -> None:
    async def original(store: Any) -> S:
        store.put("seen", threading.current_thread())
        return S.DONE

    @functools.wraps(original)
    async def decorated(*args: Any) -> S:
        return await original(*args)

    assert await outcome(engine, decorated) is threading.current_thread()
    assert await outcome(engine, functools.partial(decorated)) is threading.current_thread()


async def test_a_class_that_makes_a_result_is_a_callable(engine: str) -> None:
    class Made:
        pass

    (made,) = await outputs(engine, Made)
    assert isinstance(made, Made)


async def test_a_builtin_is_a_callable(engine: str) -> None:
    store = [3, 1, 2]
    assert await outputs(engine, sorted, store=store) == [[1, 2, 3]]


# --- Task and its options -----------------------------------------------------------------------------------------


async def test_task_is_the_base_class_for_those_who_like_one(engine: str) -> None:
    class Mine(Task[S]):
        def run(self, store: Any) -> S:
            store.put("seen", self.name)
            return S.DONE

    assert await outcome(engine, Mine()) is None


async def test_the_name_of_a_task_is_in_errors_and_events(engine: str) -> None:
    class Named(Task[S]):
        name = "the named one"

        async def run(self, store: Any) -> S:
            raise Boom

    class Unnamed(Task[S]):
        async def run(self, store: Any) -> S:
            raise Boom

    for task, options, name in (
        (Named(), {}, "the named one"),
        (Named(), {"name": "another"}, "another"),
        (Unnamed(), {}, Unnamed.__qualname__.replace("<locals>.", "")),
    ):
        observer = Observer()
        workflow = Workflow(engine=engine).register(S.START, task, **options).add_exit_state(S.DONE)
        with pytest.raises(TaskError) as caught:
            await workflow.add_observer(observer).orchestrate(S.START)
        assert caught.value.task == name
        assert observer.one("task_failure").task == name
        assert name.split(".")[-1] in str(caught.value)


async def test_config_is_a_mapping_of_registers_options_which_register_overrides(engine: str) -> None:
    tries: list[int] = []

    class Flaky(Task[S]):
        config = {"retry": Retry.fixed(2, 0), "name": "flaky", "next": [S.DONE]}  # noqa: RUF012

        def run(self, store: Any) -> S:
            tries.append(1)
            raise Boom

    workflow = Workflow(engine=engine).register(S.START, Flaky()).add_exit_state(S.DONE)
    with pytest.raises(RetryExhaustedError) as caught:
        await workflow.orchestrate(S.START)
    assert (caught.value.attempts, caught.value.task, len(tries)) == (3, "flaky", 3)
    workflow.register(S.START, Flaky(), retry=Retry.none(), name="once", replace=True)
    with pytest.raises(TaskError) as once:
        await workflow.orchestrate(S.START)
    assert (type(once.value), once.value.task, len(tries)) == (TaskError, "once", 4)
    assert "S.DONE" in workflow.to_mermaid()


async def test_config_of_what_is_called_on_each_item(engine: str) -> None:
    class Flaky:
        config = {"retry": Retry.fixed(2, 1), "name": "flaky"}  # noqa: RUF012

        def __init__(self) -> None:
            self.calls = 0

        async def run(self, item: int) -> int:
            self.calls += 1
            if self.calls < 3:
                raise Boom
            return item

    observer = Observer()
    workflow = Workflow(engine=engine).register_map(S.START, Flaky(), [7], join()).add_exit_state(S.DONE)
    report = await workflow.add_observer(observer).execute(S.START)
    assert (report.splits[0].outputs(), report.splits[0].successes[0].attempts) == ([7], 3)
    assert observer.one("branch_success").task == "flaky"
    assert (await cano.fan_out(Flaky(), [8], engine=engine)).outputs() == [8]


async def test_config_says_where_a_fan_out_calls(engine: str) -> None:
    here = threading.current_thread()

    class Here:
        config = {"inline": True}  # noqa: RUF012

        def run(self, item: int) -> bool:
            return threading.current_thread() is here

    assert (await cano.fan_out(Here(), [1], engine=engine)).outputs() == [True]


async def test_config_none_is_no_options(engine: str) -> None:
    class Plain(Task[S]):
        config = None

        async def run(self, store: Any) -> S:
            return S.DONE

    await outcome(engine, Plain())


# --- what a task answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [S.DONE, TaskResult.Single(S.DONE)])
async def test_a_task_returns_the_next_state_or_single(engine: str, answer: Any) -> None:
    await outcome(engine, to(answer))


@pytest.mark.parametrize("kind", ["async", "sync", "inline"])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "returned None, expected the next state"),
        (S.FAILED, r"returned S\.FAILED, which is no state of this workflow"),
        (42, "returned a value of type int, which is no state"),
        ([S.DONE], "returned a value of type list, which is no state"),
        (TaskResult.Single(None), "returned None"),
        (TaskResult.Single(S.FAILED), r"returned S\.FAILED"),
    ],
)
async def test_what_is_no_state_is_an_error_that_names_the_task_and_what_came_back(
    engine: str, kind: str, answer: Any, message: str
) -> None:
    def steer() -> Any:
        return answer

    task: Any = to(answer) if kind == "async" else steer
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register(S.START, task, inline=kind == "inline", name="steer", retry=Retry.fixed(5, 0))
    observer = Observer()
    with pytest.raises(WorkflowError, match=message) as caught:
        await workflow.add_observer(observer).orchestrate(S.START)
    assert "task steer of state S.START" in str(caught.value)
    assert (caught.value.state, caught.value.task, caught.value.path) == (S.START, "steer", (S.START,))
    assert observer.kinds == [
        "workflow_start", "state_enter", "task_start", "task_failure", "state_exit", "workflow_end",
    ]  # fmt: skip
    assert observer.one("workflow_end").error is caught.value


async def test_the_value_that_came_back_is_not_quoted(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to("a secret")).add_exit_state(S.DONE)
    with pytest.raises(WorkflowError) as caught:
        await workflow.orchestrate(S.START)
    assert "secret" not in str(caught.value)


async def test_a_task_that_fails_raises_task_error_from_its_exception(engine: str) -> None:
    error = Boom("as it was")

    async def fail() -> S:
        raise error

    workflow = Workflow(engine=engine).register(S.START, fail).add_exit_state(S.DONE)
    with pytest.raises(TaskError, match=r"failed with .*Boom: as it was") as caught:
        await workflow.orchestrate(S.START)
    assert caught.value.__cause__ is error
    assert error.__traceback__ is not None
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    assert frame.tb_frame.f_code is fail.__code__
    assert (caught.value.state, caught.value.attempt, caught.value.path) == (S.START, 1, (S.START,))


# --- threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["state", "branch"])
async def test_a_sync_callable_runs_on_a_worker_thread(engine: str, place: str) -> None:
    threads: list[threading.Thread] = []

    def note() -> S:
        threads.append(threading.current_thread())
        return S.DONE

    if place == "state":
        await outcome(engine, note)
    else:
        await outputs(engine, note)
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name.startswith("cano-worker")


@pytest.mark.parametrize("place", ["state", "branch"])
async def test_inline_runs_it_in_place(engine: str, place: str) -> None:
    threads: list[threading.Thread] = []

    def note() -> S:
        threads.append(threading.current_thread())
        return S.DONE

    if place == "state":
        await outcome(engine, note, inline=True)
    else:
        await outputs(engine, note, inline=True)
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("place", ["state", "branch"])
async def test_a_sync_callable_never_blocks_the_event_loop(engine: str, place: str) -> None:
    loop = asyncio.get_running_loop()
    entered, leave = threading.Event(), threading.Event()

    def block() -> S:
        entered.set()
        assert leave.wait(200)  # ends only if the loop still runs callbacks
        return S.DONE

    def poll() -> None:
        if entered.is_set():
            leave.set()
        else:
            loop.call_soon(poll)

    loop.call_soon(poll)
    if place == "state":
        await outcome(engine, block)
    else:
        assert await outputs(engine, block, block) == [S.DONE] * 2


@pytest.mark.alone
async def test_sync_branches_run_at_once(engine: str) -> None:
    barrier = threading.Barrier(5, timeout=30)

    def meet() -> int:
        barrier.wait()
        return 1

    assert await outputs(engine, *[meet] * 5) == [1] * 5


@pytest.fixture
def thread_limit() -> Any:
    yield cano.set_thread_limit
    cano.set_thread_limit(32)


@pytest.mark.parametrize("limit", [1, 3])
async def test_at_most_n_sync_callables_run_at_once(
    engine: str, thread_limit: Callable[[int], None], limit: int
) -> None:
    thread_limit(limit)
    lock = threading.Lock()
    running = most = 0
    full = threading.Barrier(limit, timeout=30)

    def work() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait()  # only passes when the limit is reached
        with lock:
            running -= 1
        return 1

    assert await outputs(engine, *[work] * (4 * limit)) == [1] * (4 * limit)
    assert most == limit


def test_the_default_thread_limit_is_32() -> None:
    assert pool.limit == 32


@pytest.mark.parametrize("limit", [0, -1, 1.5, "4", True, None])
def test_a_bad_thread_limit_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="thread limit must be"):
        cano.set_thread_limit(limit)


@pytest.mark.parametrize("place", ["state", "branch"])
@pytest.mark.parametrize("inline", [False, True])
async def test_a_sync_callable_that_returns_an_awaitable_has_it_awaited_on_the_loop(
    engine: str, place: str, inline: bool
) -> None:
    loop = asyncio.get_running_loop()

    async def later() -> S:
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(1)
        return S.DONE

    def start() -> Awaitable[S]:
        return later()

    began = loop.time()
    if place == "state":
        await outcome(engine, start, inline=inline)
    else:
        assert await outputs(engine, start, inline=inline) == [S.DONE]
    assert loop.time() - began == pytest.approx(1)


@pytest.mark.parametrize("place", ["state", "branch"])
async def test_any_awaitable_will_do(engine: str, place: str) -> None:
    class Later:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0.5).__await__()
            return S.DONE

    def future() -> Awaitable[S]:
        result = asyncio.get_running_loop().create_future()
        result.set_result(S.DONE)
        return result

    def task() -> Awaitable[S]:
        return asyncio.get_running_loop().create_task(to(S.DONE)())

    for function in (Later, future, task):
        if place == "state":
            await outcome(engine, function, inline=True)
        else:
            assert await outputs(engine, function, inline=True) == [S.DONE]


@pytest.mark.parametrize("place", ["state", "branch"])
async def test_stop_iteration_from_a_thread_is_a_failure_and_no_hang(engine: str, place: str) -> None:
    def stop() -> S:
        raise StopIteration(1)

    with pytest.raises((TaskError, JoinError)) as caught:
        await (outcome(engine, stop) if place == "state" else outputs(engine, stop))
    error = caught.value.__cause__ if place == "state" else caught.value.exceptions[0]
    assert isinstance(error, RuntimeError if place == "state" else (RuntimeError, StopIteration))


@pytest.mark.parametrize("place", ["state", "branch"])
async def test_stop_iteration_in_place_is_a_failure(engine: str, place: str) -> None:
    def stop() -> S:
        raise StopIteration(1)

    async def astop() -> S:
        raise StopIteration(1)  # Python makes a RuntimeError of it

    for task in (stop, astop):
        with pytest.raises((TaskError, JoinError)):
            await (outcome(engine, task, inline=True) if place == "state" else outputs(engine, task, inline=True))


async def test_an_exception_of_a_thread_keeps_its_traceback(engine: str) -> None:
    def fail() -> S:
        raise Boom("thread")

    with pytest.raises(TaskError) as caught:
        await outcome(engine, fail)
    trace = caught.value.__cause__.__traceback__  # type: ignore[union-attr]
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    assert trace.tb_frame.f_code is fail.__code__


# --- context variables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "thread", "inline"])
@pytest.mark.parametrize("place", ["state", "branch"])
async def test_context_variables_reach_a_task_either_way(engine: str, kind: str, place: str) -> None:
    number.set(41)

    async def aread(store: Any) -> S:
        store.put("seen", number.get())
        return S.DONE

    def read(store: Any) -> S:
        store.put("seen", number.get())
        return S.DONE

    task: Any = aread if kind == "async" else read
    store: dict[str, int] = {}

    class Store:
        def put(self, key: str, value: int) -> None:
            store[key] = value

        def get(self, key: str, default: Any = None) -> Any:
            return store.get(key, default)

    if place == "state":
        await outcome(engine, task, Store(), inline=kind == "inline")
    else:
        await outputs(engine, task, store=Store(), inline=kind == "inline")
    assert store == {"seen": 41}


async def test_a_variable_set_by_an_async_states_task_is_seen_by_later_states_and_by_the_caller(engine: str) -> None:
    number.set(1)
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)

    @workflow.state(S.START)
    async def change() -> S:
        assert number.get() == 1
        await asyncio.sleep(1)
        number.set(2)
        return S.FAN

    async def branch() -> int:
        return number.get()

    workflow.register_split(S.FAN, [branch, lambda: number.get()], join(S.WORK))

    @workflow.state(S.WORK)
    def later(store: Any) -> S:
        store.put("seen", number.get())
        return S.DONE

    report = await workflow.execute(S.START)
    assert report.splits[0].outputs() == [2, 2]
    assert workflow.store.get("seen") == 2
    assert number.get() == 2


@pytest.mark.parametrize("kind", ["async", "thread", "inline"])
async def test_a_variable_set_in_a_branch_is_not_seen_elsewhere(engine: str, kind: str) -> None:
    number.set(1)

    async def achange(item: int) -> int:
        before = number.get()
        number.set(item)
        await asyncio.sleep(0)
        assert number.get() == item
        return before

    def change(item: int) -> int:
        before = number.get()
        number.set(item)
        return before

    fn: Any = achange if kind == "async" else change
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_map(S.START, fn, [10, 20, 30], join(), inline=kind == "inline")
    assert (await workflow.execute(S.START)).splits[0].outputs() == [1, 1, 1]
    assert number.get() == 1


async def test_a_variable_set_on_a_thread_is_not_seen_by_later_states(engine: str) -> None:
    number.set(1)
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register(S.START, lambda: number.set(2) and S.WORK)
    workflow.register(S.WORK, lambda store: store.put("seen", number.get()) or S.DONE)
    await workflow.orchestrate(S.START)
    assert (number.get(), workflow.store.get("seen")) == (1, 1)


# --- branches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, [], {"a": 1}, ValueError("a value"), b"x", 1.5])
async def test_a_branch_may_return_any_value(engine: str, value: Any) -> None:
    assert await outputs(engine, to(value), lambda: value) == [value, value]


async def test_a_state_that_a_branch_returns_does_not_steer_the_run(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_states([S.DONE, S.FAILED])
    workflow.register_split(S.START, [to(S.FAILED), to(TaskResult.Single(S.FAILED))], join(S.DONE)).register(
        S.WORK, lambda: S.FAILED
    )
    report = await workflow.execute(S.START)
    assert report.state is S.DONE
    assert report.splits[0].outputs()[0] is S.FAILED


async def test_tasks_of_every_kind_are_branches_of_one_split(engine: str, store: Any) -> None:
    class Node3(cano.Node[Any, Any, Any]):
        def post(self, store: Any, value: Any) -> Any:
            return "node"

    assert await outputs(
        engine, AsyncRun(), SyncRun(), lambda: "lambda", to("async"), functools.partial(pow, 2, 5), Node3(), store=store
    ) == [S.DONE, S.DONE, "lambda", "async", 32, "node"]


@pytest.mark.parametrize("kind", ["function", "node", "function with a limit"])
async def test_a_stop_iteration_of_a_task_run_in_place_is_the_users_own(engine: str, kind: str) -> None:
    """A coroutine would make another error of it."""

    class Stops(Node):
        def prep(self, store: Any) -> Any:
            raise StopIteration("no more")

    def stops() -> None:
        raise StopIteration("no more")

    asked: list[BaseException] = []

    def wants(error: BaseException) -> bool:
        asked.append(error)
        return True

    workflow = Workflow[str](engine=engine).add_exit_state("end")
    limit = 9 if kind == "function with a limit" else None
    retry = Retry.fixed(1, 0, retry_on=wants)
    workflow.register("a", Stops() if kind == "node" else stops, inline=True, retry=retry, attempt_timeout=limit)
    with pytest.raises(RetryExhaustedError) as caught:
        await workflow.orchestrate("a")
    assert {type(error) for error in [*asked, caught.value.__cause__]} == {StopIteration}
    assert str(caught.value.__cause__) == "no more"
