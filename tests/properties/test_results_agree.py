"""Whatever can be asked of a split's result, on both engines: the same answers, of the result itself, of its copies, and of
what a pickle brings back; and the same of the error that carries it. `CANO_FUZZ_SEED=7` replays one split.
"""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest

from cano import JoinError, JoinStrategy, fan_out
from cano.testing import run

pytestmark = [pytest.mark.fault("random"), pytest.mark.usefixtures("both")]

# How many splits on each engine: 200, and 5,000 in the long form.
COUNT = 5_000 if os.environ.get("CANO_SOAK") == "1" else 200

QUESTIONS: dict[str, Callable[[Any, int], Any]] = {
    "repr": lambda result, total: result,
    "outputs": lambda result, total: result.outputs(),
    "successes": lambda result, total: result.successes,
    "errors": lambda result, total: result.errors,
    "cancelled": lambda result, total: result.cancelled,
    "counts": lambda result, total: (result.completed_count, result.total_count),
    "first": lambda result, total: result.by_index(0),
    "one before the first": lambda result, total: result.by_index(-1),
    "one after the last": lambda result, total: result.by_index(total),
    "by a boolean": lambda result, total: result.by_index(True),
    "by text": lambda result, total: result.by_index("0"),
    "by a float": lambda result, total: result.by_index(0.0),
    "set": lambda result, total: setattr(result, "total_count", 3),
    "len": lambda result, total: len(result),
    "list": lambda result, total: list(result),
    "dir": lambda result, total: dir(result),
    "of which type": lambda result, total: (type(result.successes), type(result.cancelled)),
    "matched by": lambda result, total: result.__match_args__,
}


def answers(result: Any, total: int, original: Any) -> dict[str, str]:
    """What is told by each question; an answer as it is printed, or the error."""
    told = {"equal": repr((result == original, result != original))}
    for name, ask in QUESTIONS.items():
        try:
            told[name] = repr(ask(result, total))
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told


def answers_of_error(error: JoinError) -> dict[str, str]:
    restored = pickle.loads(pickle.dumps(error))
    return {
        "pickled": repr((restored, str(restored), restored.exceptions, restored.result, restored.category)),
        "derived": type(error.derive(error.exceptions)).__name__,
        "split": repr(error.split(ValueError)),
        "subgroup": repr(error.subgroup(lambda _: True)),
    }


async def told_by(seed: int, engine: str) -> dict[str, dict[str, str]]:
    dice = random.Random(f"result {seed}")
    total = dice.choice((0, 1, 3, 7))
    fails = [dice.random() < 0.4 for _ in range(total)]
    durations = [dice.random() * 3 for _ in range(total)]
    strategy = dice.choice((JoinStrategy.All, JoinStrategy.Any, JoinStrategy.Quorum(total // 2)))

    async def branch(index: int) -> Any:
        await asyncio.sleep(durations[index])
        if fails[index]:
            raise ValueError(index)
        return ([index], None, "x" * 300, 0.5)[index % 4]

    told: dict[str, dict[str, str]] = {}
    try:
        result: Any = await fan_out(
            branch, range(total), strategy=strategy, fail_fast=dice.random() < 0.5, engine=engine
        )
    except JoinError as error:
        told["error"] = answers_of_error(error)
        result = error.result
    forms = {
        "itself": result,
        "pickled": pickle.loads(pickle.dumps(result)),
        "copied": copy.copy(result),
        "copied deeply": copy.deepcopy(result),
    }
    return told | {name: answers(form, total, result) for name, form in forms.items()}


def check(seed: int) -> bool:
    """Compare what both engines tell of a split; whether it failed."""
    native, pure = run(told_by(seed, "native")), run(told_by(seed, "python"))
    assert native == pure, f"seed {seed}; replay: CANO_FUZZ_SEED={seed}"
    return "error" in native


def test_results_agree(tried: Callable[..., None]) -> None:
    failed = sum(check(seed) for seed in range(COUNT))
    assert 0.2 < failed / COUNT < 0.8
    tried(splits=COUNT)


@pytest.mark.skipif("CANO_FUZZ_SEED" not in os.environ, reason="CANO_FUZZ_SEED names a seed to replay")
def test_one_seed() -> None:
    check(int(os.environ["CANO_FUZZ_SEED"]))
