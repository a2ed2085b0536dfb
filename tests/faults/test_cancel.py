"""F1: cancelled at every turn of the loop, by all who may; nothing is left, the cancellation arrives, the count is back at 0.

`tests/contract/test_cancellation.py` has the shapes that are workflows, with tokens, timeouts and the events of each run; here
are all programs, with branches that are the engine's own and with real tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.contract.shapes import Trace, Turns
from tests.faults.points import SOAK, some
from tests.faults.shapes import SHAPES

from cano.testing import VirtualTimeLoop

pytestmark = [pytest.mark.fault("F1"), pytest.mark.timeout(1800 if SOAK else 300)]

# Under anyio's scopes virtual time stands still: the cancellation is repeated at every turn until the task has left. Clean-up
# that sleeps would never end, and threads are not waited for.
NOT_UNDER_A_SCOPE = {
    "on_threads", "observed", "real_tasks", "quorum", "hedged", "partial", "by_a_function", "alone", "fan", "streamed",
    "timed_out", "at_run_time", "nested", "row_by_row",
}  # fmt: skip


def factory(loop: Any, coro: Any, **options: Any) -> Any:
    return asyncio.Task(coro, loop=loop, **options)


class Attempt:
    """One run of a program that is cancelled before a turn."""

    def __init__(self, shape: str, engine: str, way: str, turn: int, real_tasks: bool) -> None:
        self.shape, self.engine, self.way, self.turn = shape, engine, way, turn
        self.real_tasks = real_tasks
        self.trace = Trace()
        self.left = -1  # cancellations that the program's task has not taken back
        self.scope: Any = None

    async def program(self) -> Any:
        task = asyncio.current_task()
        assert task is not None
        try:
            if self.way == "scope":
                with anyio.CancelScope() as self.scope:
                    return await SHAPES[self.shape](self.trace, self.engine)
                return None
            if self.way == "timeout":
                async with asyncio.timeout(None) as self.scope:
                    return await SHAPES[self.shape](self.trace, self.engine)
            return await SHAPES[self.shape](self.trace, self.engine)
        finally:
            self.left = task.cancelling()

    def disturb(self, task: asyncio.Task[Any]) -> None:
        loop = asyncio.get_running_loop()
        if task.done() or self.left >= 0:
            return
        if self.way == "scope" and self.scope is not None:
            self.scope.cancel()
        elif self.way == "timeout" and self.scope is not None:
            self.scope.reschedule(loop.time())
        else:
            task.cancel("stop")
            if self.way == "twice":
                loop.call_soon(task.cancel, "again")
                loop.call_later(0.2, task.cancel, "and again")

    async def run(self) -> tuple[int, str]:
        loop = asyncio.get_running_loop()
        if self.real_tasks:
            loop.set_task_factory(factory)
        task = loop.create_task(self.program())
        with Turns(self.turn, lambda: self.disturb(task)) as turns:
            await asyncio.wait([task])
        if task.cancelled():
            became = "cancelled"
        else:
            error = task.exception()
            became = "done" if error is None else type(error).__name__
        await asyncio.sleep(1000)
        assert self.trace.begun == self.trace.ended, f"{self.trace.begun - self.trace.ended} are still at work"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return turns.count, became


def attempt(shape: str, engine: str, way: str, turn: int, real_tasks: bool) -> tuple[Attempt, int, str]:
    one = Attempt(shape, engine, way, turn, real_tasks)
    unhandled: list[Any] = []

    async def main() -> tuple[int, str]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        return await one.run()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        count, became = runner.run(main())
    assert unhandled == []
    return one, count, became


@pytest.mark.parametrize("real_tasks", [False, True], ids=["own", "tasks"])
@pytest.mark.parametrize("way", ["task", "twice", "timeout", "scope"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cancellation_at_every_turn(
    engine: str, shape: str, way: str, real_tasks: bool, tried: Callable[..., None]
) -> None:
    if way == "scope" and shape in NOT_UNDER_A_SCOPE:
        pytest.skip("its clean-up takes time, which does not pass under a scope of anyio's")
    _, count, became = attempt(shape, engine, way, -1, real_tasks)
    assert became == "done"
    ended: dict[str, int] = {}
    for turn in some(count, 3, shape, way):
        one, _, became = attempt(shape, engine, way, turn, real_tasks)
        ended[became] = ended.get(became, 0) + 1
        if way in ("timeout", "scope"):
            assert one.left in (-1, 0), f"turn {turn}: the cancellation was not taken back"
        assert became in {"task": ("cancelled", "done"), "twice": ("cancelled", "done")}.get(
            way, ("TimeoutError", "cancelled", "done")
        ), f"turn {turn}: {became}"
    tried(cancellations=sum(ended.values()))
    assert way == "scope" or any(became != "done" for became in ended)
