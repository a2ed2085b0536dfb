"""What works inside an `asyncio.Task` works inside a branch: anyio's scopes, groups and locks; sniffio.

Three branches at once, so that they can get in each other's way; each scenario runs in branches of the engine and in
real tasks, and plain asyncio says what is right. On each loop a user may have.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.loops import now

from cano import fan_out

anyio = pytest.importorskip("anyio")

pytestmark = [pytest.mark.fault("libraries"), pytest.mark.every_loop]


async def test_anyio_move_on_after(three):
    async def scenario(item: int) -> tuple[bool, float]:
        began = now()
        with anyio.move_on_after(1 + item) as scope:
            await asyncio.sleep(99)
        await anyio.sleep(1)
        return scope.cancelled_caught, now() - began

    assert await three(scenario) == [(True, 2), (True, 3), (True, 4)]


async def test_anyio_fail_after(three):
    async def scenario(item: int) -> str:
        try:
            with anyio.fail_after(1):
                await anyio.sleep_forever()
        except TimeoutError:
            return "timed out"
        return "not"

    assert await three(scenario) == ["timed out"] * 3


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


async def test_anyio_a_scope_cancelled_before_anything_is_awaited(three):
    async def scenario(item: int) -> str:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(0)
            return "not"
        return "cancelled"

    assert await three(scenario) == ["cancelled"] * 3


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


async def test_anyio_knows_the_task(three):
    async def scenario(item: int) -> bool:
        info = anyio.get_current_task()
        await anyio.sleep(1)
        return info.id == id(asyncio.current_task()) and info == anyio.get_current_task()

    assert await three(scenario) == [True] * 3


@pytest.mark.real_time
async def test_anyio_threads(three):
    async def scenario(item: int) -> int:
        def work() -> int:
            return anyio.from_thread.run(asyncio.sleep, 0, item)

        return await anyio.to_thread.run_sync(work)

    assert await three(scenario) == [0, 1, 2]


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
