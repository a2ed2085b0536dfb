"""What is aimed at: a row per figure, for the two interpreters it was set for."""

from __future__ import annotations

from dataclasses import dataclass

NATIVE, PURE, GATHER = "cano, native", "cano, pure Python", "asyncio.gather"
FAN_OUT = "cano.fan_out, native"

# How a row is judged.
FASTER = "faster"  # beside / ours, at least
COST = "cost"  # ours / beside, at most
MICROSECONDS = "µs"  # ours alone, at most


@dataclass(frozen=True)
class Aim:
    """One figure to reach.

    Args:
        group: The heading it stands under.
        what: What is measured, for the table.
        question, case: Where it is found in the results.
        ours, beside: The two contenders.
        at: What is aimed at on CPython 3.11 and on 3.14.
        kind: `FASTER`, `COST` or `MICROSECONDS`.
        loop: On which event loop.
    """

    group: str
    what: str
    question: str
    case: str
    ours: str
    beside: str
    at: tuple[float, float]
    kind: str = FASTER
    loop: str = "asyncio"


def _aims() -> list[Aim]:
    rows: list[Aim] = []
    group = "A split of async branches"
    for n, at in ((10, (10, 8)), (1_000, (25, 18)), (10_000, (40, 28)), (100_000, (80, 45))):
        rows.append(Aim(group, f"branches that return at once, N = {n:,}", "noop", f"n={n}", NATIVE, GATHER, at))
    for n, at in ((10_000, (6, 4.3)), (100_000, (9, 6))):
        rows.append(Aim(group, f"`sleep(0)`, N = {n:,}", "yields", f"n={n}", NATIVE, GATHER, at))
    for case, what, at in (
        ("a future each", "each on its own future", (3, 2.2)),
        ("one future for all", "all on one future", (9, 5)),
        ("Event.wait()", "`Event.wait()`", (2.5, 2)),
    ):
        rows.append(Aim(group, what, "futures", case, NATIVE, GATHER, at))
    group = "The engine's own waits"
    for case, beside in (
        ("cano.sleep / asyncio.sleep", "gather with `asyncio.sleep`"),
        ("attempt_timeout / asyncio.timeout, returns at once", "gather with `asyncio.timeout`"),
        ("attempt_timeout / asyncio.timeout, sleep(0)", "gather with `asyncio.timeout`"),
        ("bulkhead / Semaphore, returns at once", "gather with a `Semaphore`"),
        ("bulkhead / Semaphore, sleep(0)", "gather with a `Semaphore`"),
        ("bulkhead / Semaphore, sleeping", "gather with a `Semaphore`"),
    ):
        name, _, work = case.partition(" / ")
        what = f"`{name}`" + (work.partition(",")[2] and f", branches: {work.partition(', ')[2]}")
        rows.append(Aim(group, f"{what}; beside {beside}", "engine_waits", case, NATIVE, GATHER, (8, 8)))
    group = "Sync callables"
    case, beside = "on worker threads", "gather of asyncio.to_thread"
    rows.append(Aim(group, "on worker threads", "sync_calls", case, NATIVE, beside, (100, 100)))
    group = "The two engines"
    rows += [
        Aim(group, "native beside pure Python, at once", "noop", "n=10000", NATIVE, PURE, (30, 30)),
        Aim(group, "native beside pure Python, `sleep(0)`", "yields", "n=10000", NATIVE, PURE, (5, 5)),
        Aim(group, "pure Python beside gather, at once", "noop", "n=10000", PURE, GATHER, (1.5, 1.5), COST),
        Aim(group, "pure Python beside gather, `sleep(0)`", "yields", "n=10000", PURE, GATHER, (1.5, 1.5), COST),
        Aim(
            group,
            "pure Python beside gather, a future each",
            "futures",
            "a future each",
            PURE,
            GATHER,
            (1.5, 1.5),
            COST,
        ),
    ]
    group = "Runs and transitions"
    loop = "while loop by hand"
    rows += [
        Aim(group, "a transition", "chain", "async states", NATIVE, loop, (3, 3), COST),
        Aim(group, "a transition, alone", "chain", "async states", NATIVE, loop, (0.3, 0.3), MICROSECONDS),
        Aim(group, "a run of one state", "one_run", "one state", NATIVE, "await create_task(f())", (2.5, 2.5)),
    ]
    group = "`fan_out(fn, items)`, branches that return at once"
    for beside, at in (
        (GATHER, (40, 28)),
        ("asyncio.TaskGroup", (40, 40)),
        ("anyio task group", (150, 150)),
        ("aiometer.run_all", (250, 250)),
    ):
        rows.append(Aim(group, f"N = 10,000; beside {beside}", "fan_out", "returns at once", FAN_OUT, beside, at))
    rows.append(Aim(group, "`sleep(0)`; beside asyncio.gather", "fan_out", "sleep(0)", FAN_OUT, GATHER, (6, 4.3)))
    group = "Store"
    for beside in ("dict and Lock in a class", "dict and Lock written out"):
        rows.append(Aim(group, f"`put` and `get`; beside {beside}", "store", "put and get", NATIVE, beside, (1.3, 1.3)))
    group = "On uvloop, beside gather on uvloop"
    for question, case, what in (
        ("noop", "n=10000", "branches that return at once"),
        ("yields", "n=10000", "`sleep(0)`"),
        ("futures", "a future each", "each on its own future"),
        ("futures", "one future for all", "all on one future"),
        ("futures", "Event.wait()", "`Event.wait()`"),
        ("engine_waits", "cano.sleep / asyncio.sleep", "`cano.sleep`"),
        ("engine_waits", "bulkhead / Semaphore, sleep(0)", "bulkhead, `sleep(0)`"),
    ):
        rows.append(Aim(group, what, question, case, NATIVE, GATHER, (1, 1), loop="uvloop"))
    group = "Free-threaded CPython only"
    case = "CPU-bound sync branches"
    rows.append(
        Aim(
            group,
            "CPU-bound sync branches, two workers beside one, wall time",
            "parallel",
            case,
            "two workers",
            "one worker",
            (1.6, 1.6),
        )
    )
    return rows


AIMS = tuple(_aims())
MEMORY_AT_MOST = 0.6  # of gather's bytes per suspended branch
STALL_AT_MOST_MS = 10.0
