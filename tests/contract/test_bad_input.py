"""What mistakes get: an error where they are written, that says what was expected, what came, and what to try.

No mistake may hang, end the process, lose a result, or print a bare message of another language.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join, never, to

from cano import (
    CancelToken,
    CanoError,
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    KeyNotFoundError,
    MemoryStore,
    Node,
    Retry,
    SplitTimeoutError,
    Task,
    TaskError,
    TaskResult,
    Workflow,
    WorkflowError,
    as_completed,
    fan_out,
)

pytestmark = pytest.mark.fault("F2")

ok = to(S.DONE)


class Plain:
    """No task: no `run`, not callable."""


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


class BadConfig(Task[S]):
    config = ["retry"]  # type: ignore[assignment]  # noqa: RUF012

    async def run(self, store: Any) -> S:
        return S.DONE


class UnknownConfig(BadConfig):
    config = {"retries": 3}  # type: ignore[assignment]  # noqa: RUF012


class RunIsNoMethod:
    run = 5


def two_arguments(a: int, b: int) -> None: ...


def nothing() -> None: ...


def three_arguments(a: int, b: int, c: int) -> None: ...


# --- where it is written ------------------------------------------------------------------------------------------


def a_future() -> asyncio.Future[None]:
    loop = asyncio.new_event_loop()
    loop.close()
    return asyncio.Future(loop=loop)


# What is done to a workflow, and what the message says of it (a ConfigurationError, which is a ValueError).
WRITTEN: list[tuple[str, Callable[[Workflow[Any]], object], str]] = [
    # an object that is no task
    ("number as task", lambda w: w.register(S.START, 5), "a task must be a callable or an object with run.*but int"),
    ("None as task", lambda w: w.register(S.START, None), "a task must be a callable.*but NoneType"),
    ("object as task", lambda w: w.register(S.START, Plain()), "must be a callable or an object with run.*Plain"),
    ("run that is no method", lambda w: w.register(S.START, RunIsNoMethod()), "must be a callable or an object"),
    ("class with run", lambda w: w.register(S.START, BadConfig), r"the class BadConfig came; try BadConfig\(\)"),
    ("class of a node", lambda w: w.register(S.START, Node), r"the class Node came; try Node\(\)"),
    ("too many parameters", lambda w: w.register(S.START, two_arguments), "needs arguments for: a, b.*partial"),
    ("list of no tasks", lambda w: w.register_split(S.FAN, [ok, 5], join()), "a branch must be a callable.*int"),
    # a coroutine passed instead of a function
    ("coroutine", lambda w: _coroutine(lambda c: w.register(S.START, c)), "an awaitable .* came; pass the function itself"),
    ("coroutine branch", lambda w: _coroutine(lambda c: w.register_split(S.FAN, [c], join())), "without calling it"),
    ("coroutine over data", lambda w: _coroutine(lambda c: w.register_map(S.FAN, c, [1], join())), "without calling it"),
    ("future", lambda w: w.register(S.START, a_future()), "without calling it"),
    # splits
    ("number of branches", lambda w: w.register_split(S.FAN, 3, join()), "branches come from an iterable.*int came"),
    ("None for tasks", lambda w: w.register_split(S.FAN, None, join()), "branches come from an iterable.*NoneType"),
    ("text for tasks", lambda w: w.register_split(S.FAN, "abc", join()), "branches come from.*but str came"),
    ("strategy as join", lambda w: w.register_split(S.FAN, [ok], JoinStrategy.All), r"needs a JoinConfig, but .*try"),
    ("state as join", lambda w: w.register_map(S.FAN, str, [1], S.DONE), "needs a JoinConfig, but S came; try"),
    ("class as join", lambda w: w.register_split(S.FAN, [ok], JoinConfig), "needs a JoinConfig"),
    ("over a number", lambda w: w.register_map(S.FAN, str, 5, join()), "from an iterable.*int came"),
    ("map of no item", lambda w: w.register_map(S.FAN, nothing, [1], join()), "must take the item, or the item and"),
    ("map of three", lambda w: w.register_map(S.FAN, three_arguments, [1], join()), "needs arguments for: a, b, c"),
    # states
    ("None as state", lambda w: w.register(None, ok), "None is no state; a state is any other hashable"),
    ("list as state", lambda w: w.register([S.START], ok), "must be hashable, but list came; use an enum"),
    ("object as state", lambda w: w.register(Unhashable(), ok), "must be hashable, but Unhashable came"),
    ("None as exit", lambda w: w.add_exit_state(None), "None is no state"),
    ("set as exit", lambda w: w.add_exit_state({S.DONE}), "must be hashable, but set came"),
    ("one exit for many", lambda w: w.add_exit_states(S.DONE), "takes an iterable of states, but S came.*add_exit_state"),
    ("text for many exits", lambda w: w.add_exit_states("DONE"), "takes an iterable of states, but str came"),
    ("None as join state", lambda w: JoinConfig(JoinStrategy.All, None), "join_state must be a state; got None"),
    ("twice", lambda w: w.register(S.START, ok).register(S.START, ok), "registered already; use replace=True"),
    # options
    ("retry number", lambda w: w.register(S.START, ok, retry=3), r"retry must be a Retry, but int came; try Retry\."),
    ("retry class", lambda w: w.register(S.START, ok, retry=Retry), "retry must be a Retry"),
    ("inline word", lambda w: w.register(S.START, ok, inline="yes"), "inline must be True or False"),
    ("name number", lambda w: w.register(S.START, ok, name=7), "name must be a non-empty string or None, but int"),
    ("name empty", lambda w: w.register(S.START, ok, name=""), "name must be a non-empty string.*empty"),
    ("config list", lambda w: w.register(S.START, BadConfig()), "the config of BadConfig must be a mapping.*list came"),
    ("config word", lambda w: w.register(S.START, UnknownConfig()), "unknown options: retries; known are: retry,"),
    ("observer", lambda w: w.add_observer(print), "an observer needs at least one of these methods"),
    ("workflow name", lambda _: Workflow(name=5), "name must be a non-empty string"),
    ("introspect", lambda _: Workflow(introspect=1), "introspect must be True or False"),
    # negative and NaN numbers
    ("max_transitions 0", lambda _: Workflow(max_transitions=0), "max_transitions must be 1 or more; got int 0"),
    ("max_transitions bool", lambda _: Workflow(max_transitions=True), "max_transitions must be a whole number"),
    ("max_transitions float", lambda _: Workflow(max_transitions=2.0), "max_transitions must be a whole number"),
    ("attempt_timeout", lambda w: w.register(S.START, ok, attempt_timeout=-1), "attempt_timeout must be a number of seconds"),
    ("attempt nan", lambda w: w.register(S.START, ok, attempt_timeout=float("nan")), "attempt_timeout must be"),
    ("attempt bool", lambda w: w.register(S.START, ok, attempt_timeout=True), "attempt_timeout must be"),
    ("join timeout", lambda _: join(timeout=0), "timeout must be a number of seconds, more than 0"),
    ("join timeout nan", lambda _: join(timeout=float("nan")), "timeout must be"),
    ("bulkhead float", lambda _: join(bulkhead=1.5), "bulkhead must be a whole number"),
    ("bulkhead bool", lambda _: join(bulkhead=True), "bulkhead must be a whole number"),
    ("quorum negative", lambda _: JoinStrategy.Quorum(-1), r"Quorum\(n\) must be 0 or more"),
    ("quorum not called", lambda _: join(strategy=JoinStrategy.Quorum), r"JoinStrategy\.Quorum needs its argument"),
    ("percentage 75", lambda _: JoinStrategy.Percentage(75), r"at most 1; got int 75; for 75 percent write 0\.75"),
    ("percentage nan", lambda _: JoinStrategy.Percentage(float("nan")), "more than 0 and at most 1"),
    ("retries negative", lambda _: Retry.fixed(-1, 1), "retries must be 0 or more"),
    ("delay negative", lambda _: Retry.fixed(1, -1), "delay must be a number of seconds, 0 or more"),
    ("delay nan", lambda _: Retry.exponential(1, float("nan")), "base must be a number of seconds"),
    ("hedge with All", lambda _: join(hedge_delay=1), "hedge_delay works only with JoinStrategy.Any"),
    ("min_successes with All", lambda _: join(min_successes=1), "min_successes works only with"),
    ("custom word", lambda _: JoinStrategy.Custom("all"), r"Custom\(fn\) needs a function"),
    ("huge count", lambda _: JoinStrategy.Quorum(10**30), "or less; got an int of 100 bits"),
    ("buffer", lambda _: as_completed(str, [1], buffer=0), "buffer must be 1 or more"),
    ("completed over 5", lambda _: as_completed(str, 5), "from an iterable.*int came"),
]  # fmt: skip


def _coroutine(use: Callable[[Any], object]) -> object:
    """Use a coroutine where a function belongs, and close it, as nobody awaits it."""
    coroutine = ok()
    try:
        return use(coroutine)
    finally:
        coroutine.close()


@pytest.mark.parametrize(("do", "message"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN])
@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_a_mistake_is_refused_where_it_is_written(
    engine: str, monkeypatch: pytest.MonkeyPatch, do: Callable[[Workflow[Any]], object], message: str
) -> None:
    monkeypatch.setenv("CANO_ENGINE", engine)
    workflow: Workflow[Any] = Workflow()
    with pytest.raises(ConfigurationError, match=message) as caught:
        do(workflow)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CanoError)
    assert "0x" not in str(caught.value)


def test_a_refused_registration_changes_nothing(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, ok).add_exit_state(S.DONE)
    for do in (
        lambda: workflow.register(S.START, 5, replace=True),
        lambda: workflow.register(S.START, ok, retry=3, replace=True),
        lambda: workflow.add_exit_states([S.FAILED, None]),
        lambda: workflow.register_split(S.FAN, [5], join()),
    ):
        with pytest.raises(ConfigurationError):
            do()
    assert workflow.run(S.START) is S.DONE
    assert "FAILED" not in repr(workflow)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda w: w.register(), "state"),
        (lambda w: w.register(S.START), "task"),
        (lambda w: w.register(S.START, ok, retries=3), "retries"),
        (lambda w: w.register_split(S.FAN, [ok]), "join"),
        (lambda w: w.register(S.START, ok, Retry.none()), "positional"),
    ],
)
def test_a_wrong_call_is_pythons_own_type_error(engine: str, do: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        do(Workflow(engine=engine))


# --- when the run gets there --------------------------------------------------------------------------------------


def simple(engine: str, task: Any, **options: Any) -> Workflow[Any]:
    return Workflow(engine=engine).register(S.START, task, **options).add_exit_state(S.DONE)


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


# --- an exception at every site, of every kind ----------------------------------------------------------------------


class Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise Boom("in __str__")

    __repr__ = __str__


class Unpicklable(Exception):  # noqa: N818
    def __init__(self, lock: Any) -> None:
        super().__init__("with a lock")
        self.lock = lock

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle this")


class Base(BaseException):
    """No Exception."""


RAISED: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: Boom("text"),
    "BaseException": lambda: Base("text"),
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": lambda: StopAsyncIteration(5),
    "CancelledError": lambda: asyncio.CancelledError("text"),
    "GeneratorExit": GeneratorExit,
    "unspeakable": Unspeakable,
    "unpicklable": lambda: Unpicklable(threading.Lock()),
    "group": lambda: ExceptionGroup("several", [Boom(1), Boom(2)]),
    "ours": lambda: WorkflowError("raised by the user"),
}

Make = Callable[[Callable[..., Any]], Callable[[Workflow[Any]], object]]
SITES: dict[str, Make] = {}


def site(function: Any) -> Any:
    SITES[function.__name__] = function
    return function


@site
def async_task(fail: Any) -> Any:
    async def task() -> Any:
        await asyncio.sleep(0)
        return fail()

    return lambda w: w.register(S.START, task, replace=True)


@site
def thread_task(fail: Any) -> Any:
    return lambda w: w.register(S.START, lambda: fail(), replace=True)


@site
def inline_task(fail: Any) -> Any:
    return lambda w: w.register(S.START, lambda: fail(), inline=True, replace=True)


@site
def awaitable_task(fail: Any) -> Any:
    class Later:
        def __await__(self) -> Any:
            return fail()

    return lambda w: w.register(S.START, Later, inline=True, replace=True)


@site
def async_branch(fail: Any) -> Any:
    async def branch() -> Any:
        await asyncio.sleep(0.001)
        return fail()

    return lambda w: w.register_split(S.START, [branch, to(1), never], join(), replace=True)


@site
def eager_branch(fail: Any) -> Any:
    async def branch() -> Any:
        return fail()

    return lambda w: w.register_split(S.START, [never, branch, to(1)], join(), replace=True)


@site
def thread_branch(fail: Any) -> Any:
    return lambda w: w.register_split(S.START, [lambda: fail(), never], join(), replace=True)


@site
def inline_branch(fail: Any) -> Any:
    return lambda w: w.register_split(S.START, [never, lambda: fail()], join(), inline=True, replace=True)


@site
def source_function(fail: Any) -> Any:
    return lambda w: w.register_map(S.START, str, lambda: fail(), join(), replace=True)


@site
def async_source_function(fail: Any) -> Any:
    async def source() -> Any:
        return fail()

    return lambda w: w.register_map(S.START, str, source, join(), replace=True)


@site
def source_iterator(fail: Any) -> Any:
    class Source:
        def __init__(self) -> None:
            self.left = 2

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> int:
            self.left -= 1
            return self.left if self.left >= 0 else fail()

    return lambda w: w.register_map(S.START, asyncio.sleep, Source, join(), replace=True)


@site
def async_source_iterator(fail: Any) -> Any:
    class Source:
        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> int:
            self.left -= 1
            return self.left if self.left >= 0 else fail()

    return lambda w: w.register_map(S.START, asyncio.sleep, Source(), join(), replace=True)


@site
def source_iter(fail: Any) -> Any:
    class Source:
        def __iter__(self) -> Any:
            return fail()

    return lambda w: w.register_map(S.START, str, Source(), join(), replace=True)


@site
def strategy(fail: Any) -> Any:
    config = join(strategy=JoinStrategy.Custom(lambda _: fail()))
    return lambda w: w.register_split(S.START, [to(1), never], config, replace=True)


@site
def retry_on(fail: Any) -> Any:
    async def bad() -> Any:
        raise Boom

    return lambda w: w.register(S.START, bad, retry=Retry.fixed(2, 0, retry_on=lambda _: fail()), replace=True)


@site
def retry_on_of_a_branch(fail: Any) -> Any:
    async def bad() -> Any:
        raise Boom

    retry = Retry.fixed(2, 0, retry_on=lambda _: fail())
    return lambda w: w.register_split(S.START, [bad, never], join(), retry=retry, replace=True)


@site
def store_update(fail: Any) -> Any:
    return lambda w: w.register(S.START, lambda store: store.update("key", lambda _: fail()), inline=True, replace=True)


@site
def closing_of_a_source(fail: Any) -> Any:
    """What a source raises when it is closed changes nothing: the split is over."""

    def source() -> Any:
        try:
            while True:
                yield 1
        finally:
            fail()

    return lambda w: w.register_map(S.START, to_one, source, join(strategy=JoinStrategy.Any), replace=True)


@site
def clean_up_of_a_loser(fail: Any) -> Any:
    async def loser() -> Any:
        try:
            await never()
        finally:
            fail()

    async def winner() -> int:
        await asyncio.sleep(0.001)
        return 1

    config = join(strategy=JoinStrategy.Any)
    return lambda w: w.register_split(S.START, [loser, winner], config, replace=True)


async def to_one(item: int) -> int:
    return 1


@pytest.mark.fault("F2")
@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("kind", RAISED)
async def test_an_exception_at_any_site_ends_the_run_once_and_nothing_else(engine: str, name: str, kind: str) -> None:
    loop = asyncio.get_running_loop()
    unhandled: list[Any] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))

    def fail(*_: Any) -> Any:
        raise RAISED[kind]

    workflow = Workflow(engine=engine).register(S.START, ok).add_exit_state(S.DONE)
    workflow.store.put("key", 1)
    SITES[name](fail)(workflow)
    observer = Observer()
    workflow.add_observer(observer)
    try:
        outcome: Any = await asyncio.create_task(workflow.orchestrate(S.START))
    except BaseException as error:
        outcome = error
    allowed: tuple[type[BaseException], ...] = (CanoError,)
    if kind == "CancelledError":
        allowed = (CanoError, asyncio.CancelledError)
    elif kind in ("BaseException", "GeneratorExit"):
        allowed = (CanoError, Base, GeneratorExit)
    if name in ("closing_of_a_source", "clean_up_of_a_loser") and outcome is S.DONE:
        pass
    elif name in ("source_iterator", "async_source_iterator") and outcome is S.DONE:
        assert kind in ("StopIteration", "StopAsyncIteration")  # which is how a source ends
    else:
        assert isinstance(outcome, allowed)
        # A GeneratorExit on its way through a generator is taken for its closing, and made anew.
        assert observer.one("workflow_end").error is outcome or kind == "GeneratorExit"
    if isinstance(outcome, CanoError):
        pickle.loads(pickle.dumps(outcome))
        assert isinstance(str(outcome), str)
    assert observer.kinds[-1] == "workflow_end"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    outcome = None
    gc.collect(0)  # what was never retrieved is told of when it is collected
    assert unhandled == []
    workflow.register(S.START, ok, replace=True)
    assert await workflow.orchestrate(S.START) is S.DONE  # and another run is not touched


# --- KeyboardInterrupt and SystemExit -----------------------------------------------------------------------------

FATAL_SITES = [
    "async_task", "thread_task", "inline_task", "async_branch", "eager_branch", "thread_branch", "inline_branch",
    "source_function", "async_source_function", "source_iterator", "async_source_iterator", "strategy", "retry_on",
    "retry_on_of_a_branch", "store_update", "clean_up_of_a_loser",
]  # fmt: skip


@pytest.mark.parametrize("name", FATAL_SITES)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_go_through_after_clean_up(
    engine: str, name: str, kind: type[BaseException]
) -> None:
    def fail(*_: Any) -> Any:
        raise kind("stop")

    workflow = Workflow(engine=engine).register(S.START, ok).add_exit_state(S.DONE)
    workflow.store.put("key", 1)
    SITES[name](fail)(workflow)
    observer = Observer()
    workflow.add_observer(observer)
    with pytest.raises(kind, match="stop"):
        workflow.run(S.START)
    assert observer.kinds[-1] == "workflow_end"
    ends = sum(observer.kinds.count(end) for end in ("branch_success", "branch_failure", "branch_cancelled"))
    assert observer.kinds.count("branch_start") - ends in (0, 1)  # the branch it came from has no end of its own
    assert observer.kinds.count("split_start") == observer.kinds.count("join")
    workflow.register(S.START, ok, replace=True)
    assert workflow.run(S.START) is S.DONE


def script(engine: str, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own that uses the package."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    program = f"ENGINE = {engine!r}\n{textwrap.dedent(code)}"
    return subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.parametrize("place", ["state", "branch", "thread"])
def test_sys_exit_in_a_program(engine: str, place: str) -> None:
    done = script(
        engine,
        f"""
        import asyncio, sys
        from cano import *

        async def leave(): sys.exit(3)
        def leave_thread(): sys.exit(3)
        async def other():
            try: await asyncio.sleep(60)
            finally: print("cleaned")

        workflow = Workflow(engine=ENGINE).add_exit_state("end")
        if {place!r} == "state": workflow.register("begin", leave)
        elif {place!r} == "branch":
            workflow.register_split("begin", [other, leave], JoinConfig(JoinStrategy.All, "end"))
        else: workflow.register_split("begin", [other, leave_thread], JoinConfig(JoinStrategy.All, "end"))
        try: workflow.run("begin")
        finally: print("over")
        """,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.split() == (["over"] if place == "state" else ["cleaned", "over"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals work in another way there")
def test_ctrl_c_in_a_program(engine: str) -> None:
    done = script(
        engine,
        """
        import asyncio, signal
        from cano import *

        async def press():
            await asyncio.sleep(0.01)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        async def other():
            try: await asyncio.sleep(60)
            finally: print("cleaned", flush=True)

        Workflow(engine=ENGINE).add_exit_state("end").register_split(
            "begin", [other, press], JoinConfig(JoinStrategy.All, "end")).run("begin")
        """,
    )
    assert done.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert done.stdout.split() == ["cleaned"]
    assert "KeyboardInterrupt" in done.stderr
    assert "never awaited" not in done.stderr


def test_a_program_may_end_while_a_thread_is_at_work(engine: str) -> None:
    done = script(
        engine,
        """
        import threading
        from cano import *

        entered = threading.Event()
        def block():
            entered.set()
            threading.Event().wait(60)
        async def enough():
            import asyncio
            while not entered.is_set(): await asyncio.sleep(0.001)

        Workflow(engine=ENGINE).add_exit_state("end").register_split(
            "begin", [block, enough], JoinConfig(JoinStrategy.Any, "end")).run("begin")
        print("over")
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


