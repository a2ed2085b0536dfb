"""F3: an observer misbehaves at an event, in one of five ways. Another observer, and the result, cannot tell."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.contract import shapes
from tests.contract.given import Boom, Observer, S, join, never
from tests.contract.shapes import Trace

from cano import CancelToken, CanoError, RunEvent, Workflow
from cano.observe import KINDS
from cano.testing import VirtualTimeLoop

pytestmark = pytest.mark.fault("F3")


def failing(trace: Trace, workflow: Workflow[Any]) -> None:
    async def bad() -> None:
        await trace.work(1)
        raise Boom

    workflow.register_split(S.START, [bad, never], join())


def failing_task(trace: Trace, workflow: Workflow[Any]) -> None:
    async def bad() -> None:
        raise Boom

    workflow.register(S.START, bad)


SHAPES = {
    **{
        name: shapes.SHAPES[name]
        for name in ("retried", "timed_out", "quorum", "partial", "retried_branches", "at_run_time")
    },
    "failing": failing,
    "failing_task": failing_task,
    "cancelled": shapes.fan,
}


class Program:
    """One run of a shape with a well-behaved observer, and perhaps another."""

    def __init__(self, engine: str, shape: str) -> None:
        self.engine, self.shape = engine, shape
        self.trace, self.good, self.token = Trace(), Observer(), CancelToken()
        self.workflow: Workflow[Any] = Workflow(engine=engine).add_exit_state(S.DONE)
        SHAPES[shape](self.trace, self.workflow)

    async def run(self) -> Any:
        self.task = asyncio.current_task()
        if self.shape == "cancelled":
            asyncio.get_running_loop().call_later(0.5, self.token.cancel)
        try:
            return await self.workflow.add_observer(self.good).orchestrate(S.START, cancel=self.token, timeout=1000)
        except CanoError as error:
            return type(error), error.state, error.path
        except asyncio.CancelledError:
            return "cancelled"

    def told(self) -> list[Any]:
        return [
            (event.kind, event.state, event.task, event.branch, event.attempt, event.at, type(event.error))
            for event in self.good.events
        ]


def play(program: Program) -> Any:
    async def main() -> Any:
        try:
            answer = await asyncio.get_running_loop().create_task(program.run())
        except asyncio.CancelledError:  # cancelled when nothing was left to wait for
            answer = "cancelled"
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)
        await asyncio.sleep(1000)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert program.trace.begun == program.trace.ended
        return answer

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def raises(program: Program, event: RunEvent) -> None:
    raise Boom("a secret")


def blocks(program: Program, event: RunEvent) -> None:
    time.sleep(0.001)


def enters_again(program: Program, event: RunEvent) -> None:
    """Starts another run of the same workflow's kind, from within."""
    asyncio.get_running_loop().create_task(Program(program.engine, "retried").run())


def leaves(program: Program, event: RunEvent) -> None:
    """Takes itself, and all others, off the workflow: which holds from the next run on."""
    program.workflow._observers.clear()


def cancels(program: Program, event: RunEvent) -> None:
    assert program.task is not None
    program.task.cancel()


@pytest.mark.parametrize("behaviour", [raises, blocks, enters_again, leaves, cancels], ids=lambda it: it.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_an_observer_that_misbehaves(
    engine: str, kind: str, behaviour: Callable[..., None], caplog: pytest.LogCaptureFixture, tried: Callable[..., None]
) -> None:
    reached = 0
    for shape in SHAPES:
        plain = Program(engine, shape)
        expected = play(plain)
        caplog.clear()
        program = Program(engine, shape)
        called: list[RunEvent] = []

        class Hostile:
            pass

        def handle(_: Any, event: RunEvent, program: Program = program, called: list[RunEvent] = called) -> None:
            called.append(event)
            behaviour(program, event)

        setattr(Hostile, f"on_{kind}", handle)
        program.workflow.add_observer(Hostile())
        with caplog.at_level(logging.WARNING, "cano"):
            answer = play(program)
        if behaviour is not cancels:
            assert answer == expected
            told, expected_events = program.told(), plain.told()
            if behaviour is enters_again:  # what happens at one moment is in another order, with more on the loop
                told, expected_events = sorted(told, key=repr), sorted(expected_events, key=repr)
            assert told == expected_events
        elif called:
            assert answer in ("cancelled", expected)
            shapes.balanced(program.good)
        logged = [record for record in caplog.records if "observer" in record.getMessage()]
        assert len(logged) == (1 if called and behaviour is raises else 0)
        assert all("secret" not in record.getMessage() for record in logged)
        reached += bool(called)
    assert reached > 0
    tried(observers=reached)
