"""The program that test_memory.py starts: `python memory.py ENGINE SHAPE HOW FIRST LAST [SAMPLE SEED]`.

It fails one allocation after another. Each point has a process of its own, forked from one in which everything is imported and
has run once. What became of the points is printed as JSON. Engine `asyncio` stands for the same work on `asyncio.gather`: what
asyncio itself makes of a failed allocation.
"""

from __future__ import annotations

import os
import sys

if os.environ.get("WITHOUT_NATIVE_CODE"):
    sys.modules["cano._core"] = None  # type: ignore[assignment]

import _testcapi
import asyncio
import gc
import json
import logging
import random
import signal
import time
from collections import Counter
from typing import Any

from tests.contract.shapes import Trace
from tests.faults.shapes import SHAPES

from cano.testing import DeadlockError, VirtualTimeLoop

DEADLINE = 10.0  # seconds, for one point
CPU = 0.3  # seconds of computing: without memory CPython itself may go round in circles while it unwinds a stack
RESULT, MEMORY, ERROR, HANG, WRONG, BROKEN = range(6)
NAMES = ["result", "MemoryError", "another error", "hang", "wrong result", "next run wrong"]


async def gathered(trace: Trace) -> Any:
    """What `fan` does, by hand."""

    async def branch(item: int) -> int:
        await trace.work(item, clean_up=item)
        return item

    outputs = await asyncio.gather(*(branch(item) for item in [1, 2, 0, 3]))
    await trace.work(1)
    return outputs


def program(engine: str, shape: str) -> Any:
    return gathered(Trace()) if engine == "asyncio" else SHAPES[shape](Trace(), engine)


def one(engine: str, shape: str, expected: Any, first: int, stop: int) -> int:
    """Run with allocations first..stop-1 failing (stop 0: all from the first on), in this process."""
    loop = VirtualTimeLoop()
    loop.set_exception_handler(lambda *_: None)
    asyncio.set_event_loop(loop)
    task = loop.create_task(_start(engine, shape))
    answer, result = RESULT, None
    _testcapi.set_nomemory(first, stop)
    try:
        result = loop.run_until_complete(task)
    except MemoryError:
        answer = MEMORY
    except DeadlockError:
        answer = HANG
    except BaseException:
        answer = ERROR
    _testcapi.remove_mem_hooks()
    if answer == RESULT and result != expected:
        # A branch may fail like any other, and say so.
        return MEMORY if "MemoryError" in repr(result) else WRONG
    asyncio._set_running_loop(None)  # which asyncio may have failed to do
    fresh = VirtualTimeLoop()
    asyncio.set_event_loop(fresh)
    if fresh.run_until_complete(_start(engine, shape)) != expected:
        return BROKEN
    return answer


async def _start(engine: str, shape: str) -> Any:
    return await program(engine, shape)


def in_a_child(*arguments: Any) -> str:
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_REAL, DEADLINE)  # whose signals, not handled, end the process
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU)
        try:
            os._exit(one(*arguments))
        except BaseException as error:
            os.write(1, f"{arguments[3:]}: {error!r}\n".encode())
            os._exit(BROKEN)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "hang" if number in (signal.SIGALRM, signal.SIGVTALRM) else f"crash: {signal.Signals(number).name}"
    return NAMES[os.WEXITSTATUS(status)]


def main(engine: str, shape: str, how: str, first: str, last: str, sample: str = "0", seed: str = "0") -> None:
    logging.disable()
    expected = None
    for _ in range(3):  # what is made once, is made
        loop = VirtualTimeLoop()
        asyncio.set_event_loop(loop)
        expected = loop.run_until_complete(_start(engine, shape))
        loop.close()
    gc.collect()
    gc.freeze()
    numbers = range(int(first), int(last) + 1)
    if int(sample):
        numbers = sorted(random.Random(seed).sample(numbers, int(sample)))  # type: ignore[assignment]
    counts: Counter[str] = Counter()
    bad = []
    for number in numbers:
        became = in_a_child(engine, shape, expected, number, number + 1 if how == "once" else 0)
        counts[became] += 1
        if became.startswith(("crash", "wrong", "next")):
            bad.append((number, became))
    print(json.dumps({"counts": counts, "bad": bad, "seconds": time.process_time()}))


if __name__ == "__main__":
    # Rust says on the standard error what it panics of; so does Python of what it cannot raise.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    main(*sys.argv[1:])
