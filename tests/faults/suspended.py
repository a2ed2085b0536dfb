"""The program that test_suspended.py stops half-way and lets go on: `python suspended.py ENGINE`.

It says when its timers are armed, and at the end what came of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import cano
from cano import JoinStrategy, Retry, fan_out

woken: Counter[int] = Counter()
tried: Counter[int] = Counter()
armed = 0
ALL = 24


async def wait(item: int) -> int:
    """A wait of one of four kinds, for 10 to 250 ms."""
    global armed
    tried[item] += 1
    delay = 0.01 * (item + 2)
    armed += 1
    if armed == ALL:
        print("armed", flush=True)
    if item % 4 == 0:
        await asyncio.sleep(delay)
    elif item % 4 == 1:
        await cano.sleep(delay)
    elif item % 4 == 2:
        try:
            async with asyncio.timeout(delay):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
    else:
        await cano.sleep(3600)  # its attempt's limit ends it, and it is tried once more, after a delay
    woken[item] += 1
    return item


async def main(engine: str) -> dict[str, Any]:
    """Run them all: those that have a limit in a split of their own."""
    began = time.monotonic()
    join: dict[str, Any] = {"strategy": JoinStrategy.PartialTimeout, "timeout": 60, "engine": engine}
    limited = [item for item in range(ALL) if item % 4 == 3]
    others = [item for item in range(ALL) if item % 4 != 3]
    results = await asyncio.gather(
        fan_out(wait, others, **join),
        fan_out(wait, limited, attempt_timeout=0.3, retry=Retry.fixed(1, 0.1), **join),
    )
    rows = [row for result in results for row in (*result.successes, *result.errors)]
    return {
        "took": time.monotonic() - began,
        "woken": sorted(woken.items()),
        "tried": sorted(tried.items()),
        "ok": results[0].outputs(),
        "bad": [type(row.error).__name__ for row in results[1].errors],
        "durations": [row.duration for row in rows],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))), flush=True)
