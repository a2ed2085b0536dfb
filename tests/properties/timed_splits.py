"""Timed splits, as plain data: what each attempt does and how long that takes, and all that is asked of the split.

Every duration is a random multiple of 2**-30 seconds. Sums of those are exact, so times are compared with `==`; and with a
billion of them in a second, two things fall on one instant only if they follow from each other. Branches that begin together
must not time out together, so each has a limit of its own; one limit for all goes with a source that gives one at a time.
Nor may a limit and a retry's delay be waited for in either order: where one branch begins as another's limit is over, and that
one is retried, both come to the same sum. So what has one limit and retries has no bulkhead.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

GRID = 2.0**30

DOORS = ("fan_out", "workflow", "as_completed")
STRATEGIES = ("all", "any", "quorum", "percentage", "partial results", "partial timeout")
SOURCES = ("list", "sized", "function", "generator", "async generator", "async function")
PAUSES = ("asyncio", "cano", "cano, in a task")


@dataclass(frozen=True)
class Attempt:
    """What one attempt of a branch does."""

    lasts: float
    succeeds: bool
    cleans_up: float  # for how long, once it is told to stop
    goes_on: float | None  # takes its first cancellation back, and works for so long yet


@dataclass(frozen=True)
class Branch:
    """The attempts that a branch may come to, and its own `attempt_timeout`."""

    attempts: tuple[Attempt, ...]
    limit: float | None


@dataclass(frozen=True)
class Again:
    """A retry policy."""

    kind: str
    retries: int
    delay: float
    factor: float
    most: float
    max_elapsed: float | None

    def delay_before(self, retry: int) -> float:
        if self.kind == "fixed":
            return self.delay
        return min(self.delay * self.factor ** (retry - 1), self.most)


@dataclass(frozen=True)
class TimedSplit:
    """One split; the last fields are those of whoever takes the rows of `as_completed` one by one."""

    seed: int
    door: str
    introspect: bool
    strategy: str
    need: int
    share: float
    fail_fast: bool
    timeout: float | None
    bulkhead: int | None
    hedge_delay: float | None
    limit: float | None  # the split's `attempt_timeout`
    retry: Again | None
    source: str
    gaps: tuple[float, ...]  # how long an async source takes for each item, and to end
    pause: str
    branches: tuple[Branch, ...]
    stop: tuple[str, float] | None  # who ends the run from outside, and when
    ordered: bool
    buffer: int | None
    slow: tuple[float, ...]  # how long each row takes
    leaves: int | None  # breaks off after so many rows

    @property
    def total(self) -> int | None:
        """N, where it is known at the beginning."""
        return len(self.branches) if self.source in ("list", "sized", "function") else None


class Dice:
    """Draws a split."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(f"timed split {seed}")

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def duration(self, about: float = 1.0) -> float:
        seconds = about * self.random.choice((0.1, 1.0, 1.0, 3.0)) * (0.1 + self.random.random())
        return round(seconds * GRID) / GRID

    def perhaps(self, share: float, about: float = 1.0) -> float | None:
        return self.duration(about) if self.chance(share) else None

    def split(self) -> TimedSplit:
        dice = self.random
        count = dice.choice((0, 1, 2, 3, 4, 5, 6, 8, 12))
        door = dice.choice(DOORS)
        strategy = "all" if door == "as_completed" else dice.choice(STRATEGIES)
        sources = [source for source in SOURCES if door != "workflow" or source != "sized"]
        source = dice.choice(sources)
        limited = self.chance(0.4)
        ends_by_limit = strategy == "partial timeout"
        split = TimedSplit(
            seed=self.seed,
            door=door,
            introspect=door == "workflow" and self.chance(0.3),
            strategy=strategy,
            need=dice.randint(0, count),
            share=dice.choice((0.07, 0.3, 0.5, 1.0, 1 - dice.random())),
            fail_fast=self.chance(0.6),
            timeout=self.perhaps(1.0 if ends_by_limit else 0.35, 3.0),
            bulkhead=dice.choice((None, None, 1, 2, 3)),
            hedge_delay=self.perhaps(0.7, 0.6) if strategy == "any" else None,
            limit=self.duration(1.5) if limited and source == "async generator" else None,
            retry=self.again() if self.chance(0.5) else None,
            source=source,
            gaps=tuple(self.duration(0.5) for _ in range(count + 1)),
            pause=dice.choice(PAUSES),
            branches=tuple(self.branch(limited=limited and door == "workflow") for _ in range(count)),
            stop=self.stop(door) if self.chance(0.4 if door == "workflow" else 0.15) else None,
            ordered=self.chance(0.5),
            buffer=dice.choice((None, 1, 2, 3)),
            slow=tuple(self.perhaps(0.6, 0.7) or 0.0 for _ in range(count)),
            leaves=dice.randint(1, count) if count and self.chance(0.15) else None,
        )
        return replace(split, bulkhead=None) if split.limit is not None and split.retry is not None else split

    def again(self) -> Again:
        return Again(
            kind=self.random.choice(("fixed", "exponential")),
            retries=self.random.randint(0, 3),
            delay=self.duration(),
            factor=self.random.choice((1.0, 1.25, 1.5, 2.0)),
            most=self.duration(2.0),
            max_elapsed=self.perhaps(0.3, 4.0),
        )

    def branch(self, *, limited: bool) -> Branch:
        attempts = tuple(self.attempt() for _ in range(4))
        return Branch(attempts, self.duration(1.5) if limited else None)

    def attempt(self) -> Attempt:
        return Attempt(
            lasts=self.duration(),
            succeeds=self.chance(0.5),
            cleans_up=self.perhaps(0.5) or 0.0,
            goes_on=self.perhaps(0.1, 0.8),
        )

    def stop(self, door: str) -> tuple[str, float]:
        who = self.random.choice(("task", "token", "run's timeout")) if door == "workflow" else "task"
        return who, self.duration(2.0)
