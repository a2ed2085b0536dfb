"""How a thing is timed here: interleaved, in CPU time, the best of several rounds.

The contenders of one case take turns within every round, so that whatever the machine does meanwhile (another process,
a change of clock frequency) meets them alike. What is read is the CPU time of the whole process, worker threads
included: what was waited for costs nothing, what was computed counts wherever it ran. The collector runs before every
turn, outside the measurement, and inside it whenever it likes, as it does for users. The best round is the one that
other processes disturbed least; noise only ever adds.

A contender is the user's whole cost: from the items to the results.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Job = Callable[[], Awaitable[Any]] | Callable[[], Any]


@dataclass(frozen=True)
class Budget:
    """How much a run of the benchmarks measures.

    Args:
        rounds: How often every contender has its turn within one pass.
        largest: The largest number of branches that is tried.
        shrink: What numbers of operations are divided by: 1 to measure, more to see quickly that everything runs.
    """

    rounds: int
    largest: int
    shrink: int

    def at_least(self, operations: int, n: int) -> int:
        """How often a job of `n` operations has to be repeated to be worth a reading of the clock."""
        return max(1, operations // self.shrink // n)


FULL = Budget(rounds=5, largest=1_000_000, shrink=1)
QUICK = Budget(rounds=2, largest=1_000, shrink=10)


@dataclass(frozen=True)
class Case:
    """Jobs that do the same thing in different ways.

    Args:
        case: What is done, unique within its question.
        n: How many branches (states, calls) one execution of a job has.
        unit: What the figures are per: "branch", "transition", "run", "pair".
        contenders: The jobs by name, in the order they are shown.
        repeat: How often a job is executed within one turn.
        rounds: Instead of the budget's.
    """

    case: str
    n: int
    unit: str
    contenders: dict[str, Job]
    repeat: int = 1
    rounds: int | None = None
    skipped: dict[str, str] = field(default_factory=dict)


async def measure(case: Case, budget: Budget) -> dict[str, Any]:
    """Time a case's contenders against one another.

    Returns:
        The record that goes into the results: the best and every round, in microseconds of CPU time per unit.
    """
    # Enough tries for the small ones, where a turn is over in a blink.
    rounds = case.rounds or (budget.rounds if case.n * case.repeat > 20_000 else budget.rounds + 2)
    readings: dict[str, list[float]] = {name: [] for name in case.contenders}
    for round_ in range(rounds + 1):
        for name, job in case.contenders.items():
            taken = await _turn(job, case.repeat)
            if round_:  # the first warms caches, pools and the adaptive interpreter
                readings[name].append(taken / (case.n * case.repeat) * 1e6)
    return {
        "case": case.case,
        "n": case.n,
        "unit": case.unit,
        "repeat": case.repeat,
        "contenders": {
            name: {"best": min(values), "rounds": [round(value, 5) for value in values]}
            for name, values in readings.items()
        },
        "skipped": case.skipped,
    }


async def _turn(job: Job, repeat: int) -> float:
    # What the one before left in the loop is not this one's: 100,000 tasks under gather leave 30 ms to its next turn.
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    if inspect.iscoroutinefunction(job):
        start = time.process_time()
        for _ in range(repeat):
            await job()
        return time.process_time() - start
    start = time.process_time()
    for _ in range(repeat):
        job()
    return time.process_time() - start


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new event loop: `"asyncio"` or `"uvloop"`.

    Raises:
        ImportError: uvloop is not installed.
    """
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def run_in(loop_name: str, coroutine: Any) -> Any:
    """Run a coroutine to its end in a loop of the given kind."""
    with asyncio.Runner(loop_factory=lambda: new_loop(loop_name)) as runner:
        return runner.run(coroutine)
