"""`cano.sleep`: like `asyncio.sleep`, wherever it is awaited; in a branch on the engine's own timers."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from datetime import timedelta
from typing import Any

import pytest

from cano import ConfigurationError, JoinConfig, JoinError, JoinStrategy, Workflow, fan_out, sleep


@pytest.fixture(params=["branch", "task", "state", "real task"])
def place(request, engine):
    """Run a coroutine function in a branch, in a task, in a state's task, and in a branch that is a real task."""

    async def in_branch(function: Any) -> Any:
        (value,) = (await fan_out(lambda _: function(), [0], inline=True, engine=engine)).outputs()
        return value

    async def in_task(function: Any) -> Any:
        async def body() -> Any:
            return await function()

        return await asyncio.create_task(body())

    async def in_state(function: Any) -> Any:
        box: list[Any] = []

        async def work() -> str:
            box.append(await function())
            return "end"

        await Workflow(engine=engine).register("work", work).add_exit_state("end").orchestrate("work")
        return box[0]

    async def in_real_task(function: Any) -> Any:
        workflow: Workflow[str] = Workflow(engine=engine, introspect=True).add_exit_state("end")
        workflow.register_split("fan", [function], JoinConfig(JoinStrategy.All, "end", store_partial_results=True))
        await workflow.orchestrate("fan")
        (value,) = workflow.store.get("split_results").outputs()
        return value

    return {"branch": in_branch, "task": in_task, "state": in_state, "real task": in_real_task}[request.param]


async def test_it_sleeps(place):
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await place(lambda: sleep(2.5)) is None
    assert loop.time() - began == 2.5


async def test_it_gives_its_result(place):
    assert await place(lambda: sleep(1, "result")) == "result"
    assert await place(lambda: sleep(0, "result")) == "result"


async def test_seconds_may_be_a_timedelta(place):
    loop = asyncio.get_running_loop()
    began = loop.time()
    await place(lambda: sleep(timedelta(seconds=2)))
    assert loop.time() - began == 2


async def test_zero_gives_the_loop_one_turn(place):
    log: list[str] = []

    async def body() -> None:
        asyncio.get_running_loop().call_soon(log.append, "other")
        await sleep(0)
        log.append("back")

    await place(body)
    assert log == ["other", "back"]


@pytest.mark.parametrize("seconds", [-1, float("nan"), True, "1", None])
def test_what_is_no_duration_is_refused(seconds):
    with pytest.raises(ConfigurationError):
        sleep(seconds)


async def test_a_timeout_ends_it(place):
    loop = asyncio.get_running_loop()

    async def body() -> float:
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await sleep(99)
        await sleep(1)
        return loop.time() - began

    assert await place(body) == 3


async def test_it_can_be_cancelled(place):
    loop = asyncio.get_running_loop()

    async def body() -> Any:
        task = asyncio.current_task()
        assert task is not None
        loop.call_later(1, task.cancel, "enough")
        try:
            await sleep(99)
        except asyncio.CancelledError as error:
            task.uncancel()
            return error.args
        return None

    assert await place(body) == ("enough",)


async def test_cancelled_before_it_begins(place):
    async def body() -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await sleep(99)
        except asyncio.CancelledError:
            task.uncancel()
            return True
        return False

    began = asyncio.get_running_loop().time()
    assert await place(body)
    assert asyncio.get_running_loop().time() == began


async def test_in_a_helper_task_of_a_branch(engine):
    async def branch(item: int) -> int:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(body(item))
        return await task

    async def body(item: int) -> int:
        return await sleep(item, item)

    assert (await fan_out(branch, [1, 2], engine=engine)).outputs() == [1, 2]


async def test_wrapped_by_wait_for_and_gather(place):
    async def body() -> Any:
        # Both make a task of their own for it.
        one = await asyncio.wait_for(asyncio.ensure_future(awaited(1)), 9)
        return one, await asyncio.gather(awaited(2), awaited(3))

    async def awaited(item: int) -> int:
        return await sleep(item, item)

    assert await place(body) == (1, [2, 3])


async def test_many_sleepers_wake_in_order_of_their_times(engine):
    woken: list[float] = []

    async def branch(item: float) -> None:
        await sleep(item)
        woken.append(item)

    times = [(7 * index) % 101 + 0.5 for index in range(101)]
    await fan_out(branch, times, engine=engine)
    assert woken == sorted(times)


async def test_sleepers_of_one_moment_wake_in_the_order_they_went_to_sleep(engine):
    woken: list[int] = []

    async def branch(item: int) -> None:
        await sleep(1)
        woken.append(item)

    await fan_out(branch, range(20), engine=engine)
    assert woken == list(range(20))


