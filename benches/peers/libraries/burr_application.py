from __future__ import annotations

from benches.peers import jobs as j

PACKAGE, NAME = "burr", "burr"


def jobs():
    from burr.core import ApplicationBuilder, State, action, when

    @action(reads=["count"], writes=["count"])
    async def step(state: State) -> State:
        return state.update(count=state["count"] + 1)

    @action(reads=["count"], writes=[])
    async def end(state: State) -> State:
        return state

    builder = (
        ApplicationBuilder()
        .with_actions(step=step, end=end)
        .with_transitions(("step", "end", when(count=j.STEPS)), ("step", "step"))
        .with_entrypoint("step")
        .with_state(count=0)
    )

    async def chain() -> int:
        # An application is one run: it keeps its own state.
        application = await builder.copy().abuild() if hasattr(builder, "copy") else await builder.abuild()
        *_, state = await application.arun(halt_after=["end"])
        return state["count"]

    return {j.CHAIN: chain}
