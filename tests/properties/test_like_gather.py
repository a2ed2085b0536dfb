"""Random programs of awaits do in branches what they do in the tasks of `asyncio.gather`: the same steps at the same
times, the same outcomes. Replay a seed with `CANO_FUZZ_SEED`; go on for a while with `CANO_FUZZ_SECONDS`.
"""

from __future__ import annotations

import os
import random
import time

import pytest
from tests.properties.world import Programs


def check(seed: int, engine: str) -> None:
    branches = Programs(seed, engine, gathered=False).told()
    tasks = Programs(seed, engine, gathered=True).told()
    for part, story in tasks.items():
        assert branches.get(part) == story, f"seed {seed}, branch {part}"
    assert branches.keys() == tasks.keys(), f"seed {seed}"


@pytest.mark.parametrize("hundred", range(0, 300, 100))
def test_branches_do_what_tasks_do(engine, hundred):
    for seed in range(hundred, hundred + 100):
        check(seed, engine)


@pytest.mark.skipif("CANO_FUZZ_SEED" not in os.environ, reason="CANO_FUZZ_SEED names a seed to replay")
def test_one_seed(engine):
    check(int(os.environ["CANO_FUZZ_SEED"]), engine)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif("CANO_FUZZ_SECONDS" not in os.environ, reason="CANO_FUZZ_SECONDS says how long to go on")
def test_branches_do_what_tasks_do_for_a_while(engine):
    end = time.monotonic() + float(os.environ["CANO_FUZZ_SECONDS"])
    seed = first = random.SystemRandom().randrange(10**9)
    while time.monotonic() < end:
        check(seed, engine)
        seed += 1
    print(f"{seed - first} programs, seeds {first} to {seed - 1}")
