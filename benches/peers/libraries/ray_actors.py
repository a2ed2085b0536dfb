"""Ray on this machine: an async actor for what is async, tasks for what is not."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import asynccontextmanager

from benches.peers import jobs as j

PACKAGE, NAME = "ray", "ray"
OBJECT_STORE = 100 * 2**20  # bytes, and little more than the least that it takes


class Worker:
    def __init__(self) -> None:
        self.count = 0

    async def restart(self) -> None:
        self.count = 0

    async def step(self) -> int:
        self.count += 1
        return self.count

    async def returns(self, item: int) -> int:
        return await j.returns(item)

    async def waits(self, item: int) -> int:
        return await j.waits(item)

    async def races(self, item: int) -> int:
        return await j.races(item)


@asynccontextmanager
async def session():
    # Nobody outside is told, and there is nobody to keep out.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE,
        log_to_driver=False,
        logging_level="error",
        _temp_dir=tempfile.mkdtemp(),
    )
    try:
        worker = ray.remote(num_cpus=0, max_concurrency=j.BRANCHES)(Worker).remote()
        plain = ray.remote(j.plain)

        async def chain() -> int:
            await worker.restart.remote()
            while (count := await worker.step.remote()) < j.STEPS:
                pass
            return count

        def fan(remote):
            async def job() -> int:
                return sum(await asyncio.gather(*[remote.remote(item) for item in range(j.BRANCHES)]))

            return job

        async def first() -> int:
            done, pending = ray.wait([worker.races.remote(item) for item in range(j.RACERS)], num_returns=1)
            for ref in pending:
                ray.cancel(ref)
            # (A cancellation that comes before its task is tried again two seconds later: the wall clock shows it.)
            await asyncio.gather(*pending, return_exceptions=True)
            return await done[0]

        yield {
            j.CHAIN: chain,
            j.FAN_OUT: fan(worker.returns),
            j.FAN_OUT_WAIT: fan(worker.waits),
            j.ANY: first,
            j.SYNC: fan(plain),
        }
    finally:
        ray.shutdown()
