"""What works inside an `asyncio.Task` works inside a branch: its interface, its names, its cancellation.

Three branches at once, so that they can get in each other's way; each scenario runs in branches of the engine and in
real tasks, and plain asyncio says what is right. On each loop a user may have.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import sys
import threading
import weakref
from typing import Any

import pytest

from cano import JoinError, JoinStrategy, fan_out, sleep

pytestmark = [pytest.mark.fault("libraries"), pytest.mark.every_loop]

# --- the branch itself ---


async def test_current_task_is_one_object_and_ones_own(three):
    seen: list[Any] = []

    async def scenario(item: int) -> bool:
        task = asyncio.current_task()
        seen.append(task)
        await asyncio.sleep(1)
        same = asyncio.current_task() is task
        await asyncio.sleep(0)
        async with asyncio.timeout(9):
            await sleep(1)
        return same and asyncio.current_task() is task and task is not None and not task.done()

    outer = asyncio.current_task()
    assert await three(scenario) == [True] * 3
    assert asyncio.current_task() is outer
    assert len({id(task) for task in seen} | {id(outer)}) == 4


async def test_each_branch_is_a_task_of_its_own_even_if_it_never_suspends(three):
    seen: list[Any] = []

    async def scenario(item: int) -> Any:
        seen.append(asyncio.current_task())
        return None

    await three(scenario)
    assert len({id(task) for task in seen}) == 3
    assert all(task.done() for task in seen)


async def test_the_interface_of_a_task(three):
    async def scenario(item: int) -> bool:
        task = asyncio.current_task()
        assert task is not None
        assert task.get_loop() is asyncio.get_running_loop()
        assert inspect.iscoroutine(task.get_coro())
        assert task.get_coro().cr_code is scenario.__code__  # type: ignore[union-attr]
        assert not task.done()
        assert not task.cancelled()
        with pytest.raises(asyncio.InvalidStateError):
            task.result()
        with pytest.raises(asyncio.InvalidStateError):
            task.exception()
        assert task.cancelling() == 0
        assert asyncio.isfuture(task)
        assert hash(task) == hash(task)
        assert isinstance(repr(task), str)
        assert task.get_stack()
        task.set_name(f"mine {item}")
        await asyncio.sleep(1)
        return task.get_name() == f"mine {item}"

    assert await three(scenario) == [True] * 3


async def test_names_are_told_before_and_after_the_end(three):
    tasks: list[Any] = []

    async def scenario(item: int) -> str:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await asyncio.sleep(1)
        return task.get_name()

    names = await three(scenario)
    assert len(set(names)) == 3
    assert [task.get_name() for task in tasks] == names


async def test_it_takes_attributes(three):
    async def scenario(item: int) -> Any:
        task: Any = asyncio.current_task()
        task.request_id = item
        await asyncio.sleep(1)
        del task
        task = asyncio.current_task()
        seen = [task.request_id, hasattr(task, "other")]
        del task.request_id
        with pytest.raises(AttributeError):
            del task.request_id
        with pytest.raises(AttributeError):
            del task.cancel
        return [*seen, hasattr(task, "request_id")]

    assert await three(scenario) == [[item, False, False] for item in range(3)]


@pytest.mark.parametrize("why", ["the join", "its limit"])
async def test_who_cancels_it_calls_the_method_that_a_library_put_there(engine, why):
    """As aiotools' `TaskScope` does."""
    log: list[str] = []

    async def branch(item: int) -> None:
        if item == 0:
            await asyncio.sleep(1)
            return
        task: Any = asyncio.current_task()
        cancel = task.cancel

        def shielded(msg: Any = None) -> bool:
            log.append(why)
            return cancel(msg) is True

        task.cancel = shielded
        await asyncio.sleep(99)

    if why == "the join":
        await fan_out(branch, range(2), strategy=JoinStrategy.Any, engine=engine)
    else:
        with pytest.raises(JoinError):
            await fan_out(branch, range(2), attempt_timeout=2, engine=engine)
    assert log == [why]


@pytest.mark.alone
async def test_its_attributes_end_with_it(engine):
    """Also those through which it has itself."""
    gone: list[Any] = []

    class Thing:
        pass

    async def branch(item: int) -> None:
        task: Any = asyncio.current_task()
        task.thing, task.itself = Thing(), task
        gone.append(weakref.ref(task.thing))
        del task
        await sleep(1)
        gc.collect()  # while it waits, and only the split has it
        assert gone[item]() is not None

    await fan_out(branch, range(2), engine=engine)
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


