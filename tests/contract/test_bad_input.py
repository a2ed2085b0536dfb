"""What mistakes get: an error where they are written, that says what was expected, what came, and what to try.

No mistake may hang, end the process, lose a result, or print a bare message of another language.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.contract.given import S, join, to

from cano import (
    CanoError,
    ConfigurationError,
    JoinConfig,
    JoinStrategy,
    MemoryStore,
    Node,
    Retry,
    Task,
    Workflow,
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
