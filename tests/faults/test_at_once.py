"""F11: every program on eight threads at once, each on a loop of its own, gives what it gives alone.

What the threads share is the package: the engines' caches and counters, the interned names, the pool of workers, the classes.
`tests/compat/test_many_loops.py` shares a workflow, a store and a token as well. On a build with a lock threads are switched as
often as the interpreter can.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.contract.shapes import Trace
from tests.faults.points import SOAK
from tests.faults.shapes import SHAPES

from cano.testing import VirtualTimeLoop

THREADS = 8
ROUNDS = 200 if SOAK else 2
PATIENCE = 1500 if SOAK else 40  # seconds until threads that hang give up

pytestmark = [pytest.mark.fault("F11"), pytest.mark.timeout(PATIENCE + 20)]


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run(shape: str, engine: str) -> str:
    """What came of a program, and that nothing is left of it."""
    trace = Trace()

    async def main() -> Any:
        outcome = await SHAPES[shape](trace, engine)
        await asyncio.sleep(1000)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return outcome

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        outcome = runner.run(main())
    assert trace.begun == trace.ended
    return repr(outcome)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_program_on_eight_threads(engine: str, shape: str, tried: Callable[..., None]) -> None:
    alone = run(shape, engine)
    barrier = threading.Barrier(THREADS)

    def again() -> list[str]:
        barrier.wait(PATIENCE)
        return [run(shape, engine) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(THREADS) as threads:
        begun = [threads.submit(again) for _ in range(THREADS)]
        outcomes = [outcome for thread in begun for outcome in thread.result(PATIENCE)]
    assert outcomes == [alone] * (THREADS * ROUNDS)
    tried(programs=THREADS * ROUNDS)
