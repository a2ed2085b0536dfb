"""What works inside an `asyncio.Task` works inside a branch. Three branches at once, so that they can get in each
other's way; each scenario runs in branches of the engine, and in real tasks, which say what is right.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from typing import Any

import pytest

from cano import JoinError, JoinStrategy, as_completed, fan_out, sleep

pytestmark = pytest.mark.fault("libraries")

Scenario = Any


def now() -> float:
    return asyncio.get_running_loop().time()


# --- timeouts ---


async def test_a_timeout_that_expires(three):
    async def scenario(item: int) -> str:
        try:
            async with asyncio.timeout(1 + item):
                await asyncio.sleep(99)
        except TimeoutError:
            await asyncio.sleep(1)
            task = asyncio.current_task()
            assert task is not None
            return f"timed out, {task.cancelling()}"
        return "not"

    assert await three(scenario) == ["timed out, 0"] * 3


async def test_a_timeout_that_does_not_expire(three):
    async def scenario(item: int) -> int:
        async with asyncio.timeout(50):
            await asyncio.sleep(1 + item)
        await asyncio.sleep(60)
        return item

    assert await three(scenario) == [0, 1, 2]


async def test_a_timeout_around_nothing(three):
    async def scenario(item: int) -> int:
        async with asyncio.timeout(1):
            pass
        async with asyncio.timeout(None):
            await asyncio.sleep(2)
        return item

    assert await three(scenario) == [0, 1, 2]


async def test_a_timeout_of_zero(three):
    async def scenario(item: int) -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(item)
        except TimeoutError:
            return "timed out"
        return "not"

    assert await three(scenario) == ["timed out"] * 3


async def test_nested_timeouts(three):
    async def scenario(item: int) -> str:
        try:
            async with asyncio.timeout(2):
                try:
                    async with asyncio.timeout(1 if item else 3):
                        await asyncio.sleep(99)
                except TimeoutError:
                    await asyncio.sleep(0.5)
                    return "inner"
        except TimeoutError:
            return "outer"
        return "none"

    assert await three(scenario) == ["outer", "inner", "inner"]


async def test_a_timeout_around_the_engines_own_sleep(three):
    async def scenario(item: int) -> float:
        began = now()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1 + item):
                await sleep(99)
        await sleep(1)
        return now() - began

    assert await three(scenario) == [2, 3, 4]


async def test_wait_for(three):
    async def scenario(item: int) -> Any:
        value = await asyncio.wait_for(asyncio.sleep(1, item), 5)
        try:
            await asyncio.wait_for(asyncio.sleep(99), 1)
        except TimeoutError:
            return value
        return None

    assert await three(scenario) == [0, 1, 2]


# --- groups and other tasks ---


async def test_a_task_group(three):
    async def scenario(item: int) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(step, 10 * item + step)) for step in range(3)]
        return [task.result() for task in tasks]

    assert await three(scenario) == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]


async def test_a_task_group_with_a_failing_child(three):
    async def fail(item: int) -> None:
        await asyncio.sleep(item)
        raise ValueError(item)

    async def scenario(item: int) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail(item))
                group.create_task(asyncio.sleep(99))
                await asyncio.sleep(98)
        except* ValueError as errors:
            caught = str(errors.exceptions[0])
        await asyncio.sleep(1)
        return caught

    assert await three(scenario) == ["0", "1", "2"]


async def test_a_task_group_whose_branch_is_cancelled(engine):
    log: list[str] = []

    async def child(item: int) -> None:
        try:
            await asyncio.sleep(99)
        finally:
            log.append(f"child {item}")

    async def scenario(item: int) -> None:
        if item == 0:
            await asyncio.sleep(1)
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(child(item))
        raise AssertionError

    await fan_out(scenario, range(3), strategy=JoinStrategy.Any, engine=engine)
    assert log == ["child 1", "child 2"]


async def test_gather_and_wait(three):
    async def scenario(item: int) -> list[Any]:
        values = await asyncio.gather(asyncio.sleep(1, item), asyncio.sleep(2, -item))
        tasks = [asyncio.ensure_future(asyncio.sleep(step, step)) for step in (3, 1, 2)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        values += [task.result() for task in done]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return values

    assert await three(scenario) == [[0, 0, 1], [1, -1, 1], [2, -2, 1]]


async def test_asyncio_as_completed(three):
    async def scenario(item: int) -> list[int]:
        return [await done for done in asyncio.as_completed([asyncio.sleep(step, step) for step in (3, 1, 2)])]

    assert await three(scenario) == [[1, 2, 3]] * 3


async def test_shield(engine):
    log: list[str] = []

    async def work(item: int) -> None:
        await asyncio.sleep(5)
        log.append(f"work {item}")

    async def scenario(item: int) -> int:
        if item == 0:
            await asyncio.sleep(1)
            return 0
        task = asyncio.ensure_future(work(item))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await task
            raise
        return item

    result = await fan_out(scenario, range(3), strategy=JoinStrategy.Any, engine=engine)
    assert result.cancelled == (1, 2)
    assert log == ["work 1", "work 2"]


async def test_a_child_task_that_is_cancelled(three):
    async def scenario(item: int) -> str:
        child = asyncio.create_task(asyncio.sleep(99))
        await asyncio.sleep(1)
        child.cancel("stop")
        try:
            await child
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            return f"child cancelled, {task.cancelling()}"
        return "not"

    assert await three(scenario) == ["child cancelled, 0"] * 3


# --- synchronisation ---


async def test_locks(three):
    lock, semaphore, condition = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Condition()
    event, barrier = asyncio.Event(), asyncio.Barrier(3)
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    inside = most = 0

    async def scenario(item: int) -> list[int]:
        nonlocal inside, most
        async with lock:
            await asyncio.sleep(1)
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(5)
            inside -= 1
        position = await barrier.wait()
        if item == 2:
            event.set()
        await event.wait()
        async with condition:
            if item == 1:
                await asyncio.sleep(1)
                condition.notify_all()
            else:
                await condition.wait()
        if item == 0:
            for number in range(4):
                await queue.put(number)
            return [position >= 0]
        return [await queue.get(), await queue.get()]

    answers = await asyncio.wait_for(three(scenario), 60)
    assert most == 2
    assert answers[0] == [True]
    assert sorted(answers[1] + answers[2]) == [0, 1, 2, 3]


async def test_a_cancelled_waiter_leaves_the_lock_alone(engine):
    lock = asyncio.Lock()

    async def scenario(item: int) -> int:
        if item == 0:
            async with lock:
                await asyncio.sleep(2)
            async with lock:
                return item
        if item == 1:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1), lock:
                    raise AssertionError
            return item
        await asyncio.sleep(0.5)
        async with lock:
            await asyncio.sleep(1)
        return item

    assert (await fan_out(scenario, range(3), engine=engine)).outputs() == [0, 1, 2]
    assert not lock.locked()


@pytest.mark.real_time
async def test_to_thread(three):
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def scenario(item: int) -> tuple[int, int]:
        variable.set(item)
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(variable.get), await loop.run_in_executor(None, abs, -item)

    assert await three(scenario) == [(0, 0), (1, 1), (2, 2)]


async def test_async_generators_and_context_managers(three):
    log: list[str] = []

    async def numbers(item: int):
        try:
            for step in range(3):
                await asyncio.sleep(1)
                yield 10 * item + step
        finally:
            await asyncio.sleep(0)
            log.append(f"closed {item}")

    async def scenario(item: int) -> list[int]:
        found = []
        generator = numbers(item)
        async for number in generator:
            found.append(number)
            if number % 10 == 1:
                break
        await generator.aclose()
        return found + [number async for number in numbers(item)][:1]

    assert await three(scenario) == [[0, 1, 0], [10, 11, 10], [20, 21, 20]]
    assert sorted(log) == ["closed 0", "closed 0", "closed 1", "closed 1", "closed 2", "closed 2"]


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


# --- splits inside ---


async def test_splits_inside(three, engine):
    async def scenario(item: int) -> list[Any]:
        result = await fan_out(lambda step: asyncio.sleep(step, (item, step)), [2, 1], inline=True, engine=engine)
        rows = [done.result async for done in as_completed(asyncio.sleep, [2, 1], engine=engine)]
        return [*result.outputs(), len(rows)]

    assert await three(scenario) == [[(item, 2), (item, 1), 2] for item in range(3)]


# --- other loops ---


def test_loop_debug_mode(engine):
    async def scenario(item: int) -> int:
        async with asyncio.timeout(9):
            await asyncio.sleep(0)
            await sleep(0.001)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        return item

    assert asyncio.run(fan_out(scenario, range(3), engine=engine), debug=True).outputs() == [0, 1, 2]


def test_uvloop(engine):
    uvloop = pytest.importorskip("uvloop")

    async def scenario(item: int) -> int:
        async with asyncio.timeout(9):
            await asyncio.sleep(0)
            await sleep(0.001)
            await asyncio.sleep(0.001)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        return await asyncio.to_thread(abs, item)

    async def main() -> list[int]:
        done = await fan_out(lambda item: item, range(3), engine=engine)
        return [*(await fan_out(scenario, range(3), engine=engine)).outputs(), *done.outputs()]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == [0, 1, 2] * 2


# --- anyio ---

try:
    import anyio
except ImportError:
    anyio = None  # type: ignore[assignment]

needs_anyio = pytest.mark.skipif(anyio is None, reason="needs anyio")


@needs_anyio
async def test_anyio_move_on_after(three):
    async def scenario(item: int) -> tuple[bool, float]:
        began = now()
        with anyio.move_on_after(1 + item) as scope:
            await asyncio.sleep(99)
        await anyio.sleep(1)
        return scope.cancelled_caught, now() - began

    assert await three(scenario) == [(True, 2), (True, 3), (True, 4)]


@needs_anyio
async def test_anyio_fail_after(three):
    async def scenario(item: int) -> str:
        try:
            with anyio.fail_after(1):
                await anyio.sleep_forever()
        except TimeoutError:
            return "timed out"
        return "not"

    assert await three(scenario) == ["timed out"] * 3


@needs_anyio
async def test_anyio_cancel_scopes(three):
    async def scenario(item: int) -> list[str]:
        log = []
        with anyio.CancelScope() as outer:
            with anyio.CancelScope(shield=True):
                outer.cancel()
                await anyio.sleep(1)
                log.append("shielded")
            try:
                await anyio.sleep(1)
            except BaseException:
                log.append("cancelled")
                raise
        await anyio.lowlevel.checkpoint()
        return [*log, str(outer.cancelled_caught)]

    assert await three(scenario) == [["shielded", "cancelled", "True"]] * 3


@needs_anyio
async def test_anyio_a_scope_cancelled_before_anything_is_awaited(three):
    async def scenario(item: int) -> str:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(0)
            return "not"
        return "cancelled"

    assert await three(scenario) == ["cancelled"] * 3


@needs_anyio
async def test_anyio_task_groups(three):
    async def child(log: list[int], step: int, task_status: Any = None) -> None:
        if task_status is not None:
            task_status.started(step)
        await anyio.sleep(step)
        log.append(step)

    async def scenario(item: int) -> list[int]:
        log: list[int] = []
        async with anyio.create_task_group() as group:
            group.start_soon(child, log, 2)
            log.append(await group.start(child, log, 1))
        return log

    assert await three(scenario) == [[1, 1, 2]] * 3


@needs_anyio
async def test_anyio_a_task_group_with_a_failing_child(three):
    async def fail() -> None:
        await anyio.sleep(1)
        raise ValueError

    async def scenario(item: int) -> str:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(fail)
                await anyio.sleep(99)
        except* ValueError:
            return_value = "caught"
        await anyio.sleep(1)
        return return_value

    assert await three(scenario) == ["caught"] * 3


@needs_anyio
async def test_anyio_primitives(three):
    lock, event, limiter = anyio.Lock(), anyio.Event(), anyio.CapacityLimiter(1)
    send, receive = anyio.create_memory_object_stream[int](1)

    async def scenario(item: int) -> int:
        async with lock:
            await anyio.sleep(1)
        async with limiter:
            await anyio.sleep(1)
        if item == 0:
            event.set()
            await send.send(5)
            await send.send(6)
            return 0
        await event.wait()
        return await receive.receive()

    assert sorted(await three(scenario)) == [0, 5, 6]
    send.close()
    receive.close()


@needs_anyio
async def test_anyio_knows_the_task(three):
    async def scenario(item: int) -> bool:
        info = anyio.get_current_task()
        await anyio.sleep(1)
        return info.id == id(asyncio.current_task()) and info == anyio.get_current_task()

    assert await three(scenario) == [True] * 3


@needs_anyio
@pytest.mark.real_time
async def test_anyio_threads(three):
    async def scenario(item: int) -> int:
        def work() -> int:
            return anyio.from_thread.run(asyncio.sleep, 0, item)

        return await anyio.to_thread.run_sync(work)

    assert await three(scenario) == [0, 1, 2]


@needs_anyio
async def test_a_run_inside_an_anyio_scope_that_is_cancelled(engine):
    """anyio cancels on every turn of the loop until the scope is left: clean-up is not interrupted by that."""
    log: list[int] = []

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(99)
        finally:
            for _ in range(10 + item):  # turns, and no time: with somebody busy on every turn, none passes
                await asyncio.sleep(0)
            log.append(item)

    with anyio.move_on_after(1) as scope:
        await fan_out(branch, range(3), engine=engine)
    assert scope.cancelled_caught
    assert log == [0, 1, 2]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_sniffio(three):
    sniffio = pytest.importorskip("sniffio")

    async def scenario(item: int) -> str:
        before = sniffio.current_async_library()
        await asyncio.sleep(0)
        return before + sniffio.current_async_library()

    assert await three(scenario) == ["asyncioasyncio"] * 3
