"""Which cells of strategy, decision and fault generated splits reach, and which ones cannot be reached, with the reason.

A cell is about one split: by which strategy it was joined, how that ended, and what went wrong meanwhile. One split may
reach several: a failure and a loser, say.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.properties.recipes import Cook
from tests.properties.world import Recipe, World

from cano import BranchCancelledError, JoinError, JoinStrategy, RunEvent, SplitTimeoutError

STRATEGIES = (
    "all", "all, patient", "any", "any, hedged", "quorum", "percentage", "partial_results", "partial_timeout", "custom",
)  # fmt: skip
DECISIONS = ("proceeds", "fails", "times out", "source fails", "strategy fails", "cancelled")
FAULTS = ("nothing", "failure", "retry", "attempt timed out", "own cancellation", "loser")

Cell = tuple[str, str, str]


class OneSplit(Cook):
    """Makes recipes of one state: a split with a given strategy."""

    def __init__(self, seed: int, strategy: str) -> None:
        super().__init__(f"{strategy} {seed}")  # type: ignore[arg-type]
        self.strategy, _, self.manner = strategy.partition(", ")
        self.threads = False
        self.left = 12

    def run(self) -> Recipe:
        gates = [self.duration() for _ in range(2)]
        return {
            "states": [{"kind": "split", "next": 1, **self.split(depth=3)}],
            "gates": gates,
            "introspect": False,
            "max_transitions": None,
            "timeout": self.duration() * 2 if self.chance(0.1) else None,
            "observer": "none",
            "stop": self.stop(gates) if self.chance(0.4) else None,
        }

    def stop(self, gates: list[float]) -> Any:
        stop = super().stop(gates)
        return stop if stop is None or stop[0] == "turn" else (stop[0], self.duration(), stop[2])

    def duration(self) -> float:
        """Close together, so that what is to coincide does."""
        return 0.2 + self.random.random()

    def split(self, depth: int) -> Recipe:
        recipe = super().split(depth)
        branches = recipe["branches"]
        recipe["strategy"] = self.strategy
        recipe["fail_fast"] = self.manner != "patient"
        recipe["hedge_delay"] = self.duration() / 2 if self.manner == "hedged" else None
        recipe["min_successes"] = self.random.randint(0, len(branches)) if self.strategy == "partial_timeout" else 0
        if self.strategy == "partial_timeout" and recipe["timeout"] is None:
            recipe["timeout"] = self.duration() * 2
        # What is rare is forced, so that it meets everything else.
        for branch in branches:
            if self.chance(0.2):
                branch["steps"] = [("pause", self.duration()), ("fail", "CancelledError", True)]
            elif self.chance(0.1):  # a loser that is still there when something else happens
                branch["steps"] = [("clean up", [("pause", 9.0)], [("pause", 2 * self.duration())])]
            elif self.chance(0.2):  # the first attempt runs out of time, a later one finds the gate open
                branch["steps"] = [("gate", 1)]
        if self.chance(0.3):
            recipe["attempt_timeout"] = self.duration()
            recipe["retry"] = {"kind": "fixed", "retries": 3, "delay": self.duration() / 4, "max_elapsed": None}
        if self.chance(0.1):
            recipe["source"] = "broken"
        elif self.chance(0.1):  # it takes longer than the split may
            recipe |= {"source": "async function", "share": 0.9, "timeout": self.duration() / 2}
        if self.chance(0.5):
            recipe["answers"] = ["wait"] * len(branches) + ["fail"]
        return recipe


class Reaches:
    """An observer that writes down the cells of a run's one split."""

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy
        self.cells: set[Cell] = set()
        self.faults: set[str] = set()

    def on_branch_failure(self, event: RunEvent) -> None:
        self.faults.add("own cancellation" if isinstance(event.error, BranchCancelledError) else "failure")

    def on_retry(self, event: RunEvent) -> None:
        self.faults.add("retry")

    def on_timeout(self, event: RunEvent) -> None:
        if event.branch is not None:
            self.faults.add("attempt timed out")

    def on_branch_cancelled(self, event: RunEvent) -> None:
        self.faults.add("loser")

    def on_join(self, event: RunEvent) -> None:
        error = event.error
        if error is None:
            decision = "proceeds"
        elif isinstance(error, JoinError):
            decision = "fails"
        elif isinstance(error, SplitTimeoutError):
            decision = "times out"
        elif "the source of" in str(error):
            decision = "source fails"
        elif "JoinStrategy.Custom must answer" in str(error):
            decision = "strategy fails"
        else:
            decision = "cancelled"
        self.cells |= {(self.strategy, decision, fault) for fault in self.faults or {"nothing"}}


class _World(World):
    def __init__(self, recipe: Recipe, engine: str, observer: Reaches) -> None:
        super().__init__(recipe, engine)
        self.observer = observer

    def workflow(self) -> Any:
        return super().workflow().add_observer(self.observer)

    def strategy(self, split: Recipe) -> JoinStrategy:
        """A source without a length may have fewer branches than are wanted."""
        lazy = split["source"] not in ("list", "function", "async function")
        if lazy and split["strategy"] in ("quorum", "partial_results"):
            make = JoinStrategy.Quorum if split["strategy"] == "quorum" else JoinStrategy.PartialResults
            return make(split["n"])
        return super().strategy(split)

    def source(self, split: Recipe, place: str) -> Any:
        """One that fails before its first item, besides those that fail after their last."""
        if split["source"] != "broken":
            return super().source(split, place)

        def broken() -> Any:
            raise OSError(place)

        return broken


def reached(strategy: str, engine: str, wanted: set[Cell], most: int) -> tuple[set[Cell], int]:
    """The cells that the generated splits of a strategy reach until all that are wanted are, and how many splits it took."""
    cells: set[Cell] = set()
    seeds = 0
    while seeds < most and not wanted <= cells:
        observer = Reaches(strategy)
        _World(OneSplit(seeds, strategy).run(), engine, observer).run()
        cells |= observer.cells
        seeds += 1
    return cells, seeds


def impossible(strategy: str, decision: str, fault: str) -> str:
    """Why a cell cannot be reached; empty if it can."""
    kind = strategy.partition(",")[0]
    failed = fault in ("failure", "own cancellation")
    if decision == "strategy fails" and kind != "custom":
        return "only the function of a Custom can fail"
    if decision == "times out" and kind == "partial_timeout":
        return "its deadline decides it: it proceeds or fails"
    if kind == "all" and decision == "proceeds" and (failed or fault == "loser"):
        return "every branch has succeeded"
    if kind in ("all", "percentage") and decision == "fails" and fault == "nothing":
        return "without a failure it does not fail, also of no branches"
    if strategy == "all" and decision in ("times out", "source fails") and failed:
        return "the first failure has decided it before"
    if strategy in ("all, patient", "any", "any, hedged") and decision == "fails" and fault == "loser":
        return "every branch has ended"
    return ""


def cells() -> Iterator[Cell]:
    yield from itertools.product(STRATEGIES, DECISIONS, FAULTS)