# --- a loop that is closing -----------------------------------------------------------------------------------------

LEFT = [
    lambda w: w.register(S.START, never, attempt_timeout=50, replace=True),
    lambda w: w.register_split(S.START, [never, to(1)], join(timeout=50), attempt_timeout=60, replace=True),
    lambda w: w.register_split(S.START, [never, never], join(strategy=JoinStrategy.Any, hedge_delay=9), replace=True),
    lambda w: w.register(S.START, flaky_for_ever, retry=Retry.fixed(9, 60), replace=True),
    lambda w: w.register_split(S.START, [flaky_for_ever], join(), retry=Retry.fixed(9, 60), replace=True),
    lambda w: w.register_map(S.START, str, endless, join(bulkhead=1), replace=True),
]


async def flaky_for_ever() -> None:
    raise Boom


async def endless() -> Any:
    yield 1
    await never()


@pytest.mark.parametrize("left", LEFT)
def test_timeouts_on_a_loop_that_is_closed_under_the_run(engine: str, left: Any) -> None:
    """Nothing can be awaited any more; but nothing hangs, raises out of nowhere, or ends the process."""
    workflow = Workflow(engine=engine).register(S.START, ok).add_exit_state(S.DONE)
    left(workflow)
    token = CancelToken()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # asyncio says of every task that it was destroyed while pending
    task = loop.create_task(workflow.orchestrate(S.START, timeout=100, cancel=token))

    async def some_turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(some_turns())
    assert not task.done()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert token.cancel()
    with Quiet():
        del task, loop
        gc.collect()
    workflow.register(S.START, ok, replace=True)
    assert workflow.run(S.START) is S.DONE


