"""Where the engine gains little, and where it costs more than doing without."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator

from benches.python.harness import Budget, Case
from benches.python.questions.common import GATHER, NATIVE, by_gather, by_workflow

from cano import JoinConfig, JoinStrategy, Workflow, fan_out

WORK = 200e-6  # seconds of CPU time: about what a client library takes for one small HTTP request


def _worker() -> Callable[[], object]:
    """Work of a fixed size that takes about `WORK` here; a clock inside would hide what is gained.

    In C: a loop in Python takes five percent more or less depending on where it is called from, and two are looked for.
    """
    best = min(_taken(b"x" * 100_000) for _ in range(50))
    data = b"x" * int(100_000 * WORK / best)
    return lambda: hashlib.sha256(data).digest()


def _taken(data: bytes) -> float:
    start = time.process_time()
    hashlib.sha256(data).digest()
    return time.process_time() - start


def cases(budget: Budget) -> Iterator[Case]:
    n = 250 // budget.shrink
    work = _worker()

    async def calls(item: int) -> int:
        await asyncio.sleep(0)
        work()
        return item

    yield Case(
        "branches that work for 200 µs",
        n,
        "branch",
        {NATIVE: by_workflow(calls, n, "native"), GATHER: by_gather(calls, n)},
        rounds=4 * budget.rounds,  # two percent are easily lost in noise
    )

    async def returns(item: int) -> int:
        return item

    async def yields(item: int) -> int:
        await asyncio.sleep(0)
        return item

    async def in_a_row() -> None:
        [await returns(item) for item in range(10_000)]

    async def fanned() -> None:
        await fan_out(returns, range(10_000), engine="native")

    yield Case(
        "fan_out where a plain loop would do",
        10_000,
        "branch",
        {"cano.fan_out, native": fanned, "[await f(i) for i in items]": in_a_row},
    )

    join = JoinConfig(JoinStrategy.All, "end")
    real = Workflow[str](engine="native", introspect=True)
    real.register_map("split", yields, range(10_000), join).add_exit_state("end")

    async def introspected() -> None:
        await real.orchestrate("split")

    yield Case(
        "introspect=True: real tasks, sleep(0)",
        10_000,
        "branch",
        {"cano, native, introspect=True": introspected, GATHER: by_gather(yields, 10_000)},
    )
