"""dask.delayed with its threads, which has no coroutines: its steps are sync, and so is what it fans out."""

from __future__ import annotations

from benches.peers import jobs as j

PACKAGE, NAME = "dask", "dask.delayed, threads"


def jobs():
    import dask

    @dask.delayed
    def step(count: int) -> int:
        return count + 1

    plain = dask.delayed(j.plain)
    total = dask.delayed(sum)

    async def chain() -> int:
        count = 0
        for _ in range(j.STEPS):
            count = step(count)
        return count.compute()

    async def sync() -> int:
        return total([plain(item) for item in range(j.BRANCHES)]).compute()

    return {j.CHAIN: chain, j.SYNC: sync}
