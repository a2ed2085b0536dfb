"""Prefect with the server that it starts for itself, a flow per job and a task per branch, nothing of it logged."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import asynccontextmanager

from benches.peers import jobs as j

PACKAGE, NAME = "prefect", "prefect"
SETTINGS = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    # A server of its own, on a database of its own, whatever the user's profile says; and nobody outside is told.
    "PREFECT_API_URL": "",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


@asynccontextmanager
async def session():
    os.environ |= {**SETTINGS, "PREFECT_HOME": tempfile.mkdtemp()}
    from prefect import get_client

    async with get_client() as client:
        problem = await client.api_healthcheck()
        if problem is not None:
            raise problem
    yield _jobs()


def _jobs():
    from prefect import flow, task

    @task
    async def step(count: int) -> int:
        return count + 1

    @flow
    async def chain() -> int:
        count = 0
        while count < j.STEPS:
            count = await step(count)
        return count

    def fan(fn):
        branch = task(fn)

        @flow
        async def job() -> int:
            return sum(await asyncio.gather(*[branch(item) for item in range(j.BRANCHES)]))

        return job

    races, plain = task(j.races), task(j.plain)

    @flow
    async def first() -> int:
        branches = [asyncio.ensure_future(races(item)) for item in range(j.RACERS)]
        done, pending = await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
        for branch in pending:
            branch.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return done.pop().result()

    @flow
    def on_threads() -> int:
        return sum(plain.map(range(j.BRANCHES)).result())

    async def sync() -> int:
        return await asyncio.to_thread(on_threads)

    return {j.CHAIN: chain, j.FAN_OUT: fan(j.returns), j.FAN_OUT_WAIT: fan(j.waits), j.ANY: first, j.SYNC: sync}
