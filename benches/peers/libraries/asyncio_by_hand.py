from __future__ import annotations

import asyncio

from benches.peers import jobs as j

PACKAGE, NAME = None, "asyncio, by hand"


def jobs():
    async def chain() -> int:
        state = {"count": 0}

        async def step() -> str:
            state["count"] += 1
            return "step" if state["count"] < j.STEPS else "end"

        tasks = {"step": step}
        name = "step"
        while name != "end":
            name = await tasks[name]()
        return state["count"]

    def fan(fn):
        async def job() -> int:
            return sum(await asyncio.gather(*[fn(item) for item in range(j.BRANCHES)]))

        return job

    async def first() -> int:
        tasks = [asyncio.ensure_future(j.races(item)) for item in range(j.RACERS)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return done.pop().result()

    async def sync() -> int:
        return sum(await asyncio.gather(*[asyncio.to_thread(j.plain, item) for item in range(j.BRANCHES)]))

    return {
        j.CHAIN: chain,
        j.FAN_OUT: fan(j.returns),
        j.FAN_OUT_WAIT: fan(j.waits),
        j.ANY: first,
        j.SYNC: sync,
    }
