from __future__ import annotations

from benches.peers import jobs as j

PACKAGE, NAME = "anyio", "anyio"


def jobs():
    import anyio
    import anyio.to_thread

    def fan(fn):
        async def job() -> int:
            results = [0] * j.BRANCHES

            async def one(item: int) -> None:
                results[item] = await fn(item)

            async with anyio.create_task_group() as group:
                for item in range(j.BRANCHES):
                    group.start_soon(one, item)
            return sum(results)

        return job

    async def first() -> int:
        winner = -1

        async def one(item: int) -> None:
            nonlocal winner
            winner = await j.races(item)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for item in range(j.RACERS):
                group.start_soon(one, item)
        return winner

    async def on_thread(item: int) -> int:
        return await anyio.to_thread.run_sync(j.plain, item)

    return {j.FAN_OUT: fan(j.returns), j.FAN_OUT_WAIT: fan(j.waits), j.ANY: first, j.SYNC: fan(on_thread)}
