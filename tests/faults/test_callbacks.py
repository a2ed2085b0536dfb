"""F2: whatever the user wrote raises, at its first, a middle and its last call. One error of the right kind, and nothing else."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join, to
from tests.faults.points import Point

from cano import CanoError, JoinStrategy, JoinVerdict, MemoryStore, Node, Retry, Workflow, as_completed, fan_out
from cano.testing import VirtualTimeLoop

pytestmark = pytest.mark.fault("F2")


class Unspeakable(Exception):  # noqa: N818 - a short word
    def __str__(self) -> str:
        raise OSError

    __repr__ = __str__


class Unclassed(Exception):  # noqa: N818 - a short word
    """What asks `isinstance` of it, and gets no answer from its type, gets this."""

    @property
    def __class__(self) -> Any:
        raise OSError


class Base(BaseException):
    """No Exception."""


KINDS: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: Boom("text"),
    "BaseException": lambda: Base("text"),
    "StopIteration": lambda: StopIteration(5),
    "CancelledError": lambda: asyncio.CancelledError("text"),
    "GeneratorExit": GeneratorExit,
    "unspeakable": Unspeakable,
    "unclassed": Unclassed,
}
Site = Callable[[Workflow[Any], Point, str], Awaitable[Any]]
SITES: dict[str, Site] = {}


def site(function: Site) -> Site:
    SITES[function.__name__] = function
    return function


async def one(item: Any) -> int:
    return 1


def chain(workflow: Workflow[Any], step: Callable[..., Any], **options: Any) -> Awaitable[Any]:
    """Three states, each with what `step` makes of the next one."""
    for state, following in ((S.START, S.FAN), (S.FAN, S.WORK), (S.WORK, S.DONE)):
        workflow.register(state, step(following), **options)
    return workflow.orchestrate(S.START)


@site
async def task(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    def step(following: S) -> Any:
        async def run() -> S:
            await asyncio.sleep(0)
            point()
            return following

        return run

    return await chain(workflow, step)


@site
async def task_on_a_thread(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    return await chain(workflow, lambda following: lambda: (point(), following)[1])


@site
async def inline_task(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    return await chain(workflow, lambda following: lambda: (point(), following)[1], inline=True)


def node_with(phase: str) -> Site:
    async def run(workflow: Workflow[Any], point: Point, engine: str) -> Any:
        def step(following: S) -> Any:
            class Steps(Node):  # type: ignore[type-arg]
                def prep(self, store: Any) -> None:
                    return point() if phase == "prep" else None

                def exec(self, value: Any) -> None:
                    return point() if phase == "exec" else None

                def post(self, store: Any, value: Any) -> S:
                    if phase == "post":
                        point()
                    return following

            return Steps()

        return await chain(workflow, step, inline=True)

    return run


SITES.update({f"node_{phase}": node_with(phase) for phase in ("prep", "exec", "post")})


@site
async def branch(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    async def run(item: int) -> int:
        await asyncio.sleep(item)
        point()
        return item

    workflow.register_map(S.START, run, range(5), join())
    return await workflow.orchestrate(S.START)


@site
async def first_step_of_a_branch(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    async def run(item: int) -> int:
        point()
        await asyncio.sleep(item)
        return item

    workflow.register_map(S.START, run, range(5), join())
    return await workflow.orchestrate(S.START)


@site
async def inline_branch(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    workflow.register_map(S.START, lambda item: point(), range(5), join(), inline=True)
    return await workflow.orchestrate(S.START)


@site
async def branch_on_a_thread(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    workflow.register_map(S.START, lambda item: point(), range(5), join(bulkhead=1))
    return await workflow.orchestrate(S.START)


@site
async def item_of_a_source(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    class Source:
        def __init__(self) -> None:
            self.drawn = 0

        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            point()
            self.drawn += 1
            if self.drawn > 4:
                raise StopIteration
            return self.drawn

    workflow.register_map(S.START, one, lambda: Source(), join(bulkhead=2))
    return await workflow.orchestrate(S.START)


@site
async def item_of_an_async_source(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    async def source() -> Any:
        for number in range(4):
            await asyncio.sleep(0)
            point()
            yield number

    workflow.register_map(S.START, one, source, join(bulkhead=2))
    return await workflow.orchestrate(S.START)


def _failing(point: Point) -> Any:
    async def run(item: int) -> int:
        await asyncio.sleep(item)
        raise Boom

    def wanted(error: BaseException) -> bool:
        point()
        return True

    return run, Retry.fixed(2, 1, retry_on=wanted)


@site
async def filter_of_retries(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    run, retry = _failing(point)
    workflow.register(S.START, lambda: run(1), inline=True, retry=retry)
    try:
        return await workflow.orchestrate(S.START)
    except CanoError as error:
        if type(error.__cause__) is Boom and not error.__cause__.args:
            return S.DONE  # out of retries, as it is without the fault
        raise


@site
async def filter_of_a_branchs_retries(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    run, retry = _failing(point)
    workflow.register_map(S.START, run, range(3), join(strategy=JoinStrategy.PartialTimeout, timeout=100), retry=retry)
    return await workflow.orchestrate(S.START)


@site
async def strategy(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    def decide(progress: Any) -> JoinVerdict:
        point()
        return JoinVerdict.WAIT if progress.pending else JoinVerdict.PROCEED

    async def run(item: int) -> None:
        await asyncio.sleep(item)

    workflow.register_map(S.START, run, range(5), join(strategy=JoinStrategy.Custom(decide)))
    return await workflow.orchestrate(S.START)


@site
async def function_of_an_update(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    def step(following: S) -> Any:
        def run(store: MemoryStore) -> S:
            store.update("key", lambda value: (point(), value + 1)[1])
            return following

        return run

    workflow.store.put("key", 1)
    return await chain(workflow, step, inline=True)


@site
async def words_of_a_branchs_task(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    class Configured:
        @property
        def config(self) -> None:
            point()

        async def run(self) -> int:
            return 1

    workflow.register_split(
        S.START, lambda: (Configured() for _ in range(3)), join(bulkhead=1), retry=Retry.fixed(2, 1)
    )
    return await workflow.orchestrate(S.START)


@site
async def put_of_a_store(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    class Store:
        def put(self, key: str, value: Any) -> None:
            point()

    for state, following in ((S.START, S.FAN), (S.FAN, S.WORK), (S.WORK, S.DONE)):
        workflow.register_map(state, one, range(2), join(following, store_partial_results=True))
    return await workflow.orchestrate(S.START, store=Store())


class State:
    """A state that finds out whether it is asked to compare itself."""

    def __init__(self, number: int, point: Point, method: str) -> None:
        self.number, self.point, self.method = number, point, method

    def __eq__(self, other: object) -> bool:
        if self.method == "eq":
            self.point()
        return isinstance(other, State) and self.number == other.number

    def __hash__(self) -> int:
        if self.method == "hash":
            self.point()
        return self.number

    def __repr__(self) -> str:
        raise AssertionError("no run asks for it")


def state_whose(method: str) -> Site:
    async def run(workflow: Workflow[Any], point: Point, engine: str) -> Any:
        made = Workflow[Any](engine=engine)
        for number in range(3):
            made.register(State(number, point, method), to(State(number + 1, point, method)))
        made.add_exit_state(State(3, point, method))
        await made.orchestrate(State(0, point, method))
        return S.DONE

    return run


SITES.update({f"state_{method}": state_whose(method) for method in ("eq", "hash")})


@site
async def branch_of_a_fan_out(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    async def run(item: int) -> int:
        await asyncio.sleep(item)
        point()
        return item

    await fan_out(run, range(5), strategy=JoinStrategy.Quorum(5), engine=engine)
    return S.DONE


@site
async def branch_of_as_completed(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    async def run(item: int) -> int:
        await asyncio.sleep(item)
        point()
        return item

    errors = []
    async with aclosing(as_completed(run, range(5), engine=engine)) as rows:
        async for row in rows:
            errors += [row.error] if row.error is not None else []
    if errors:
        raise errors[0]
    return S.DONE


@site
async def observer(workflow: Workflow[Any], point: Point, engine: str) -> Any:
    class Hostile:
        def on_branch_success(self, event: Any) -> None:
            point()

    workflow.register_map(S.START, one, range(5), join()).add_observer(Hostile())
    return await workflow.orchestrate(S.START)


# What changes nothing, or not the result.
HARMLESS = {"observer", "filter_of_a_branchs_retries"}
ENDS = {"StopIteration": {"item_of_a_source"}}  # which is how a source ends


async def _attempt(name: str, engine: str, point: Point) -> tuple[Any, Workflow[Any]]:
    workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    seen = Observer()
    workflow.add_observer(seen)
    outcome: Any
    try:
        outcome = await asyncio.get_running_loop().create_task(_await(SITES[name](workflow, point, engine)))
    except BaseException as error:
        outcome = error
    assert asyncio.all_tasks() == {asyncio.current_task()}
    if seen.events:
        assert seen.kinds[-1] == "workflow_end"
        assert seen.kinds.count("split_start") == seen.kinds.count("join")
    return outcome, workflow


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def holds(error: BaseException, raised: BaseException) -> bool:
    """Whether an error is, leads to, or contains another."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is raised:
            return True
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SITES)
def test_what_the_user_wrote_raises(engine: str, name: str, kind: str, tried: Callable[..., None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        unhandled: list[Any] = []
        runner.get_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        counted = Point()
        outcome, _ = runner.run(_attempt(name, engine, counted))
        assert outcome is S.DONE
        gc.collect()
        calls = counted.count
        assert calls >= 3
        for at in sorted({1, (calls + 1) // 2, calls}):
            raised = KINDS[kind]()

            def fail(raised: BaseException = raised) -> None:
                raise raised

            point = Point(at, fail)
            outcome, _ = runner.run(_attempt(name, engine, point))
            place = f"{name}, call {at} of {calls}"
            if name in HARMLESS or (name in ENDS.get(kind, ()) and outcome is S.DONE):
                assert outcome is S.DONE, place
            else:
                assert isinstance(outcome, BaseException), place
                # Python makes another one of a GeneratorExit, or of a StopIteration, on its way through a generator.
                remade = kind in ("GeneratorExit", "StopIteration")
                # What an asynchronous source raises goes through a task, which is then just cancelled.
                remade = remade or (kind == "CancelledError" and name == "item_of_an_async_source")
                assert remade or holds(outcome, raised), f"{place}: {outcome!r}"
                own = (CanoError, type(raised), asyncio.CancelledError if kind == "CancelledError" else CanoError)
                assert issubclass(type(outcome), own) or kind == "StopIteration", place
            tried(callbacks=1)
            outcome = None
            again, _ = runner.run(_attempt(name, engine, Point()))
            assert again is S.DONE
        gc.collect(0)
        assert unhandled == []


@pytest.mark.parametrize("retry_on", [None, Exception, lambda error: True], ids=["", "a class", "a function"])
@pytest.mark.parametrize("place", ["state", "branch"])
def test_an_exception_without_a_class_is_retried(
    engine: str, place: str, retry_on: Any, tried: Callable[..., None]
) -> None:
    calls: list[int] = []

    async def task() -> S:
        calls.append(1)
        if len(calls) < 3:
            raise Unclassed
        return S.DONE

    workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    retry = Retry.fixed(2, 1, retry_on=retry_on)
    if place == "state":
        workflow.register(S.START, task, retry=retry)
    else:
        workflow.register_split(S.START, [task], join(), retry=retry)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(workflow.orchestrate(S.START)) is S.DONE
    assert len(calls) == 3
    tried(callbacks=2)


def test_what_is_no_exception_and_has_no_class(engine: str, tried: Callable[..., None]) -> None:
    """It goes through, as it is, after the events that are due."""

    class UnclassedBase(BaseException):
        __class__ = vars(Unclassed)["__class__"]

    raised = UnclassedBase()

    async def task() -> S:
        raise raised

    seen = Observer()
    workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register(S.START, task).add_observer(seen)

    async def main() -> BaseException | None:
        try:
            await workflow.orchestrate(S.START)
        except BaseException as error:
            return error
        return None

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) is raised
    assert seen.kinds == ["workflow_start", "state_enter", "task_start", "task_failure", "state_exit", "workflow_end"]
    tried(callbacks=1)