class Quiet:
    """What asyncio itself says of coroutines whose loop is gone is not looked at."""

    def __enter__(self) -> None:
        self.hook = sys.unraisablehook
        sys.unraisablehook = lambda _: None

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self.hook


def test_a_branch_that_stops_the_loop(engine: str) -> None:
    async def stop() -> int:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return 1

    workflow = Workflow(engine=engine).register_split(S.START, [stop, stop], join()).add_exit_state(S.DONE)
    loop = asyncio.new_event_loop()
    task = loop.create_task(workflow.orchestrate(S.START))
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.run_until_complete(task)
    assert loop.run_until_complete(task) is S.DONE  # nothing is lost when it goes on
    loop.close()


def test_a_main_that_ends_before_its_run(engine: str) -> None:
    ended: list[int] = []

    async def branch(item: int) -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(0)
            ended.append(item)

    workflow = Workflow(engine=engine).register_map(S.START, branch, range(3), join()).add_exit_state(S.DONE)
    tasks = []

    async def main() -> None:
        tasks.append(asyncio.create_task(workflow.orchestrate(S.START)))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ended == [0, 1, 2]
    assert tasks[0].cancelled()


def test_a_thread_that_ends_after_its_loop_was_closed(engine: str) -> None:
    entered, release = threading.Event(), threading.Event()

    def block() -> S:
        entered.set()
        release.wait(30)
        return S.DONE

    for register in (
        lambda w: w.register(S.START, block, replace=True),
        lambda w: w.register_split(S.START, [block], join(), replace=True),
    ):
        entered.clear()
        release.clear()
        workflow = Workflow(engine=engine).add_exit_state(S.DONE)
        register(workflow)

        async def start(workflow: Any = workflow) -> None:
            task = asyncio.create_task(workflow.orchestrate(S.START))
            while not entered.is_set():
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(start())
        release.set()
    assert simple(engine, ok).run(S.START) is S.DONE


