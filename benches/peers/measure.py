"""What one job costs with each of some libraries that take turns."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from benches.peers.jobs import EXPECTED

Job = Callable[[], Awaitable[int]]


@dataclass(frozen=True)
class Limits:
    rounds: int
    at_least: float = 0.01  # seconds that a turn takes, by `clock`
    deadline: float = 10  # seconds that one job may take at first
    # Seconds after which a turn is cut short, and no further round is begun once there are `enough`.
    patience: float = float("inf")
    enough: int = 3
    clock: Callable[[], float] = time.process_time


@asynccontextmanager
async def opened(module: ModuleType) -> AsyncIterator[dict[str, Job]]:
    """The jobs of a library; what it needs is started, if it has something to start, and stopped afterwards."""
    if hasattr(module, "session"):
        async with module.session() as jobs:
            yield jobs
    else:
        yield module.jobs()


async def compare(
    job: str, libraries: dict[ModuleType, Job], limits: Limits
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A record for each library that does the job, and why the others do not."""
    repeats: dict[ModuleType, int] = {}
    skipped: dict[str, str] = {}
    for module, fn in libraries.items():
        try:
            repeats[module] = await _check(job, fn, limits)
        except Exception as error:  # noqa: BLE001 - a library's mistake costs it its row, and no other's
            skipped[f"{module.NAME}, {job}"] = f"{type(error).__name__}: {error}"
    readings: dict[ModuleType, list[tuple[float, float]]] = {module: [] for module in repeats}
    turns = dict.fromkeys(repeats, 0)
    begun = time.perf_counter()
    for round_ in range(limits.rounds):
        if round_ >= limits.enough and time.perf_counter() - begun > limits.patience:
            break
        for module, repeat in repeats.items():
            fn = libraries[module]
            gc.collect()
            start, start_wall = limits.clock(), time.perf_counter()
            times = await _turn(fn, repeat, limits.patience)
            wall, taken = time.perf_counter() - start_wall, limits.clock() - start
            readings[module].append((taken / times * 1e6, wall / times * 1e6))
            turns[module] += times
    told = [f"{module.NAME} {min(cpu for cpu, _ in values):.0f}" for module, values in readings.items()]
    if told:
        print(f"{job}: {', '.join(told)}", file=sys.stderr)
    return [
        {
            "job": job,
            "peer": module.NAME,
            "version": version(module),
            "unit": "job",
            "best": min(cpu for cpu, _ in values),
            "wall": min(wall for _, wall in values),
            "turns": turns[module],
            "rounds": [round(cpu, 3) for cpu, _ in values],
        }
        for module, values in readings.items()
    ], skipped


def version(module: ModuleType) -> str | None:
    return importlib.metadata.version(module.PACKAGE) if module.PACKAGE else None


async def do(job: str, fn: Job, deadline: float) -> None:
    """Do a job once, and see that it was done."""
    try:
        result = await asyncio.wait_for(fn(), deadline)
    except TimeoutError:
        raise TimeoutError(f"it did not end within {deadline:g} s") from None
    if result != EXPECTED[job]:
        raise ValueError(f"expected {EXPECTED[job]}, but {result!r} came")


async def _turn(fn: Job, repeat: int, patience: float) -> int:
    """How often the job was done."""
    if patience == float("inf"):  # where the fastest jobs are, no clock is asked in between
        for _ in range(repeat):
            await fn()
        return repeat
    begun = time.perf_counter()
    times = 0
    while times < repeat and time.perf_counter() - begun <= patience:
        await fn()
        times += 1
    return times


async def _check(job: str, fn: Job, limits: Limits) -> int:
    """See that it does the job, and find out how often a turn should do it."""
    begun = time.perf_counter()
    await do(job, fn, limits.deadline)
    if time.perf_counter() - begun > limits.patience / 2:
        return 1  # so slow that doing it again only to see how slow it is would be a waste
    start = limits.clock()
    await do(job, fn, limits.deadline)
    taken = limits.clock() - start
    # A job that waits is not repeated for long: its waits are not counted, but they pass.
    return max(1, min(200 if "wait" not in job else 20, round(limits.at_least / max(taken, 1e-6))))
