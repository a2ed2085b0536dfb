"""A branch seen as the task it stands for: what it answers before and after its end, and what it makes of a bad yield.

What a real `asyncio.Task` does is asked of one, in the same test.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
from collections.abc import Callable
from typing import Any

import pytest

from cano import BranchCancelledError, JoinStrategy, fan_out, sleep

pytestmark = pytest.mark.fault("libraries")

WAYS = ["branch", "task"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def end_of(engine: str, way: str, work: Callable[[], Any]) -> tuple[Any, Any]:
    """Run `work` in a branch, or in a task of asyncio's; return the task as it was seen in there, and what came of it."""
    seen: list[Any] = []

    async def body(_: object = None) -> Any:
        seen.append(asyncio.current_task())
        return await work()

    if way == "task":
        task = asyncio.create_task(body())
        await asyncio.wait([task])
        outcome = asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
    else:
        options: Any = {"strategy": JoinStrategy.PartialTimeout, "timeout": 1e6, "engine": engine}
        result = await fan_out(body, [None], **options)
        outcome = result.errors[0].error if result.errors else result.outputs()[0]
    return seen[0], outcome


async def test_cancelled_right_before_it_returns_is_cancelled(engine: str, way: str) -> None:
    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("too late")
        return "a value nobody gets"

    task, outcome = await end_of(engine, way, work)
    assert task.cancelled()
    assert isinstance(outcome, asyncio.CancelledError if way == "task" else BranchCancelledError)
    with pytest.raises(asyncio.CancelledError, match="too late"):
        task.result()


class Yields:
    """Awaiting it hands something straight to whoever steps the coroutine."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield self.value


def not_blocking() -> Any:
    return asyncio.get_running_loop().create_future()


class OfAnotherLoop:
    _asyncio_future_blocking = True

    def get_loop(self) -> object:
        return "another loop"

    def __repr__(self) -> str:
        return "<stranger>"


class OfAnOldLoop:
    _asyncio_future_blocking = True
    _loop = "another loop"

    def __repr__(self) -> str:
        return "<stranger>"


def itself() -> Any:
    task: Any = asyncio.current_task()
    task._asyncio_future_blocking = True
    return task


@pytest.mark.parametrize(
    ("yielded", "message"),
    [
        (lambda: 5, "Task got bad yield: 5"),
        (not_blocking, "yield was used instead of yield from"),
        (OfAnotherLoop, "attached to a different loop"),
        (OfAnOldLoop, "attached to a different loop"),
        (itself, "Task cannot await on itself"),
    ],
    ids=["no future", "not blocking", "of another loop", "by attribute", "itself"],
)
async def test_a_bad_yield_is_an_error_in_the_coroutine(
    engine: str, way: str, yielded: Callable[[], Any], message: str
) -> None:
    async def work() -> str:
        try:
            await Yields(yielded())
        except RuntimeError as error:
            return str(error)
        return "nothing happened"

    assert message in (await end_of(engine, way, work))[1]


NUMBER: contextvars.ContextVar[int] = contextvars.ContextVar("NUMBER")


async def test_before_its_end(engine: str, way: str) -> None:
    async def work() -> None:
        task: Any = asyncio.current_task()
        with pytest.raises(asyncio.InvalidStateError, match="Result is not set"):
            task.result()
        with pytest.raises(asyncio.InvalidStateError, match="Exception is not set"):
            task.exception()
        NUMBER.set(7)
        if way == "branch" or hasattr(task, "get_context"):  # asyncio's has it since 3.12
            assert task.get_context()[NUMBER] == 7
        printed = io.StringIO()
        task.print_stack(file=printed)
        assert "in work" in printed.getvalue() or "in body" in printed.getvalue()
        assert task.get_stack()
        assert task.remove_done_callback(print) == 0
        steps = iter(task.__await__())
        assert next(steps) is task
        with pytest.raises(RuntimeError, match="await wasn't used with future"):
            next(steps)
        task._asyncio_future_blocking = False

    assert (await end_of(engine, way, work))[1] is None


async def test_callbacks_are_called_in_their_order_unless_removed(engine: str, way: str) -> None:
    called: list[str] = []

    async def work() -> None:
        task: Any = asyncio.current_task()

        def first(_: Any) -> None:
            called.append("first")

        def second(_: Any) -> None:
            called.append("second")

        for callback in (first, second, first):
            task.add_done_callback(callback)
        assert task.remove_done_callback(first) == 2

    await end_of(engine, way, work)
    await asyncio.sleep(0)
    assert called == ["second"]


async def test_after_its_end(engine: str, way: str) -> None:
    async def fails() -> None:
        raise LookupError("gone")

    async def is_cancelled() -> None:
        raise asyncio.CancelledError("enough")

    task, outcome = await end_of(engine, way, fails)
    assert task.exception() is outcome
    with pytest.raises(LookupError, match="gone"):
        task.result()
    assert [frame.f_code.co_name for frame in task.get_stack()][-1] == "fails"  # since then from the traceback
    assert (task.done(), task.cancelled(), task.cancel()) == (True, False, False)
    task, _ = await end_of(engine, way, is_cancelled)
    with pytest.raises(asyncio.CancelledError, match="enough"):
        task.exception()
    assert (task.done(), task.cancelled(), task.cancel()) == (True, True, False)


async def test_what_a_branch_that_sleeps_waits_for_can_be_asked(engine: str) -> None:
    """Libraries (anyio) look at what a task waits for, and cancel that."""
    answers: list[Any] = []

    async def branch(_: object) -> str:
        task: Any = asyncio.current_task()

        def look() -> None:
            pause = task._fut_waiter
            answers.extend([pause.done(), pause.cancel(), pause.cancel(), pause.done()])

        asyncio.get_running_loop().call_later(1, look)
        try:
            await sleep(5)
        except asyncio.CancelledError:
            return "woken"
        return "slept"

    assert (await fan_out(branch, [None], engine=engine)).outputs() == ["woken"]
    assert answers == [False, True, False, True]