async def test_losers_that_sleep_are_cancelled(engine):
    log: list[int] = []

    async def branch(item: int) -> int:
        try:
            await sleep(item)
        except asyncio.CancelledError:
            log.append(item)
            await sleep(1)
            raise
        return item

    result = await fan_out(branch, [1, 50, 99], strategy=JoinStrategy.Any, engine=engine)
    assert (result.outputs(), log) == ([1], [50, 99])


async def test_an_attempt_timeout_ends_it(engine):
    with pytest.raises(JoinError):
        await fan_out(sleep, [99], attempt_timeout=1, engine=engine)


async def test_it_may_be_awaited_twice_but_sleeps_each_time(engine):
    """`asyncio.sleep` gives a coroutine, to be awaited once; this one is only as strict as it has to be."""

    async def branch(_: int) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await sleep(1)
        await sleep(1)
        return loop.time() - began

    assert (await fan_out(branch, [0], engine=engine)).outputs() == [2]


# --- handed to what takes a coroutine ---


async def test_to_gather_and_wait_for(place):
    async def body() -> Any:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleep(99), 1)
        return await asyncio.gather(sleep(2, "a"), sleep(0, "b"), sleep(1)), await asyncio.wait_for(sleep(1, "c"), 9)

    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await place(body) == (["a", "b", None], "c")
    assert loop.time() - began == 4


async def test_to_a_task_of_its_own(place):
    async def body() -> Any:
        task = asyncio.create_task(sleep(1, "a"))
        assert "cano.sleep" in repr(task)
        async with asyncio.TaskGroup() as group:
            child = group.create_task(sleep(2, "b"))
            nothing = group.create_task(sleep(0))
        return await asyncio.shield(task), child.result(), nothing.result()

    assert await place(body) == ("a", "b", None)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_task_of_its_own_that_is_cancelled(place, begun):
    async def body() -> Any:
        task = asyncio.create_task(sleep(99))
        if begun:
            await asyncio.sleep(1)
        assert (inspect.getcoroutinestate(task.get_coro()) == "CORO_SUSPENDED") is begun  # type: ignore[arg-type]
        assert task.get_stack() == []
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert inspect.getcoroutinestate(task.get_coro()) == "CORO_CLOSED"  # type: ignore[arg-type]
        return task.cancelled()

    began = asyncio.get_running_loop().time()
    assert await place(body)
    assert asyncio.get_running_loop().time() - began == begun


async def test_in_an_anyio_task_group(place):
    anyio = pytest.importorskip("anyio")

    async def body() -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(sleep, 1)
            group.start_soon(sleep, 99)
            await sleep(2)
            group.cancel_scope.cancel()
        return asyncio.get_running_loop().time()

    began = asyncio.get_running_loop().time()
    assert await place(body) - began == 2


def test_as_the_main_coroutine():
    assert asyncio.run(sleep(0.001, "done")) == "done"


async def test_closed_before_and_after_it_began():
    fresh, begun = sleep(1), sleep(1)
    fresh.close()
    begun.send(None)
    begun.close()
    with pytest.raises(KeyError):
        sleep(1).throw(KeyError())


async def test_one_that_two_branches_wait_for(engine):
    """Each for as long; with two coroutines asyncio would refuse it."""
    shared = sleep(2, "value")

    async def branch(item: int) -> Any:
        await sleep(item)
        return await shared, asyncio.get_running_loop().time()

    began = asyncio.get_running_loop().time()
    outputs = (await fan_out(branch, [0, 1], engine=engine)).outputs()
    assert [(value, ended - began) for value, ended in outputs] == [("value", 2), ("value", 3)]


async def test_one_that_a_branch_and_a_task_wait_for(engine):
    shared = sleep(2, "value")

    async def branch(item: int) -> Any:
        value = await (asyncio.create_task(shared) if item else shared)  # type: ignore[arg-type]
        return value, asyncio.get_running_loop().time()

    began = asyncio.get_running_loop().time()
    outputs = (await fan_out(branch, [0, 1], engine=engine)).outputs()
    assert [(value, ended - began) for value, ended in outputs] == [("value", 2), ("value", 2)]


@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_task_cannot_run_one_that_another_has_run(seconds):
    """As a coroutine: what it had to give is gone."""
    once = sleep(seconds, "value")
    assert await asyncio.create_task(once) == "value"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await asyncio.create_task(once)


def test_a_coroutine_that_sleeps_is_closed_by_another_thread(engine):
    """Whoever lets go of it closes it, the collector too, wherever that is."""
    log: list[Any] = []

    async def branch(_: int) -> None:
        try:
            await sleep(99)
        except BaseException as error:
            log.append((type(error), str(error)))
            raise

    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(fan_out(branch, [0], engine=engine))
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    held = [task]
    del task

    def let_go() -> None:
        held.clear()
        gc.collect()

    thread = threading.Thread(target=let_go)
    thread.start()
    thread.join()
    assert log == [(GeneratorExit, "")]
