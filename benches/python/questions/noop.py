"""What does a branch cost that returns at once? The price of the engine itself."""

from __future__ import annotations

from collections.abc import Iterator

from benches.python.harness import Budget, Case
from benches.python.questions.common import FAN_OUT, GATHER, NATIVE, PURE, by_gather, by_workflow

from cano import fan_out


async def branch(item: int) -> int:
    return item


def cases(budget: Budget) -> Iterator[Case]:
    for n in (1, 10, 100, 1_000, 10_000, 100_000):
        if n > budget.largest:
            continue

        async def job(n: int = n) -> None:
            await fan_out(branch, range(n), engine="native")

        contenders = {
            NATIVE: by_workflow(branch, n, "native"),
            FAN_OUT: job,
            PURE: by_workflow(branch, n, "python"),
            GATHER: by_gather(branch, n),
        }
        yield Case(f"n={n}", n, "branch", contenders, budget.at_least(5_000, n), 3 if n > 10_000 else None)
