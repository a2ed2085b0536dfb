"""What a failed split holds goes with its error, and does not wait for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.contract.given import Boom, S, join

from cano import JoinError, Workflow

pytestmark = pytest.mark.fault("F7")


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Fails:
    def __init__(self, steps: int) -> None:
        self.steps = steps

    async def run(self) -> None:
        for _ in range(self.steps):
            await asyncio.sleep(0)
        await self.fail()

    async def fail(self) -> None:
        raise Boom


@pytest.mark.parametrize("steps", [0, 1, 3])
async def test_failed_branches_and_their_tasks_go_with_the_error(engine: str, steps: int) -> None:
    tasks = [Fails(steps) for _ in range(3)]
    alive = weakref.WeakSet(tasks)
    workflow = Workflow(engine=engine).register_split(S.START, tasks, join(fail_fast=False)).add_exit_state(S.DONE)
    with pytest.raises(JoinError):
        await workflow.orchestrate(S.START)
    del tasks, workflow
    assert not alive


@pytest.mark.parametrize("steps", [0, 2])
async def test_the_traceback_of_a_branch_tells_of_its_own_frames(engine: str, steps: int) -> None:
    workflow = Workflow(engine=engine).register_split(S.START, [Fails(steps)], join()).add_exit_state(S.DONE)
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate(S.START)
    (error,) = caught.value.exceptions
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames] == ["run", "fail"]
    del caught


class Big:
    pass


@pytest.mark.real_time
@pytest.mark.parametrize("awaited", ["a task", "a future", "gather", "a thread"])
async def test_what_a_branch_caught_keeps_nothing_of_it(engine: str, awaited: str) -> None:
    """The error came out of what it awaited, and goes with the frame that caught it."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Boom

    def fail_at_once() -> None:
        raise Boom

    def what() -> Any:
        loop = asyncio.get_running_loop()
        if awaited == "a task":
            return asyncio.create_task(fail())
        if awaited == "gather":
            return asyncio.gather(fail(), asyncio.sleep(0))
        if awaited == "a thread":
            return loop.run_in_executor(executor, fail_at_once)
        future = loop.create_future()
        loop.call_soon(future.set_exception, Boom())
        return future

    alive: weakref.WeakSet[Big] = weakref.WeakSet()

    async def branch() -> None:
        big = Big()
        alive.add(big)
        try:
            await what()
        except Boom:
            pass

    workflow = Workflow(engine=engine).register_split(S.START, [branch], join()).add_exit_state(S.DONE)
    with ThreadPoolExecutor(1) as executor:
        await workflow.orchestrate(S.START)
        # Its thread may not have left what it raised; and on a free-threaded build, what it made is freed when it runs next.
        await asyncio.get_running_loop().run_in_executor(executor, int)
    assert not alive
