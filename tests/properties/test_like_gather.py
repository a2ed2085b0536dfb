"""Random programs of awaits do in branches what they do in the tasks of `asyncio.gather`: the same steps at the same
times, the same outcomes; and nothing stays alive. Replay a seed with
`CANO_FUZZ_SEED`; go on for a while with `CANO_FUZZ_SECONDS`.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections import Counter

import pytest
from tests.properties.world import Programs

pytestmark = pytest.mark.fault("random")

# How many programs for each engine: 2,000, and 50,000 in the long form.
COUNT, CHUNK = (50_000, 2_500) if os.environ.get("CANO_SOAK") == "1" else (2_000, 500)
KINDS = {"coroutine", "async_generator", "Task", "Future", "TimerHandle", "Handle", "traceback", "CancelledError"}


def alive() -> Counter[str]:
    """How many there are of the objects that runs are made of."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    return Counter(kind.__name__ for kind in kinds if kind.__name__ in KINDS or str(kind.__module__).startswith("cano"))


def check(seed: int, engine: str) -> None:
    in_branches, in_tasks = (Programs(seed, engine, gathered=gathered) for gathered in (False, True))
    branches, tasks = in_branches.told(), in_tasks.told()
    if branches != tasks and (in_branches.loop.tied() or in_tasks.loop.tied()):
        return  # two sleeps end at one moment, which is nobody's order to keep
    for part, story in tasks.items():
        assert branches.get(part) == story, f"seed {seed}, branch {part}"
    assert branches.keys() == tasks.keys(), f"seed {seed}"


@pytest.mark.timeout(600 if COUNT > 2_000 else 300)
@pytest.mark.parametrize("first", range(0, COUNT, CHUNK))
def test_branches_do_what_tasks_do(engine, first, tried):
    check(first, engine)  # the first one fills caches
    before = alive()
    for seed in range(first, first + CHUNK):
        check(seed, engine)
    grown = alive() - before
    assert not grown, f"alive after {CHUNK} programs, and not before: {grown}"
    tried(programs=CHUNK)


@pytest.mark.skipif("CANO_FUZZ_SEED" not in os.environ, reason="CANO_FUZZ_SEED names a seed to replay")
def test_one_seed(engine):
    check(int(os.environ["CANO_FUZZ_SEED"]), engine)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif("CANO_FUZZ_SECONDS" not in os.environ, reason="CANO_FUZZ_SECONDS says how long to go on")
def test_branches_do_what_tasks_do_for_a_while(engine, tried):
    end = time.monotonic() + float(os.environ["CANO_FUZZ_SECONDS"])
    seed = first = random.SystemRandom().randrange(10**9)
    while time.monotonic() < end:
        check(seed, engine)
        seed += 1
    tried(programs=seed - first)
    print(f"{seed - first} programs, seeds {first} to {seed - 1}")
