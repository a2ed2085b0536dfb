"""dask.distributed, scheduler and worker in this process, which is as little as it can be."""

from __future__ import annotations

from contextlib import asynccontextmanager

from benches.peers import jobs as j

PACKAGE, NAME = "distributed", "dask.distributed, in-process"
# It forgets the future; the coroutine runs on, and keeps its worker's thread from everybody else.
LEFT_OUT = {j.ANY: "it does not cancel a coroutine that has begun"}


async def step(count: int) -> int:
    return count + 1


@asynccontextmanager
async def session():
    from dask.distributed import Client, LocalCluster

    cluster = LocalCluster(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None, asynchronous=True
    )
    async with cluster, Client(cluster, asynchronous=True) as client:

        async def chain() -> int:
            count = 0
            for _ in range(j.STEPS):
                count = client.submit(step, count, pure=False)
            return await count

        # `pure=False`: or the second time it would remember the results of the first.
        def fan(fn):
            async def job() -> int:
                return sum(await client.gather(client.map(fn, range(j.BRANCHES), pure=False)))

            return job

        yield {j.CHAIN: chain, j.FAN_OUT: fan(j.returns), j.FAN_OUT_WAIT: fan(j.waits), j.SYNC: fan(j.plain)}
