from __future__ import annotations

import functools

from benches.peers import jobs as j

PACKAGE, NAME = "aiometer", "aiometer"


def jobs():
    import aiometer

    def run_all(fn):
        async def job() -> int:
            return sum(await aiometer.run_all([functools.partial(fn, item) for item in range(j.BRANCHES)]))

        return job

    async def first() -> int:
        return await aiometer.run_any([functools.partial(j.races, item) for item in range(j.RACERS)])

    return {j.FAN_OUT: run_all(j.returns), j.FAN_OUT_WAIT: run_all(j.waits), j.ANY: first}
