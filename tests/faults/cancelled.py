"""Runs a program that is cancelled before some turns of the loop, in every way there is; says what must not be so afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
from tests.contract.given import Observer, S
from tests.contract.shapes import Trace, Turns, balanced
from tests.faults.shapes import SHAPES, TAKE_A_TOKEN
from tests.faults.shapes_of_awaits import AWAITS
from tests.faults.shapes_of_joins import JOINS
from tests.faults.shapes_of_runs import RUNS

from cano import CancelToken, RunCancelledError, Workflow
from cano.testing import VirtualTimeLoop

ALL = {**SHAPES, **JOINS, **AWAITS, **RUNS}

# By whom, and what may become of the program then: it may have been done, or too late to be cancelled.
WAYS: dict[str, tuple[str, ...]] = {
    "task": ("cancelled",),
    "twice": ("cancelled",),
    "while cleaning up": ("cancelled",),
    "swallowed": ("cancelled",),
    "timeout": ("TimeoutError",),
    "scope": ("nothing",),
    "token": ("RunCancelledError",),
}
PACE = 0.25  # seconds


class PressedLoop(VirtualTimeLoop):
    """Time that passes though the loop never rests, once it is pressed.

    anyio cancels whoever is in a cancelled scope anew at every turn of the loop; a clean-up that sleeps elsewhere would
    never end if time only passed while nothing else is to do.
    """

    pressed = False

    def _run_once(self) -> None:
        if self.pressed:
            self._virtual += PACE
        super()._run_once()  # type: ignore[misc]


def factory(loop: Any, coro: Any, **options: Any) -> Any:
    return asyncio.Task(coro, loop=loop, **options)


class Attempt:
    """One run of a program that is cancelled before a turn, or before several.

    Attributes:
        turns: How many turns it took.
        became: What became of it, in a word.
        message: What its `CancelledError` says, or the error of its run's token.
        left: How many cancellations its task has not taken back; -1 if it never began.
    """

    def __init__(self, shape: str, engine: str, way: str, at: tuple[int, ...], real_tasks: bool) -> None:
        self.shape, self.engine, self.way, self.at = shape, engine, way, at
        self.real_tasks = real_tasks
        self.trace = Trace(swallows=way == "swallowed")
        if way in ("token", "while cleaning up"):  # what nobody observes takes another way
            self.trace.observer = Observer()
        self.scope: Any = None
        self.turns = 0
        self.became = ""
        self.message: Any = None
        self.left = -1

    def play(self) -> Attempt:
        unhandled: list[Any] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            await self._run()

        with asyncio.Runner(loop_factory=PressedLoop) as runner:
            runner.run(main())
        assert unhandled == []
        return self

    async def _program(self) -> Any:
        task = asyncio.current_task()
        assert task is not None
        try:
            if self.way == "scope":
                with anyio.CancelScope() as self.scope:
                    return await ALL[self.shape](self.trace, self.engine)
                return "nothing"
            if self.way == "timeout":
                async with asyncio.timeout(None) as self.scope:
                    return await ALL[self.shape](self.trace, self.engine)
            if self.way == "token":
                return await self._with_token()
            return await ALL[self.shape](self.trace, self.engine)
        finally:
            self.left = task.cancelling()

    async def _with_token(self) -> Any:
        program = ALL[self.shape]
        token = CancelToken()
        self.scope = token
        if program in TAKE_A_TOKEN:
            self.trace.token = token
            return await program(self.trace, self.engine)
        around: Workflow[Any] = Workflow(engine=self.engine).add_exit_state(S.DONE)

        async def state() -> S:
            await program(self.trace, self.engine)
            return S.DONE

        return await around.register(S.START, state).orchestrate(S.START, cancel=token)

    def _disturb(self, task: asyncio.Task[Any]) -> None:
        loop: Any = asyncio.get_running_loop()
        if task.done() or self.left >= 0:
            return
        if self.way == "scope" and self.scope is not None:
            loop.pressed = True
            self.scope.cancel()
        elif self.way == "timeout" and self.scope is not None:
            self.scope.reschedule(loop.time())
        elif self.way == "token" and self.scope is not None:
            self.scope.cancel("stop")
        else:
            task.cancel("stop")
            if self.way == "twice":
                loop.call_soon(task.cancel, "again")
                loop.call_later(0.2, task.cancel, "and again")

    async def _run(self) -> None:
        loop: Any = asyncio.get_running_loop()
        if self.real_tasks:
            loop.set_task_factory(factory)
        task = loop.create_task(self._program())
        with Turns(self.at, lambda: self._disturb(task)) as turns:
            await asyncio.wait([task])
        loop.pressed = False
        self.turns = turns.count
        try:
            result = task.result()
            self.became = "nothing" if result == "nothing" else "done"
        except asyncio.CancelledError as error:
            self.became, self.message = "cancelled", error.args
        except RunCancelledError as error:
            self.became, self.message = "RunCancelledError", (error.reason,)
        except Exception as error:
            self.became, self.message = type(error).__name__, error
        await self._nothing_is_left()

    async def _nothing_is_left(self) -> None:
        trace = self.trace
        events = 0 if trace.observer is None else len(trace.observer.events)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert trace.begun == trace.ended, f"{trace.begun - trace.ended} are still at work"
        begun = trace.begun
        await asyncio.sleep(1000)
        assert trace.begun == trace.ended == begun, "something began afterwards"
        if trace.observer is not None:
            assert len(trace.observer.events) == events, "something happened afterwards"
            balanced(trace.observer)
            for event in trace.observer.of("join"):
                split = event.value
                branches = {row.task_index for row in (*split.successes, *split.errors)} | {*split.cancelled}
                parts = len(split.successes) + len(split.errors) + len(split.cancelled)
                assert parts == len(branches) == split.total_count
