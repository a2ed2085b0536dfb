"""Awaiting a run again, or twice at once: an error that says so, and no harm to the first. On both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from cano import JoinConfig, JoinStrategy, Workflow, fan_out

pytestmark = pytest.mark.fault("F4")


async def slow(item: int) -> int:
    await asyncio.sleep(0.001)
    return item


def flow(engine: str) -> Workflow[str]:
    join = JoinConfig(JoinStrategy.All, "done")
    return Workflow[str](engine=engine).register_map("start", slow, range(3), join).add_exit_state("done")


def begun(engine: str, what: str) -> Coroutine[Any, Any, Any]:
    if what == "fan_out":
        return fan_out(slow, range(3), engine=engine)
    return flow(engine).orchestrate("start")


@pytest.mark.parametrize("what", ["orchestrate", "fan_out"])
async def test_a_run_is_awaited_once(engine: str, what: str) -> None:
    run = begun(engine, what)
    assert await run
    with pytest.raises(RuntimeError, match="already awaited"):
        await run


@pytest.mark.parametrize("what", ["orchestrate", "fan_out"])
async def test_two_cannot_await_one_run(engine: str, what: str) -> None:
    run = begun(engine, what)
    first, second = asyncio.create_task(run), asyncio.create_task(_again(run))
    with pytest.raises(RuntimeError, match="being awaited already"):
        await second
    assert await first


async def _again(run: Coroutine[Any, Any, Any]) -> Any:
    await asyncio.sleep(0)
    return await run


async def test_one_workflow_runs_many_times_at_once(engine: str) -> None:
    workflow = flow(engine)
    assert set(await asyncio.gather(*(workflow.orchestrate("start") for _ in range(50)))) == {"done"}


async def test_the_native_run_itself_is_awaited_once() -> None:
    pytest.importorskip("cano._core", reason="the native engine is not built here")
    run = flow("native")._start("start", None, None, None, None)
    assert await run == "done"
    with pytest.raises(RuntimeError):
        await run
