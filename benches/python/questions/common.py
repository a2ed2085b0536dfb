"""What several questions share: the split as a workflow, and asyncio.gather as everyone writes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cano import JoinConfig, JoinStrategy, Workflow

NATIVE, PURE, GATHER = "cano, native", "cano, pure Python", "asyncio.gather"
FAN_OUT = "cano.fan_out, native"

Branch = Callable[[int], Awaitable[Any]]


def split_of(fn: Any, n: int, engine: str, **options: Any) -> Workflow[str]:
    """A workflow of one split over `range(n)`, all must succeed. Built once, outside the measurement."""
    bulkhead = options.pop("bulkhead", None)
    join = JoinConfig(JoinStrategy.All, "end", bulkhead=bulkhead)
    return Workflow[str](engine=engine).register_map("split", fn, range(n), join, **options).add_exit_state("end")


def by_workflow(fn: Any, n: int, engine: str, **options: Any) -> Callable[[], Awaitable[Any]]:
    """The job that runs `split_of`."""
    workflow = split_of(fn, n, engine, **options)

    async def job() -> None:
        await workflow.orchestrate("split")

    return job


def by_gather(fn: Branch, n: int) -> Callable[[], Awaitable[Any]]:
    """The job that everyone writes without a library."""

    async def job() -> None:
        await asyncio.gather(*[fn(item) for item in range(n)])

    return job
