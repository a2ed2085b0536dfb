"""What many contract tests need: states, a recording observer, tasks with a script."""

from __future__ import annotations

import asyncio
import enum
from typing import Any

from cano import JoinConfig, JoinStrategy, RunEvent, Workflow
from cano.observe import KINDS


class S(enum.Enum):
    START = "start"
    FAN = "fan"
    WORK = "work"
    JOINED = "joined"
    DONE = "done"
    FAILED = "failed"


class Boom(Exception):  # noqa: N818 - a short word, used all over
    """What tasks of the tests fail with: no error anything else would raise."""


def join(state: Any = S.DONE, strategy: JoinStrategy = JoinStrategy.All, **options: Any) -> JoinConfig[Any]:
    return JoinConfig(strategy, state, **options)


def to(state: Any) -> Any:
    """A task that goes to a state at once."""

    async def go() -> Any:
        return state

    return go


def sleeper(seconds: float, then: Any = S.DONE) -> Any:
    """A task that takes its time."""

    async def sleep() -> Any:
        await asyncio.sleep(seconds)
        return then

    return sleep


def simple(engine: str, task: Any, **options: Any) -> Workflow[Any]:
    """A workflow of one state."""
    return Workflow(engine=engine).register(S.START, task, **options).add_exit_state(S.DONE)


async def never() -> Any:
    """A task that waits until it is cancelled."""
    await asyncio.get_running_loop().create_future()


class Observer:
    """Collects every event."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of(self, kind: str) -> list[RunEvent]:
        return [event for event in self.events if event.kind == kind]

    def one(self, kind: str) -> RunEvent:
        (event,) = self.of(kind)
        return event


def _collect(self: Observer, event: RunEvent) -> None:
    self.events.append(event)


for _kind in KINDS:
    setattr(Observer, f"on_{_kind}", _collect)
