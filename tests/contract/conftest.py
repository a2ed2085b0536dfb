"""What several files of contract tests ask for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cano import JoinConfig, JoinStrategy, Workflow, fan_out

Scenario = Any


@pytest.fixture(params=["branch", "introspect", "gather"])
def three(request, engine):
    """Run `scenario(0)`, `scenario(1)`, `scenario(2)` at once, and give what they return."""

    async def in_branches(scenario: Scenario) -> list[Any]:
        return (await fan_out(scenario, range(3), engine=engine)).outputs()

    async def in_real_tasks(scenario: Scenario) -> list[Any]:
        workflow: Workflow[str] = Workflow(engine=engine, introspect=True).add_exit_state("end")
        join = JoinConfig(JoinStrategy.All, "end", store_partial_results=True)
        await workflow.register_map("fan", scenario, range(3), join).orchestrate("fan")
        return workflow.store.get("split_results").outputs()

    async def gathered(scenario: Scenario) -> list[Any]:
        return await asyncio.gather(*(scenario(item) for item in range(3)))

    return {"branch": in_branches, "introspect": in_real_tasks, "gather": gathered}[request.param]
