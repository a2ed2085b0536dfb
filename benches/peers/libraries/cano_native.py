from __future__ import annotations

from benches.peers import jobs as j

from cano import JoinStrategy, Workflow, fan_out

PACKAGE, NAME = "cano", "cano, native"
ENGINE = "native"


def jobs(engine: str = ENGINE):
    async def step(store) -> str:
        store.put("count", store.get("count") + 1)
        return "step" if store.get("count") < j.STEPS else "end"

    workflow = Workflow[str](engine=engine).register("step", step).add_exit_state("end")

    async def chain() -> int:
        workflow.store.put("count", 0)
        await workflow.orchestrate("step")
        return workflow.store.get("count")

    def fan(fn):
        async def job() -> int:
            return sum((await fan_out(fn, range(j.BRANCHES), engine=engine)).outputs())

        return job

    async def first() -> int:
        split = await fan_out(j.races, range(j.RACERS), strategy=JoinStrategy.Any, engine=engine)
        return split.outputs()[0]

    return {
        j.CHAIN: chain,
        j.FAN_OUT: fan(j.returns),
        j.FAN_OUT_WAIT: fan(j.waits),
        j.ANY: first,
        j.SYNC: fan(j.plain),
    }
