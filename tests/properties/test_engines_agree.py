"""Random workflows run on both engines: the same results, the same events in the same order, the same errors; and what their
splits come to is what the model says.

`CANO_FUZZ_SECONDS=600` goes on for ten minutes from a random seed; `CANO_FUZZ_SEED=7` replays one. A failing seed is
printed with its recipe.
"""

from __future__ import annotations

import os
import pprint
import random
import time
from typing import Any

import pytest
from tests.properties.model import judge
from tests.properties.recipes import Cook
from tests.properties.world import World

from cano._engine import why_unavailable
from cano.observe import KINDS

pytestmark = pytest.mark.fault("random")

# How many workflows: 2,000, and 100,000 in the long form.
COUNT, CHUNK = (100_000, 5_000) if os.environ.get("CANO_SOAK") == "1" else (2_000, 200)


def in_one_order(trace: list[tuple]) -> list[tuple]:
    """Sort log lines of the same moment: nested splits warn of their losers by timers that fall together, and which of
    these the loop's heap gives first is nobody's promise."""
    ordered: list[tuple] = []
    start = 0
    for end in range(1, len(trace) + 1):
        if end == len(trace) or trace[end][:2] != trace[start][:2] or trace[start][1] != "logged":
            ordered += sorted(trace[start:end], key=str)
            start = end
    return ordered


def check(seed: int, engines: tuple[str, str]) -> int:
    """Run a seed on two engines, compare the traces with each other and the model; how many splits that judged."""
    recipe = Cook(seed).run()
    worlds = [World(recipe, engine) for engine in engines]
    ran = [world.run() for world in worlds]
    judged = [judge_of(seed, recipe, trace) for trace in ran]
    traces = [in_one_order(trace) for trace in ran]
    if traces[0] != traces[1] and any(world.loop.tied() for world in worlds):
        return sum(judged)
    for number, (first, second) in enumerate(zip(*traces, strict=False)):
        if first != second:
            told = "\n".join(map(str, traces[0][max(0, number - 8) : number]))
            pytest.fail(
                f"seed {seed}: after\n{told}\n{engines[0]}: {first}\n{engines[1]}: {second}\n"
                f"replay: CANO_FUZZ_SEED={seed}\n{pprint.pformat(recipe, width=140)}",
                pytrace=False,
            )
    assert len(traces[0]) == len(traces[1]), f"seed {seed}: one engine's trace goes on where the other's ends"
    left = [facts[2] for facts in traces[0] if facts[1] == "left"]
    assert left in ([], [0]), f"seed {seed}: something outlives its run"
    assert not [facts for facts in traces[0] if facts[1] == "unhandled"], f"seed {seed}"
    return sum(judged)


def judge_of(seed: int, recipe: dict[str, Any], trace: list[tuple]) -> int:
    """Judge a trace; who fails names the seed."""
    try:
        return judge(recipe, trace)
    except AssertionError as error:
        pytest.fail(
            f"seed {seed}: {error}\n{pprint.pformat(recipe, width=140)}\n{pprint.pformat(trace, width=140)}",
            pytrace=False,
        )


@pytest.fixture(scope="module")
def engines() -> tuple[str, str]:
    """Without the native engine the pure one is compared with itself: then this tests that runs are repeatable."""
    if why_unavailable("native") is None:
        return "native", "python"
    if os.environ.get("CANO_ALLOW_MISSING_NATIVE") != "1":
        pytest.fail(f"the native engine is not here: {why_unavailable('native')}", pytrace=False)
    return "python", "python"


@pytest.mark.timeout(600 if COUNT > 2_000 else 300)
@pytest.mark.parametrize("first", range(0, COUNT, CHUNK))
def test_engines_agree(engines, first, tried):
    judged = sum(check(seed, engines) for seed in range(first, first + CHUNK))
    assert judged > CHUNK / 10
    tried(workflows=CHUNK, splits_judged=judged)


def test_everything_happens_sometimes(engines):
    """A generator has blind spots; these are the things it must not be blind to."""
    kinds: set[str] = set()
    outcomes: set[str] = set()
    places: set[str] = set()
    for seed in range(300):
        for facts in World(Cook(seed).run(), engines[0]).run():
            if facts[1] == "event":
                kinds.add(facts[2])
            elif facts[1] == "outcome":
                outcomes.add(facts[2][0] if isinstance(facts[2], tuple) else "an exit state")
            else:
                places.add(str(facts[2] if len(facts) > 2 and "/" in facts[1] else facts[1]))
    assert kinds == set(KINDS)
    assert outcomes >= {
        "an exit state", "JoinError", "SplitTimeoutError", "TaskError", "RetryExhaustedError", "AttemptTimeoutError",
        "WorkflowError", "WorkflowTimeoutError", "RunCancelledError", "CancelledError",
    }  # fmt: skip
    assert places >= {"asked", "logged", "stored", "swallowed", "timed out", "join failed", "group", "shield", "lock"}


@pytest.mark.parametrize(
    "seed",
    [
        737171649,  # a split in a branch that is cancelled as it starts ended a turn sooner on the native engine
    ],
)
def test_a_seed_that_failed_once(engines, seed):
    check(seed, engines)


@pytest.mark.skipif("CANO_FUZZ_SEED" not in os.environ, reason="CANO_FUZZ_SEED names a seed to replay")
def test_one_seed(engines):
    check(int(os.environ["CANO_FUZZ_SEED"]), engines)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif("CANO_FUZZ_SECONDS" not in os.environ, reason="CANO_FUZZ_SECONDS says how long to go on")
def test_engines_agree_for_a_while(engines, tried):
    end = time.monotonic() + float(os.environ["CANO_FUZZ_SECONDS"])
    seed = first = random.SystemRandom().randrange(10**9)
    while time.monotonic() < end:
        check(seed, engines)
        seed += 1
    tried(workflows=seed - first)
    print(f"{seed - first} workflows, seeds {first} to {seed - 1}")


def test_the_judge_notices_what_is_wrong():
    """A verdict that comes an end of a branch too early, or too late, does not pass."""
    noticed = 0
    for seed in range(200):
        recipe = Cook(seed).run()
        trace = World(recipe, "python").run()
        ends = [at for at, facts in enumerate(trace) if facts[1:3] == ("event", "branch_success")]
        for at in ends:
            for changed in ([*trace[:at], *trace[at + 1 :]], [*trace[:at], trace[at], *trace[at:]]):
                with pytest.raises(AssertionError):
                    judge(recipe, changed)
                noticed += 1
    assert noticed > 100