async def test_done_callbacks(three):
    log: list[Any] = []
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def ended(task: Any) -> None:
        log.append((task.result(), task.done(), task.cancelled(), task.exception(), variable.get()))

    def removed(task: Any) -> None:
        raise AssertionError

    async def scenario(item: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        context = contextvars.copy_context()
        context.run(variable.set, f"callback {item}")
        task.add_done_callback(ended, context=context)
        task.add_done_callback(removed)
        task.add_done_callback(removed)
        assert task.remove_done_callback(removed) == 2
        await asyncio.sleep(item)
        return item

    await three(scenario)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == [(item, True, False, None, f"callback {item}") for item in range(3)]


async def test_others_wait_for_a_branch(engine):
    branches: list[Any] = []
    answers: dict[str, Any] = {}

    async def watch() -> None:
        await asyncio.sleep(0.5)
        answers["wait"] = await asyncio.wait(branches)
        answers["gather"] = await asyncio.gather(*branches, return_exceptions=True)
        answers["shield"] = await asyncio.shield(branches[0])
        answers["await"] = await branches[0]
        answers["wait_for"] = await asyncio.wait_for(branches[0], 1)

    async def scenario(item: int) -> int:
        branches.append(asyncio.current_task())
        await asyncio.sleep(1 + item)
        if item == 2:
            raise ValueError(item)
        return item

    watching = asyncio.create_task(watch())
    with pytest.raises(JoinError):
        await fan_out(scenario, range(3), fail_fast=False, engine=engine)
    await watching
    done, pending = answers["wait"]
    assert (done, pending) == (set(branches), set())
    assert answers["gather"][:2] == [0, 1]
    assert isinstance(answers["gather"][2], ValueError)
    assert answers["shield"] == answers["await"] == answers["wait_for"] == 0


async def test_branches_wait_for_each_other(engine):
    branches: dict[int, Any] = {}

    async def scenario(item: int) -> int:
        branches[item] = asyncio.current_task()
        await asyncio.sleep(0)
        if item:
            return item + await branches[item - 1]
        await asyncio.sleep(1)
        return 100

    assert (await fan_out(scenario, range(3), engine=engine)).outputs() == [100, 101, 103]


async def test_a_branch_cannot_wait_for_itself(three):
    async def scenario(item: int) -> str:
        task = asyncio.current_task()
        assert task is not None
        try:
            await task
        except RuntimeError as error:
            return str(error)[:27]
        return "it could"

    assert await three(scenario) == ["Task cannot await on itself"] * 3


# --- cancelling oneself ---


async def test_cancelling_oneself_with_a_message_and_taking_it_back(three):
    async def scenario(item: int) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel(f"message {item}")
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError as error:
            left = task.uncancel()
            await asyncio.sleep(1)
            return error.args, left, task.cancelling()
        return None

    assert await three(scenario) == [((f"message {item}",), 0, 0) for item in range(3)]


async def test_cancelling_twice_counts_twice(three):
    async def scenario(item: int) -> Any:
        task = asyncio.current_task()
        assert task is not None
        assert task.cancel()
        assert task.cancel()
        counts = [task.cancelling()]
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            counts += [task.uncancel(), task.uncancel(), task.uncancel()]
        await asyncio.sleep(0)
        return counts

    assert await three(scenario) == [[2, 1, 0, 0]] * 3


async def test_a_cancellation_reaches_what_is_awaited(three):
    async def scenario(item: int) -> Any:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(1 + item, task.cancel, "from outside")
        try:
            await future
        except asyncio.CancelledError as error:
            task.uncancel()
            return error.args, future.cancelled()
        return None

    assert await three(scenario) == [(("from outside",), True)] * 3


async def test_a_cancellation_while_it_is_about_to_go_on(three):
    """The future is done, the wake-up is scheduled, and then comes the cancellation."""

    async def scenario(item: int) -> str:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def both() -> None:
            future.set_result("value")
            task.cancel()

        loop.call_later(1, both)
        try:
            await future
        except asyncio.CancelledError:
            task.uncancel()
            return "cancelled"
        return "value"

    assert await three(scenario) == ["cancelled"] * 3


async def test_a_cancellation_during_a_bare_yield(three):
    async def scenario(item: int) -> str:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            task.uncancel()
            return "cancelled"
        return "not"

    assert await three(scenario) == ["cancelled"] * 3


# --- exceptions ---


async def test_the_exception_that_is_handled_is_ones_own(three):
    async def scenario(item: int) -> bool:
        assert sys.exception() is None
        try:
            raise ValueError(item)
        except ValueError as error:
            await asyncio.sleep(1)
            same = sys.exception() is error
            await sleep(1)
            same = same and sys.exception() is error
        return same and sys.exception() is None

    assert await three(scenario) == [True] * 3


async def test_a_bare_raise_after_a_suspension(three):
    async def scenario(item: int) -> int:
        try:
            try:
                raise ValueError(item)
            except ValueError:
                await asyncio.sleep(1)
                raise
        except ValueError as error:
            return error.args[0]

    assert await three(scenario) == [0, 1, 2]


# --- asked by another thread ---


@pytest.mark.real_time
async def test_another_thread_has_it_cancelled(three):
    """What any thread may do with a task: ask for its loop and whether it is done, and have the loop cancel it."""

    def cancel(task: asyncio.Task[Any], answers: list[Any]) -> None:
        answers += [task.done(), task.cancelled(), "pending" in repr(task) or "another thread" in repr(task)]
        if not task.done():
            task.get_loop().call_soon_threadsafe(task.cancel, "from afar")

    async def scenario(item: int) -> Any:
        task = asyncio.current_task()
        assert task is not None
        answers: list[Any] = []
        thread = threading.Thread(target=cancel, args=(task, answers))
        thread.start()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as error:
            task.uncancel()
            thread.join()
            return [*answers, *error.args]

    assert await three(scenario) == [[False, False, True, "from afar"]] * 3


@pytest.mark.real_time
async def test_another_thread_sees_what_was_set_on_it(three):
    async def scenario(item: int) -> Any:
        task: Any = asyncio.current_task()
        task.request_id = item
        task.cancel = lambda: f"cancel {item}"
        answers: list[Any] = []

        def ask() -> None:
            task.answered = True
            answers.append((task.request_id, task.cancel()))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        del task.cancel
        return [*answers, task.answered]

    assert await three(scenario) == [[(item, f"cancel {item}"), True] for item in range(3)]


@pytest.mark.real_time
async def test_another_thread_sees_that_it_is_done(three):
    tasks: list[Any] = []

    async def scenario(item: int) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)

    await three(scenario)
    answers = await asyncio.to_thread(lambda: [(task.done(), task.cancelled()) for task in tasks])
    assert answers == [(True, False)] * 3
