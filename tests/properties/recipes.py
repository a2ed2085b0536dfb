"""Random workflows, as plain data: what a seed stands for can be printed, compared and cut down.

Times are random floats, so that no two timers of a run fall on one moment: what happens at one moment then happens in
an order that the engine decides, not the event loop's heap.
"""

from __future__ import annotations

import random
from typing import Any

Recipe = dict[str, Any]

STRATEGIES = ("all", "any", "quorum", "percentage", "partial_results", "partial_timeout", "custom")
ERRORS = ("ValueError", "KeyError", "OSError", "StopAsyncIteration", "Strange", "CancelledError", "AssertionError")


class Cook:
    """Makes recipes from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.others = random.Random(f"options of branches {seed}")  # came later: seeds mean what they meant before
        self.pauses = random.Random(f"how pauses are awaited {seed}")  # so did this
        self.threads = True
        self.left = 60  # how many more steps there may be: keeps a run small, however it nests

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def duration(self) -> float:
        return self.random.choice((0.01, 1.0, 1.0, 10.0)) * (0.1 + self.random.random())

    # --- a run ---

    def run(self) -> Recipe:
        count = self.random.randint(1, 5)
        gates = [self.duration() for _ in range(2)]
        stop = self.stop(gates)
        # On a thread a task takes no virtual time, but some turns of the loop, and never the same number.
        self.threads = stop is None or stop[0] != "turn"
        return {
            "states": [self.state(index, count) for index in range(count)],
            "gates": gates,
            "introspect": self.chance(0.1),
            "max_transitions": self.random.choice((None, None, 3, 20)),
            "timeout": self.duration() * 4 if self.chance(0.2) else None,
            "observer": self.random.choice(("none", "recording", "recording", "raising")),
            "stop": stop,
        }

    def stop(self, gates: list[float]) -> Any:
        """How the run is ended from outside, if it is: at some moment, or so many turns into one when much happens."""
        kind = self.random.choice(("none", "none", "none", "task", "token", "twice", "turn"))
        if kind == "none":
            return None
        if kind == "turn":
            return kind, self.random.choice((0.0, *gates)), self.random.randint(0, 12)
        return kind, self.duration() * 3, self.duration()

    def state(self, index: int, count: int) -> Recipe:
        """A state leads to a later one, so that every run ends; sometimes back, once."""
        following = self.random.randint(index + 1, count)
        back = self.random.randint(0, index) if self.chance(0.1) else None
        if self.chance(0.6):
            return {"kind": "split", "next": following, **self.split(depth=1)}
        answer = self.split(depth=1) if self.chance(0.25) else None
        return {
            "kind": "task",
            "next": following,
            "back": back,
            "sync": self.chance(0.2),
            "inline": self.chance(0.7) or not self.threads,
            "steps": self.steps(1),
            "split": answer,
            **self.policy(),
        }

    def policy(self) -> Recipe:
        retry = None
        if self.chance(0.35):
            retry = {
                "kind": self.random.choice(("fixed", "exponential")),
                "retries": self.random.randint(1, 3),
                "delay": 0.0 if self.chance(0.15) else self.duration(),
                "max_elapsed": self.duration() * 5 if self.chance(0.2) else None,
            }
        return {"retry": retry, "attempt_timeout": self.duration() if self.chance(0.2) else None}

    # --- a split ---

    def split(self, depth: int) -> Recipe:
        strategy = self.random.choice(STRATEGIES)
        count = self.random.choice((0, 1, 2, 3, 3, 4, 5, 7))
        recipe: Recipe = {
            "strategy": strategy,
            "n": self.random.randint(0, max(1, count)) if count else self.random.randint(0, 1),
            "share": self.random.choice((0.07, 0.3, 0.5, 1.0, self.random.uniform(0.01, 1))),
            "timeout": self.duration() * 2 if strategy == "partial_timeout" or self.chance(0.25) else None,
            "min_successes": self.random.randint(0, count) if strategy == "partial_timeout" else 0,
            "bulkhead": self.random.choice((None, None, 1, 2, 3)),
            "fail_fast": self.chance(0.7),
            "hedge_delay": self.duration() if strategy == "any" and self.chance(0.5) else None,
            "stored": self.chance(0.5),
            "answers": [self.random.choice(("wait", "wait", "proceed", "fail", "nonsense")) for _ in range(count + 2)],
            "source": self.random.choice(
                (
                    "list",
                    "list",
                    "function",
                    "generator",
                    "async generator",
                    "async function",
                    "raising",
                    "async raising",
                )
            ),
            "inline": self.chance(0.15),
            "branches": [self.branch(depth) for _ in range(count)],
            **self.policy(),
        }
        if strategy == "custom" and self.chance(0.8):
            recipe["answers"] = [answer.replace("nonsense", "wait") for answer in recipe["answers"]]
        return recipe

    def branch(self, depth: int) -> Recipe:
        return {
            "steps": self.steps(depth),
            "fails": self.random.choice((0, 0, 0, 0, 1, 1, 2, 99)),
            "own": self.own() if self.others.random() < 0.2 else None,
        }

    def own(self) -> Recipe:
        """What a branch's own task says of its attempts."""
        usual, self.random = self.random, self.others
        try:
            return self.policy()
        finally:
            self.random = usual

    # --- what a task or a branch does ---

    def steps(self, depth: int) -> list[Any]:
        steps = []
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 3))):
            if self.left <= 0:
                break
            self.left -= 1
            steps.append(self.step(depth))
        return steps

    def step(self, depth: int) -> Any:
        kinds = ["sleep"] * 6 + ["pause"] * 5 + ["yield"] * 3 + ["pause 0", "gate", "gate", "lock", "log", "context"]
        kinds += ["fail", "handled", "cancel oneself"]
        if depth < 4:
            kinds += ["timeout", "timeout", "group", "clean up", "clean up", "swallow", "shield", "child"]
        if depth < 3:
            kinds += ["fan", "collect"]
        kind = self.random.choice(kinds)
        if kind == "sleep":
            return kind, self.duration()
        if kind == "pause":
            return kind, self.duration(), self.pauses.choice(("awaited", "awaited", "gather", "task", "wait for"))
        if kind == "gate":
            return kind, self.random.randint(0, 1)
        if kind == "lock":
            return kind, self.duration()
        if kind == "fail":
            return kind, self.random.choice(ERRORS), self.chance(0.5)
        if kind == "timeout":
            return kind, self.duration(), self.steps(depth + 1)
        if kind == "group":
            return kind, [self.steps(depth + 1) for _ in range(self.others.choice((1, 1, 2, 3)))]
        if kind == "clean up":
            return kind, self.steps(depth + 1), self.steps(depth + 2)
        if kind in ("swallow", "shield", "child"):
            return kind, self.steps(depth + 1)
        if kind in ("fan", "collect"):
            return kind, self.split(depth + 1)
        return (kind,)
