"""Three branches at once that do the same, each of the ways in which branches run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cano import JoinConfig, JoinStrategy, Workflow, fan_out

Scenario = Callable[[int], Awaitable[Any]]
Three = Callable[[Scenario], Awaitable[list[Any]]]


def in_branches(engine: str) -> Three:
    """Run `scenario(0)`, `scenario(1)`, `scenario(2)` in branches, and give what they return."""

    async def three(scenario: Scenario) -> list[Any]:
        return (await fan_out(scenario, range(3), engine=engine)).outputs()

    return three


def in_real_tasks(engine: str) -> Three:
    """Likewise in branches that are asyncio tasks."""

    async def three(scenario: Scenario) -> list[Any]:
        workflow: Workflow[str] = Workflow(engine=engine, introspect=True).add_exit_state("end")
        join = JoinConfig(JoinStrategy.All, "end", store_partial_results=True)
        await workflow.register_map("fan", scenario, range(3), join).orchestrate("fan")
        return list(workflow.store.get("split_results").outputs())

    return three


async def gathered(scenario: Scenario) -> list[Any]:
    """Likewise in plain asyncio, which says what is right."""
    return list(await asyncio.gather(*(scenario(item) for item in range(3))))
