"""Every strategy, every pattern of outcomes and every order of completion of a few branches, against the model.

Up to four branches by default;
`CANO_FUZZ_SECONDS` adds the fifth.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from tests.properties.model import Case, model

from cano import JoinError, JoinStrategy, SplitTimeoutError, fan_out

BRANCHES = 5 if "CANO_FUZZ_SECONDS" in os.environ else 4
DEADLINE = 100

pytestmark = pytest.mark.fault("random")

Options = dict[str, Any]


# --- the engines ---


def custom(progress: Any) -> str:
    if 2 * progress.succeeded >= progress.total and progress.succeeded + progress.failed:
        return "proceed"
    return "fail" if progress.pending == 0 else "wait"


def options_of(kind: str, need: Any) -> Options:
    if kind == "all":
        return {"strategy": JoinStrategy.All, "fail_fast": need == "fail fast"}
    if kind == "partial timeout":
        return {"strategy": JoinStrategy.PartialTimeout, "min_successes": need}
    strategy = {
        "any": JoinStrategy.Any,
        "quorum": lambda: JoinStrategy.Quorum(need),
        "partial results": lambda: JoinStrategy.PartialResults(need),
        "percentage": lambda: JoinStrategy.Percentage(float(need)),
        "custom": lambda: JoinStrategy.Custom(custom),
    }[kind]
    return {"strategy": strategy() if callable(strategy) else strategy}


async def play(engine: str, kind: str, need: Any, case: Case, lazy: bool) -> Any:
    """Have all that end do so in one turn of the loop, in the given order."""
    outcomes, order = case
    loop = asyncio.get_running_loop()
    gates = [loop.create_future() for _ in outcomes]

    async def branch(index: int) -> int:
        await gates[index]
        if outcomes[index] == "bad":
            raise ValueError(index)
        return index

    def end() -> None:
        for index in order:
            gates[index].set_result(None)

    handle = loop.call_later(1, end)
    source: Any = (lambda: iter(range(len(outcomes)))) if lazy else range(len(outcomes))
    try:
        result: Any = await fan_out(branch, source, timeout=DEADLINE, engine=engine, **options_of(kind, need))
        verdict = "proceeds"
    except (JoinError, SplitTimeoutError) as error:
        verdict, result = "fails" if isinstance(error, JoinError) else "times out", error.result
    handle.cancel()
    return (
        verdict,
        [row.task_index for row in result.successes],
        [row.task_index for row in result.errors],
        list(result.cancelled),
    )


def cases(most: int = BRANCHES) -> Iterator[Case]:
    for total in range(most + 1):
        for outcomes in itertools.product(("ok", "bad", "never"), repeat=total):
            ending = [index for index, outcome in enumerate(outcomes) if outcome != "never"]
            for order in itertools.permutations(ending):
                yield outcomes, order


STRATEGIES = [
    ("all", "fail fast"),
    ("all", "patient"),
    ("any", None),
    *(("quorum", need) for need in range(4)),
    *(("partial results", need) for need in range(0, 4, 3)),
    *(("percentage", Fraction(share)) for share in ("1/8", "1/2", "3/4", "1")),
    *(("partial timeout", need) for need in range(3)),
    ("custom", None),
]


@pytest.mark.parametrize(("kind", "need"), STRATEGIES, ids=lambda part: str(part))
@pytest.mark.parametrize("lazy", [False, True], ids=["sized", "lazy"])
async def test_every_pattern_in_every_order(engine, kind, need, lazy, tried):
    count = 0
    most = BRANCHES - lazy
    for case in cases(most):
        expected = model(kind, need, case)
        if lazy and expected[0] == "proceeds" and need == 0 and kind != "partial timeout":
            expected = ("proceeds", [], [], [])  # decided before anything was drawn: N is 0
        assert await play(engine, kind, need, case, lazy) == expected, (kind, need, case)
        count += 1
    tried(splits=count)
    assert count == {3: 96, 4: 729, 5: 7060}[most]


def test_the_model_reaches_every_verdict():
    """A model that always agrees because it never says anything else would prove nothing."""
    for kind, need in STRATEGIES:
        verdicts = {model(kind, need, case)[0] for case in cases()}
        expected = {"proceeds", "fails"} if kind == "partial timeout" else {"proceeds", "fails", "times out"}
        if need == 0 and kind != "partial timeout":
            expected = {"proceeds"}
        assert verdicts == expected, (kind, need)
