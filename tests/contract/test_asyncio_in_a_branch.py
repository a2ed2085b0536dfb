"""What works inside an `asyncio.Task` works inside a branch: what asyncio offers.

Three branches at once, so that they can get in each other's way; each scenario runs in branches of the engine and in
real tasks, and plain asyncio says what is right. On each loop a user may have.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from tests.loops import now

from cano import JoinStrategy, as_completed, fan_out, sleep

pytestmark = [pytest.mark.fault("libraries"), pytest.mark.every_loop]

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


# --- synchronisation, threads, generators ---


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


# --- splits inside ---


async def test_splits_inside(three, engine):
    async def scenario(item: int) -> list[Any]:
        result = await fan_out(lambda step: asyncio.sleep(step, (item, step)), [2, 1], inline=True, engine=engine)
        rows = [done.result async for done in as_completed(asyncio.sleep, [2, 1], engine=engine)]
        return [*result.outputs(), len(rows)]

    assert await three(scenario) == [[(item, 2), (item, 1), 2] for item in range(3)]
