from __future__ import annotations

import operator
from typing import Annotated, TypedDict

from benches.peers import jobs as j

PACKAGE, NAME = "langgraph", "langgraph"


class Count(TypedDict):
    count: int


class Results(TypedDict):
    results: Annotated[list[int], operator.add]


def jobs():
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    async def step(state: Count) -> Count:
        return {"count": state["count"] + 1}

    chain_graph = StateGraph(Count)
    chain_graph.add_node("step", step)
    chain_graph.add_edge(START, "step")
    chain_graph.add_conditional_edges("step", lambda state: "step" if state["count"] < j.STEPS else END)
    compiled = chain_graph.compile()

    async def chain() -> int:
        result = await compiled.ainvoke({"count": 0}, {"recursion_limit": j.STEPS + 1})
        return result["count"]

    def fan(fn):
        async def branch(state: dict[str, int]) -> Results:
            return {"results": [await fn(state["item"])]}

        graph = StateGraph(Results)
        graph.add_node("branch", branch)
        graph.add_conditional_edges(
            START, lambda _state: [Send("branch", {"item": item}) for item in range(j.BRANCHES)], ["branch"]
        )
        graph.add_edge("branch", END)
        built = graph.compile()

        async def job() -> int:
            return sum((await built.ainvoke({"results": []}))["results"])

        return job

    return {j.CHAIN: chain, j.FAN_OUT: fan(j.returns), j.FAN_OUT_WAIT: fan(j.waits)}
