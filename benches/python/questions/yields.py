"""What does a branch cost that gives the loop one turn, with `asyncio.sleep(0)`?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from benches.python.harness import Budget, Case
from benches.python.questions.common import GATHER, NATIVE, PURE, by_gather, by_workflow


async def branch(item: int) -> int:
    await asyncio.sleep(0)
    return item


def cases(budget: Budget) -> Iterator[Case]:
    for n in (10, 1_000, 10_000, 100_000):
        if n > budget.largest:
            continue
        contenders = {
            NATIVE: by_workflow(branch, n, "native"),
            PURE: by_workflow(branch, n, "python"),
            GATHER: by_gather(branch, n),
        }
        yield Case(f"n={n}", n, "branch", contenders, budget.at_least(5_000, n), 3 if n > 10_000 else None)
