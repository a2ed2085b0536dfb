"""The hot paths whose instructions are counted: `python -m benches.guard.paths PATH N` takes one N times
(with `--beside`, its like under asyncio.gather).

Nothing else may happen in such a process that depends on N, the clock or the order of a hash. So the loop's clock stands
still within a turn: valgrind is fifty times slower than the processor, and time slices would end fifty times as often.
(The engine asks such a clock by a call instead of reading a counter: some fifty instructions more per branch.)
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import cano
from cano import JoinConfig, JoinStrategy, Workflow, fan_out


async def returns(item: int) -> int:
    return item


async def yields(item: int) -> int:
    await asyncio.sleep(0)
    return item


async def sleeps(_item: int) -> None:
    await cano.sleep(0.001)


def calls(item: int) -> int:
    return item


def _split(fn: Any, n: int, **options: Any) -> Callable[[], Awaitable[Any]]:
    bulkhead = options.pop("bulkhead", None)
    join = JoinConfig(JoinStrategy.All, "end", bulkhead=bulkhead)
    workflow = Workflow[str](engine="native").register_map("split", fn, range(n), join, **options)
    workflow.add_exit_state("end")
    return lambda: workflow.orchestrate("split")


async def own_future(_item: int) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


async def sleeps_asyncio(_item: int) -> None:
    await asyncio.sleep(0.001)


def _on_one_future(n: int, gathered: bool) -> Callable[[], Awaitable[Any]]:
    async def job() -> None:
        future = asyncio.get_running_loop().create_future()

        async def waits(_item: int) -> None:
            await future

        asyncio.get_running_loop().call_later(1, future.set_result, None)
        await (_gather(waits, n) if gathered else _split(waits, n))()

    return job


def _gather(fn: Any, n: int) -> Callable[[], Awaitable[Any]]:
    async def job() -> None:
        await asyncio.gather(*[fn(item) for item in range(n)])

    return job


def _chain(n: int) -> Callable[[], Awaitable[Any]]:
    left = n

    async def step() -> str:
        nonlocal left
        left -= 1
        return "a" if left else "end"

    workflow = Workflow[str](engine="native").register("a", step).add_exit_state("end")
    return lambda: workflow.orchestrate("a")


def _runs(n: int) -> Callable[[], Awaitable[Any]]:
    async def only() -> str:
        return "end"

    workflow = Workflow[str](engine="native").register("a", only).add_exit_state("end")

    async def job() -> None:
        for _ in range(n):
            await workflow.orchestrate("a")

    return job


def _small_fan_outs(n: int) -> Callable[[], Awaitable[Any]]:
    async def job() -> None:
        for _ in range(n):
            await fan_out(returns, range(10), engine="native")

    return job


def _store(n: int) -> Callable[[], Awaitable[Any]]:
    async def job() -> None:
        store = Workflow[str](engine="native").store
        for value in range(n):
            store.put("key", value)
            store.get("key")

    return job


# By name: what makes the job for n, and the two sizes whose difference is taken.
PATHS: dict[str, tuple[Callable[[int], Callable[[], Awaitable[Any]]], int, int]] = {
    "branch that returns at once": (lambda n: _split(returns, n), 2_000, 22_000),
    "branch with sleep(0)": (lambda n: _split(yields, n), 1_000, 9_000),
    "branch with cano.sleep": (lambda n: _split(sleeps, n), 1_000, 9_000),
    "branch on its own future": (lambda n: _split(own_future, n), 1_000, 9_000),
    "branch on one future for all": (lambda n: _on_one_future(n, False), 1_000, 9_000),
    "branch behind a bulkhead": (lambda n: _split(returns, n, bulkhead=100), 2_000, 22_000),
    "branch with attempt_timeout": (lambda n: _split(returns, n, attempt_timeout=1e6), 2_000, 22_000),
    "sync branch, inline": (lambda n: _split(calls, n, inline=True), 2_000, 22_000),
    "transition": (_chain, 2_000, 22_000),
    "run of one state": (_runs, 500, 2_500),
    "fan_out of ten": (_small_fan_outs, 200, 1_200),
    "store put and get": (_store, 2_000, 22_000),
}

# The same under asyncio.gather, to be shown beside; nothing fails for them.
BESIDE: dict[str, tuple[Callable[[int], Callable[[], Awaitable[Any]]], int, int]] = {
    "branch that returns at once": (lambda n: _gather(returns, n), 2_000, 22_000),
    "branch with sleep(0)": (lambda n: _gather(yields, n), 1_000, 9_000),
    "branch with cano.sleep": (lambda n: _gather(sleeps_asyncio, n), 1_000, 9_000),
    "branch on its own future": (lambda n: _gather(own_future, n), 1_000, 9_000),
    "branch on one future for all": (lambda n: _on_one_future(n, True), 1_000, 9_000),
}

NOW = [0.0]


class _Selector(selectors.DefaultSelector):
    """Lets time pass instead of waiting."""

    def select(self, timeout: float | None = None) -> Any:
        NOW[0] += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose clock goes on between its turns only, and is read without a step of Python."""

    time = staticmethod(functools.partial(NOW.__getitem__, 0))  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(_Selector())


def main() -> None:
    make, *_ = (BESIDE if "--beside" in sys.argv else PATHS)[sys.argv[1]]

    async def once() -> None:
        await make(50)()  # what happens only once is done at both sizes
        await make(int(sys.argv[2]))()

    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(once())


if __name__ == "__main__":
    main()