def test_a_run_awaited_on_one_loop_and_resumed_on_another(engine: str) -> None:
    workflow = Workflow(engine=engine).register_split(S.START, [never], join()).add_exit_state(S.DONE)

    async def begin() -> Any:
        run = workflow.orchestrate(S.START)
        run.send(None)
        return run

    run = asyncio.run(begin())
    with Quiet():
        try:
            run.close()
        except RuntimeError as error:  # what asyncio says when something is cancelled that belongs to a closed loop
            closed = str(error)
            assert closed == "Event loop is closed"
        del run
        gc.collect()
    assert simple(engine, ok).run(S.START) is S.DONE


async def test_one_run_cannot_be_awaited_twice(engine: str) -> None:
    run = simple(engine, ok).orchestrate(S.START)
    assert await run is S.DONE
    with pytest.raises(RuntimeError):
        await run


# --- errors that cannot travel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["state", "branch", "split timeout"])
async def test_an_unpicklable_error(engine: str, place: str) -> None:
    async def bad() -> Any:
        raise Unpicklable(threading.Lock())

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    if place == "state":
        workflow.register(S.START, bad)
    elif place == "branch":
        workflow.register_split(S.START, [bad, to(threading.Lock()), to(1)], join(fail_fast=False))
    else:
        workflow.register_split(S.START, [bad, never], join(strategy=JoinStrategy.Any, timeout=1))
    with pytest.raises(CanoError) as caught:
        await workflow.orchestrate(S.START)
    again: Any = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)
    assert (again.state, again.path) == (S.START, (S.START,))
    assert again.__cause__ is None
    if place == "branch":
        assert "Unpicklable: with a lock" in str(again.exceptions[0])
        assert again.result.total_count == 3
        assert again.result.outputs()[1] == 1
    if place == "split timeout":
        assert isinstance(again, SplitTimeoutError)
        assert again.result.cancelled == (1,)


