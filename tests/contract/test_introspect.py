"""`introspect=True`, and loops with a task factory: every branch is a real `asyncio.Task`."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from cano import (
    BranchCancelledError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    SplitTimeoutError,
    Workflow,
    fan_out,
)

pytestmark = pytest.mark.fault("libraries")


def split(engine: str, fn: Any, items: Any, *, introspect: bool = True, **options: Any) -> Workflow[str]:
    strategy = options.pop("strategy", JoinStrategy.All)
    branch = {key: options.pop(key) for key in ("retry", "attempt_timeout", "name") if key in options}
    workflow: Workflow[str] = Workflow(engine=engine, introspect=introspect).add_exit_state("end")
    join = JoinConfig(strategy, "end", store_partial_results=True, **options)
    return workflow.register_map("fan", fn, items, join, **branch)


async def outputs(workflow: Workflow[str]) -> list[Any]:
    await workflow.orchestrate("fan")
    return workflow.store.get("split_results").outputs()


async def echo(item: int) -> int:
    await asyncio.sleep(item)
    return item


async def test_branches_are_instances_of_task(engine):
    async def branch(item: int) -> bool:
        before = asyncio.current_task()
        await asyncio.sleep(item)
        return isinstance(before, asyncio.Task) and asyncio.current_task() is before

    assert await outputs(split(engine, branch, [0, 1, 2])) == [True] * 3


async def test_branches_are_in_all_tasks(engine):
    async def branch(_: int) -> int:
        await asyncio.sleep(1)
        return len(asyncio.all_tasks())

    run = asyncio.current_task()
    assert run is not None
    # The branches and the run's own task.
    assert await outputs(split(engine, branch, range(3))) == [4, 3, 2]
    assert asyncio.all_tasks() == {run}


async def test_without_it_all_tasks_lists_the_runs_own_task(engine):
    async def branch(_: int) -> set[Any]:
        await asyncio.sleep(1)
        return asyncio.all_tasks()

    (tasks,) = await outputs(split(engine, branch, [0], introspect=False))
    assert tasks == {asyncio.current_task()}


async def test_names(engine):
    async def branch(_: int) -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    assert await outputs(split(engine, branch, range(2), name="work")) == ["cano-work-0", "cano-work-1"]


@pytest.mark.parametrize("introspect", [True, False])
async def test_a_task_factory_creates_them(engine, introspect):
    made: list[str] = []
    loop = asyncio.get_running_loop()

    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        assert await outputs(split(engine, echo, [1, 2], introspect=introspect)) == [1, 2]
        assert (await fan_out(echo, [1, 2], engine=engine)).outputs() == [1, 2]
    finally:
        loop.set_task_factory(None)
    assert made == ["echo"] * 4


async def test_a_task_factory_of_the_old_kind(engine):
    """Before 3.11 a factory took no keywords."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
    try:
        assert await outputs(split(engine, echo, [1, 2])) == [1, 2]
    finally:
        loop.set_task_factory(None)


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="needs Python 3.12")
async def test_an_eager_task_factory(engine):
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)

    async def at_once(item: int) -> int:
        return item

    async def failing(item: int) -> int:
        if item == 1:
            raise ValueError(item)
        await asyncio.sleep(99)
        return item

    try:
        assert await outputs(split(engine, echo, [1, 2])) == [1, 2]
        assert await outputs(split(engine, at_once, [1, 2])) == [1, 2]
        with pytest.raises(JoinError):
            await outputs(split(engine, failing, [0, 1, 2]))
    finally:
        loop.set_task_factory(None)


# --- the rules of splits hold as without it ---


async def test_losers(engine):
    log: list[int] = []

    async def branch(item: int) -> int:
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            log.append(item)
            raise
        return item

    workflow = split(engine, branch, [1, 50, 99], strategy=JoinStrategy.Any)
    assert await outputs(workflow) == [1]
    assert log == [50, 99]
    assert workflow.store.get("split_results").cancelled == (1, 2)


async def test_failures_and_retries(engine):
    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        await asyncio.sleep(item)
        if tries.count(item) < 2:
            raise ValueError(item)
        return item

    assert await outputs(split(engine, branch, [1, 2], retry=Retry.fixed(1, 1))) == [1, 2]
    assert tries == [1, 2, 1, 2]
    with pytest.raises(JoinError) as caught:
        await outputs(split(engine, lambda item: echo(1 / item), [1, 0]))
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


async def test_timeouts(engine):
    with pytest.raises(SplitTimeoutError):
        await outputs(split(engine, echo, [1, 99], timeout=2))
    with pytest.raises(JoinError) as caught:
        await outputs(split(engine, echo, [1, 99], attempt_timeout=2))
    assert isinstance(caught.value.exceptions[0], TimeoutError)


async def test_a_bulkhead(engine):
    began = asyncio.get_running_loop().time()
    assert await outputs(split(engine, echo, [1, 2, 3], bulkhead=1)) == [1, 2, 3]
    assert asyncio.get_running_loop().time() - began == 6


async def test_cancelling_the_run(engine):
    log: list[int] = []

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(1 + item)
            log.append(item)

    task = asyncio.create_task(split(engine, branch, range(3)).orchestrate("fan"))
    await asyncio.sleep(1)
    task.cancel("enough")
    await asyncio.sleep(0.5)
    task.cancel("again")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("enough",)
    assert log == [0, 1, 2]


async def test_a_branch_that_is_cancelled_from_outside_has_failed(engine):
    async def branch(item: int) -> None:
        await asyncio.sleep(99)

    task = asyncio.create_task(split(engine, branch, range(2), name="work").orchestrate("fan"))
    await asyncio.sleep(1)
    (victim,) = [one for one in asyncio.all_tasks() if one.get_name() == "cano-work-1"]
    victim.cancel()
    with pytest.raises(JoinError) as caught:
        await task
    assert [type(error) for error in caught.value.exceptions] == [BranchCancelledError]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_goes_through_after_clean_up(engine, kind, late):
    log: list[int] = []

    async def branch(item: int) -> None:
        try:
            if late:
                await asyncio.sleep(0)
            if item == 1:
                raise kind
            await asyncio.sleep(99)
        finally:
            log.append(item)

    with pytest.raises(kind):
        asyncio.run(split(engine, branch, range(3)).orchestrate("fan"))
    # A task that is cancelled before its first step never runs at all.
    assert sorted(log) == ([0, 1, 2] if late else [0, 1])


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_context_variables_stay_in_their_branch(engine):
    async def branch(item: int) -> str:
        before = variable.get()
        variable.set(f"branch {item}")
        await asyncio.sleep(1)
        assert variable.get() == f"branch {item}"
        return before

    token = variable.set("caller")
    try:
        assert await outputs(split(engine, branch, range(3))) == ["caller"] * 3
        assert variable.get() == "caller"
    finally:
        variable.reset(token)


@pytest.mark.alone
async def test_no_exception_is_left_unretrieved(engine):
    """asyncio reports through the loop's handler what nobody looked at."""
    reports: list[Any] = []
    loop = asyncio.get_running_loop()
    handler: Callable[..., Any] = lambda loop, context: reports.append(context)  # noqa: E731
    loop.set_exception_handler(handler)

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(item)
        finally:
            raise OSError

    with pytest.raises(JoinError):
        await outputs(split(engine, branch, [1, 2, 3]))
    import gc

    gc.collect()
    assert reports == []
