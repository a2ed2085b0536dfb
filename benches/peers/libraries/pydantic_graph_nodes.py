from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benches.peers import jobs as j
from pydantic_graph import GraphBuilder, StepContext, TypeExpression, reduce_sum

PACKAGE, NAME = "pydantic-graph", "pydantic-graph"


@dataclass
class Counter:
    count: int = 0


def _chain():
    builder = GraphBuilder(state_type=Counter, output_type=int)

    @builder.step
    async def step(ctx: StepContext[Counter, None, object]) -> Literal["again", "done"]:
        ctx.state.count += 1
        return "again" if ctx.state.count < j.STEPS else "done"

    @builder.step
    async def end(ctx: StepContext[Counter, None, object]) -> int:
        return ctx.state.count

    which = (
        builder.decision()
        .branch(builder.match(TypeExpression[Literal["again"]]).to(step))
        .branch(builder.match(TypeExpression[Literal["done"]]).to(end))
    )
    builder.add(
        builder.edge_from(builder.start_node).to(step),
        builder.edge_from(step).to(which),
        builder.edge_from(end).to(builder.end_node),
    )
    graph = builder.build()

    async def chain() -> int:
        return await graph.run(state=Counter())

    return chain


def _fan(fn):
    builder = GraphBuilder(output_type=int)

    @builder.step
    async def spread(_ctx: StepContext[None, None, None]) -> list[int]:
        return list(range(j.BRANCHES))

    @builder.step
    async def branch(ctx: StepContext[None, None, int]) -> int:
        return await fn(ctx.inputs)

    total = builder.join(reduce_sum, initial=0)
    builder.add(
        builder.edge_from(builder.start_node).to(spread),
        builder.edge_from(spread).map().to(branch),
        builder.edge_from(branch).to(total),
        builder.edge_from(total).to(builder.end_node),
    )
    graph = builder.build()

    async def job() -> int:
        return await graph.run()

    return job


def jobs():
    return {j.CHAIN: _chain(), j.FAN_OUT: _fan(j.returns), j.FAN_OUT_WAIT: _fan(j.waits)}