async def test_every_error_a_run_can_end_with_pickles_with_its_facts(engine: str) -> None:
    async def bad() -> Any:
        raise Boom("text")

    token = CancelToken()
    token.cancel("why")
    workflow = Workflow(engine=engine, max_transitions=1).add_exit_state(S.DONE)
    endings: list[tuple[Any, dict[str, Any]]] = [
        (lambda w: w.register(S.START, bad, replace=True), {}),
        (lambda w: w.register(S.START, bad, retry=Retry.fixed(1, 0), replace=True), {}),
        (lambda w: w.register(S.START, never, attempt_timeout=1, replace=True), {}),
        (lambda w: w.register(S.START, never, replace=True), {"timeout": 1}),
        (lambda w: w.register(S.START, never, replace=True), {"cancel": token}),
        (lambda w: w.register(S.START, to(None), replace=True), {}),
        (lambda w: w.register(S.START, to(S.START), replace=True), {}),
        (lambda w: w.register_split(S.START, [bad, to(1), never], join(), replace=True), {}),
        (lambda w: w.register_split(S.START, [never], join(timeout=1), replace=True), {}),
        (lambda w: w.register_map(S.START, str, lambda: 5, join(), replace=True), {}),
    ]
    kinds = set()
    for register, options in endings:
        register(workflow)
        with pytest.raises(CanoError) as caught:
            await workflow.orchestrate(S.START, **options)
        error = caught.value
        again: Any = pickle.loads(pickle.dumps(error))
        kinds.add(type(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        for fact in (
            "category",
            "state",
            "task",
            "attempt",
            "path",
            "attempts",
            "limit",
            "elapsed",
            "reason",
            "problems",
        ):
            assert getattr(again, fact, None) == getattr(error, fact, None)
        result: Any = getattr(error, "result", None)
        if result is not None:
            assert [row.task_index for row in again.result.errors] == [row.task_index for row in result.errors]
            assert again.result.cancelled == result.cancelled
    assert len(kinds) == 9


async def test_fan_out_says_the_same_of_the_same_mistakes(engine: str) -> None:
    for fn, over, options, message in (
        (5, [1], {}, "must be a callable"),
        (str, 5, {}, "from an iterable"),
        (str, [1], {"strategy": "all"}, "expected a JoinStrategy"),
        (str, [1], {"bulkhead": 0}, "bulkhead is 0"),
        (str, [1], {"timeout": -1}, "timeout must be"),
        (str, [1], {"retry": 3}, "retry must be a Retry"),
        (str, lambda store: [1], {}, "asks for a store"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            await fan_out(fn, over, engine=engine, **options)


def test_a_store_of_another_kind_is_said_where_it_is_used(engine: str) -> None:
    assert isinstance(Workflow(MemoryStore(), engine=engine).store, MemoryStore)
