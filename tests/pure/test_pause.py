"""The pure engine's sleep as a coroutine. Where the native engine is there, `cano.sleep` is that one's, and tested as it is."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from cano._engine.pure.branch import Pause


async def test_a_task_runs_it() -> None:
    results = await asyncio.gather(Pause(0.001, "a"), Pause(0.0, "b"))
    assert results == ["a", "b"]
    assert await asyncio.wait_for(Pause(0.001, "c"), 60) == "c"


async def test_it_tells_its_state_and_ends_once() -> None:
    pause: Any = Pause(99.0, None)
    assert repr(pause) == "<cano.sleep(99)>"
    task = asyncio.create_task(pause)
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(pause) == "CORO_SUSPENDED"
    assert "cano.sleep" in repr(task)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert inspect.getcoroutinestate(pause) == "CORO_CLOSED"
    with pytest.raises(RuntimeError, match="cannot reuse"):
        pause.send(None)


async def test_thrown_into_and_closed() -> None:
    fresh: Any = Pause(1.0, None)
    with pytest.raises(KeyError):
        fresh.throw(KeyError())
    Pause(1.0, None).close()
    begun: Any = Pause(1.0, None)
    begun.send(None)
    begun.close()
