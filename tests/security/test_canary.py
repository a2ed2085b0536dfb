"""No value, input or stored item is in what cano says: log lines, messages, warnings, reprs, pictures.

What it does say: names of states and tasks, keys of the store, a token's reason, the text of a user's own exception
(SECURITY.md). So a canary is put where the others are, and every way a run can end is gone.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import pickle
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join, to
from tests.security.canary import CANARY, Said, Secret, listening, secrets

import cano
from cano import (
    CancelToken,
    CanoError,
    JoinConfig,
    JoinStrategy,
    MemoryStore,
    Node,
    Retry,
    SplitResult,
    TaskResult,
    Workflow,
    as_completed,
    fan_out,
)

pytestmark = pytest.mark.fault("security")

VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("VARIABLE")

Flow = Workflow[Any]


def has_secrets(engine: str, **options: Any) -> Flow:
    """A workflow whose store holds the canary, under harmless keys."""
    flow: Flow = Workflow(engine=engine, name="of secrets", **options)
    for number, secret in enumerate(secrets()):
        flow.store.put(f"key {number}", secret)
    return flow.add_exit_state(S.DONE)


async def returns_its_item(item: Any) -> Any:
    await asyncio.sleep(0)
    return item


async def fails_on_its_item(item: Any) -> Any:
    await asyncio.sleep(0)
    raise Boom("of the user's own choosing")


async def hangs_on_its_item(item: Any) -> Any:
    try:
        await asyncio.sleep(1e6)
    except asyncio.CancelledError:
        await asyncio.sleep(10)  # long enough to be named in a warning
        raise Boom from None
    return item


# --- ways to end: each takes a workflow with secrets, and gives what to run -----------------------------------------

Way = Callable[[Flow], Any]
WAYS: dict[str, Way] = {}


def way(register: Way) -> Way:
    WAYS[register.__name__] = register
    return register


def a_map(flow: Flow, fn: Any, over: Any = None, strategy: JoinStrategy = JoinStrategy.All, **options: Any) -> Flow:
    config = {key: options.pop(key) for key in ("timeout", "hedge_delay", "min_successes") if key in options}
    over = secrets() if over is None else over
    return flow.register_map(S.START, fn, over, join(S.DONE, strategy, store_partial_results=True, **config), **options)


@way
def a_split_that_proceeds(flow: Flow) -> Any:
    return a_map(flow, returns_its_item).execute(S.START)


@way
def a_split_on_threads(flow: Flow) -> Any:
    return a_map(flow, lambda item: item).execute(S.START)


@way
def a_split_that_fails(flow: Flow) -> Any:
    return a_map(flow, fails_on_its_item).execute(S.START)


@way
def a_split_that_fails_after_retries(flow: Flow) -> Any:
    return a_map(flow, fails_on_its_item, retry=Retry.fixed(2, 1)).execute(S.START)


@way
def a_split_on_threads_that_fails(flow: Flow) -> Any:
    def fails(item: Any) -> Any:
        raise Boom

    return a_map(flow, fails, strategy=JoinStrategy.Quorum(2)).execute(S.START)


@way
def a_split_that_times_out(flow: Flow) -> Any:
    return a_map(flow, hangs_on_its_item, timeout=1).execute(S.START)


@way
def attempts_that_time_out(flow: Flow) -> Any:
    return a_map(flow, hangs_on_its_item, attempt_timeout=1).execute(S.START)


@way
def a_partial_result(flow: Flow) -> Any:
    async def some(item: Any) -> Any:
        return await (returns_its_item if isinstance(item, str) else hangs_on_its_item)(item)

    return a_map(flow, some, strategy=JoinStrategy.PartialTimeout, timeout=1).execute(S.START)


@way
def too_few_successes(flow: Flow) -> Any:
    async def some(item: Any) -> Any:
        return await (returns_its_item if isinstance(item, str) else fails_on_its_item)(item)

    return a_map(flow, some, strategy=JoinStrategy.PartialTimeout, timeout=1, min_successes=3).execute(S.START)


@way
def a_hedged_split(flow: Flow) -> Any:
    return a_map(flow, hangs_on_its_item, strategy=JoinStrategy.Any, hedge_delay=1, timeout=3).execute(S.START)


@way
def branches_that_are_no_tasks(flow: Flow) -> Any:
    return flow.register_split(S.START, lambda: iter(secrets()), join()).execute(S.START)


@way
def a_source_that_is_none(flow: Flow) -> Any:
    return a_map(flow, returns_its_item, Secret).execute(S.START)


@way
def a_source_that_fails(flow: Flow) -> Any:
    def source() -> Iterator[Any]:
        yield from secrets()
        raise Boom

    return a_map(flow, hangs_on_its_item, source).execute(S.START)


@way
def an_asynchronous_source_that_fails(flow: Flow) -> Any:
    async def source() -> AsyncIterator[Any]:
        for secret in secrets():
            yield secret
        raise Boom

    return a_map(flow, hangs_on_its_item, source).execute(S.START)


@way
def a_strategy_that_answers_with_anything(flow: Flow) -> Any:
    return a_map(flow, returns_its_item, strategy=JoinStrategy.Custom(lambda _: Secret())).execute(S.START)


@way
def a_strategy_that_answers_with_text(flow: Flow) -> Any:
    return a_map(flow, returns_its_item, strategy=JoinStrategy.Custom(lambda _: CANARY)).execute(S.START)


@way
def a_strategy_that_fails(flow: Flow) -> Any:
    def decide(_: Any) -> str:
        raise Boom

    return a_map(flow, returns_its_item, strategy=JoinStrategy.Custom(decide)).execute(S.START)


@way
def branches_cancelled_from_elsewhere(flow: Flow) -> Any:
    async def cancels_itself(item: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return item

    return a_map(flow, cancels_itself).execute(S.START)


@way
def a_task_that_returns_a_value(flow: Flow) -> Any:
    return flow.register(S.START, to(Secret())).execute(S.START)


@way
def a_task_that_returns_text(flow: Flow) -> Any:
    return flow.register(S.START, to(CANARY)).execute(S.START)


@way
def a_task_that_returns_what_is_not_hashable(flow: Flow) -> Any:
    return flow.register(S.START, to([CANARY])).execute(S.START)


@way
def a_task_that_fails(flow: Flow) -> Any:
    async def fails(store: MemoryStore) -> Any:
        _ = store.get("key 0")
        raise Boom

    return flow.register(S.START, fails).execute(S.START)


@way
def a_task_that_fails_after_retries(flow: Flow) -> Any:
    def fails(store: MemoryStore) -> Any:
        raise Boom

    return flow.register(S.START, fails, retry=Retry.exponential(2)).execute(S.START)


@way
def an_attempt_that_times_out(flow: Flow) -> Any:
    async def hangs(store: MemoryStore, secret: Any = CANARY) -> Any:
        await asyncio.sleep(1e6)

    return flow.register(S.START, hangs, attempt_timeout=1).execute(S.START)


@way
def a_run_that_times_out(flow: Flow) -> Any:
    return a_map(flow, hangs_on_its_item).execute(S.START, timeout=1)


@way
def a_run_that_a_token_ends(flow: Flow) -> Any:
    token = CancelToken()
    asyncio.get_running_loop().call_later(1, token.cancel, "a reason")
    return a_map(flow, hangs_on_its_item).execute(S.START, cancel=token)


@way
def a_split_chosen_at_run_time(flow: Flow) -> Any:
    async def chooses() -> Any:
        tasks = [functools.partial(hangs_on_its_item, secret) for secret in secrets()]
        return TaskResult.Split(tasks, JoinConfig(JoinStrategy.All, S.DONE, timeout=1))

    return flow.register(S.START, chooses).execute(S.START)


@way
def a_split_of_what_is_no_task(flow: Flow) -> Any:
    async def chooses() -> Any:
        return TaskResult.Split(secrets(), JoinConfig(JoinStrategy.All, S.DONE))

    return flow.register(S.START, chooses).execute(S.START)


@way
def a_node(flow: Flow) -> Any:
    class Phases(Node[Any, Any, Any]):
        async def prep(self, store: Any) -> Any:
            return Secret()

        async def exec(self, value: Any) -> Any:
            return CANARY

        async def post(self, store: Any, value: Any) -> Any:
            raise Boom

    return flow.register(S.START, Phases()).execute(S.START)


@way
def a_value_of_another_type(flow: Flow) -> Any:
    async def asks(store: MemoryStore) -> Any:
        return store.get("key 2", int)

    return flow.register(S.START, asks).execute(S.START)


@way
def a_key_that_is_not_there(flow: Flow) -> Any:
    async def asks(store: MemoryStore) -> Any:
        return store["no such key"]

    return flow.register(S.START, asks).execute(S.START)


@way
def an_append_to_what_is_no_list(flow: Flow) -> Any:
    async def appends(store: MemoryStore) -> Any:
        store.append("key 0", Secret())

    return flow.register(S.START, appends).execute(S.START)


@way
def an_update_that_fails(flow: Flow) -> Any:
    async def updates(store: MemoryStore) -> Any:
        def fails(value: Any) -> Any:
            raise Boom

        store.update("key 0", fails)

    return flow.register(S.START, updates).execute(S.START)


@way
def a_bare_yield_of_a_value(flow: Flow) -> Any:
    class Yields:
        def __await__(self) -> Any:
            yield object()

    async def branch(item: Any) -> Any:
        await Yields()

    return a_map(flow, branch).execute(S.START)


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("introspect", [False, True], ids=["", "introspect"])
@pytest.mark.parametrize("name", WAYS)
async def test_whatever_becomes_of_a_run(
    engine: str,
    name: str,
    introspect: bool,
    debug: bool,
    capsys: pytest.CaptureFixture[str],
    tried: Callable[..., None],
) -> None:
    said = Said()
    flow = has_secrets(engine, introspect=introspect)
    observer = Observer()
    flow.add_observer(observer)
    flow.add_observer(Raises())
    loop = asyncio.get_running_loop()
    loop.set_debug(debug)
    loop.set_exception_handler(lambda _, context: said.add("loop", context["message"]))
    VARIABLE.set(Secret())
    report: Any = None
    with warnings.catch_warnings(record=True) as warned, listening(said):
        warnings.simplefilter("always")
        try:
            report = await WAYS[name](flow)
        except CanoError as error:
            said.error(error)
            said.add("pickled", pickle.dumps(error, 0) if not hasattr(error, "result") else "")
        said.add("workflow", repr(flow))
        said.add("store", repr(flow.store))
        for picture in (flow.to_mermaid(report), flow.to_dot(report), flow._repr_html_()):
            said.add("picture", picture)
        if report is not None:
            said.add("report", repr(report))
            for split in report.splits:
                look_at(said, split)
        for event in observer.events:
            said.add(f"event {event.kind}", repr(event))
    loop.set_exception_handler(None)
    for warning in warned:
        said.add("warning", warning.message)
    out = capsys.readouterr()
    said.add("printed", out.out + out.err)
    assert said.told() == []
    tried(texts_searched=len(said), runs=1)


class Raises:
    """An observer that has seen the secret, and fails."""

    def on_branch_success(self, event: Any) -> None:
        raise Boom

    def on_task_failure(self, event: Any) -> None:
        raise Boom


def look_at(said: Said, split: SplitResult[Any]) -> None:
    said.add("split", repr(split))
    for row in (*split.successes, *split.errors):
        said.add("row", repr(row))


# --- without a workflow, and the things that are no run -------------------------------------------------------------


async def test_without_a_workflow(engine: str) -> None:
    said = Said()
    with listening(said):
        for fn in (returns_its_item, fails_on_its_item, hangs_on_its_item):
            try:
                look_at(said, await fan_out(fn, secrets(), timeout=1, engine=engine))
            except CanoError as error:
                said.error(error)
            try:
                async for row in as_completed(fn, secrets(), timeout=1, engine=engine):
                    said.add("row", repr(row))
            except CanoError as error:
                said.error(error)
    assert len(said) > 50
    assert said.told() == []


async def test_a_branch_and_its_pause_say_nothing(engine: str) -> None:
    said = Said()

    async def branch(item: Any) -> Any:
        task: Any = asyncio.current_task()
        said.add("branch", repr(task))
        asyncio.get_running_loop().call_soon(lambda: said.add("pause", repr(task._fut_waiter)))
        await cano.sleep(1, Secret())
        task.add_done_callback(lambda _: said.add("ended branch", repr(task)))
        return item

    await fan_out(branch, secrets(), engine=engine)
    await asyncio.sleep(1)
    assert len(said) == 3 * len(secrets())
    assert said.told() == []


def test_what_is_refused_is_not_shown(engine: str) -> None:
    """Arguments that are no names and no numbers are named by their type."""
    said = Said()
    flow: Flow = Workflow(engine=engine)
    refused: list[Callable[[], Any]] = [
        lambda: flow.register(S.START, Secret()),  # type: ignore[arg-type]
        lambda: flow.register(S.START, to(S.DONE), retry=Secret()),  # type: ignore[arg-type]
        lambda: flow.register(S.START, to(S.DONE), attempt_timeout=Secret()),  # type: ignore[arg-type]
        lambda: flow.register_map(S.START, returns_its_item, Secret(), join()),  # type: ignore[arg-type]
        lambda: flow.register_split(S.START, [Secret()], join()),  # type: ignore[list-item]
        lambda: JoinConfig(JoinStrategy.All, S.DONE, timeout=Secret()),  # type: ignore[arg-type]
        lambda: JoinConfig(JoinStrategy.All, S.DONE, bulkhead=Secret()),  # type: ignore[arg-type]
        lambda: JoinStrategy.Quorum(Secret()),  # type: ignore[arg-type]
        lambda: JoinStrategy.Custom(Secret()),  # type: ignore[arg-type]
        lambda: Retry.fixed(Secret(), 1),  # type: ignore[arg-type]
        lambda: flow.add_observer(Secret()),
        lambda: flow.store.get("key", Secret()),
        lambda: flow.store.put(Secret(), 1),  # type: ignore[arg-type]
        lambda: cano.set_thread_limit(Secret()),  # type: ignore[arg-type]
        lambda: Workflow(engine=Secret()),  # type: ignore[arg-type]
    ]
    for number, call in enumerate(refused):
        try:
            call()
        except (CanoError, TypeError, ValueError) as error:
            said.error(error)
        else:
            raise AssertionError(f"nothing was refused: {number}")
    assert said.told() == []


def test_the_canary_would_be_found() -> None:
    """Each way of looking sees it, where it is."""
    said = Said()
    try:
        try:
            raise ValueError(CANARY)
        except ValueError as error:
            raise cano.TaskError("failed") from error
    except cano.TaskError as error:
        said.error(error)
    assert [text.split(":")[0] for text in said.told()] == [
        "traceback of TaskError",
        "str of ValueError",
        "repr of ValueError",
    ]
    said = Said()
    with listening(said):
        __import__("logging").getLogger("cano").warning("value %s", Secret())
    assert len(said.told()) == 1
