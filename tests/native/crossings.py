"""The program that test_crossings.py starts with a native module that leaves interrupts pending: `python crossings.py SHAPES`."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from typing import Any

from tests.faults.interrupted import run
from tests.faults.points import some
from tests.faults.shapes import SHAPES

from cano import _core

SHORT = 60


class Pending:
    """A `KeyboardInterrupt` that is left pending at a crossing, while native code goes on."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.count = 0

    def __enter__(self) -> None:
        _core.interrupt_at(self.at)

    def __exit__(self, *_: object) -> None:
        self.count += _core.interrupt_at(0)


def problems_of(shape: str) -> tuple[int, int, list[str]]:
    """How many interrupts came, in how many asyncio lost a task, and what went wrong."""
    expected = run(shape, "native", contextlib.nullcontext()).result
    counted = Pending()
    assert run(shape, "native", counted).result == expected
    faults = []
    reached = lost = 0
    for point in some(counted.count, SHORT, "crossings", shape):
        pending = Pending(point)
        outcome = run(shape, "native", pending, expected=expected)
        came = outcome.surfaced > 0
        reached += came
        if outcome.lost:
            lost += 1
            continue
        # Whoever was called last before the program ended may have had it; else it has to come out, once.
        if outcome.problems or outcome.surfaced > 1 or not (came or outcome.result == expected):
            faults.append(f"{shape} at {point} of {counted.count}: surfaced {outcome.surfaced}, {outcome.problems}")
    return reached, lost, faults


def main(shapes: list[str]) -> None:
    found: dict[str, Any] = {"reached": 0, "lost": 0, "faults": []}
    for shape in shapes or SHAPES:
        for what, more in zip(found, problems_of(shape), strict=True):
            found[what] += more
    print(json.dumps(found))


if __name__ == "__main__":
    assert "fail-points" in _core.build_info()["features"]
    # Between the making of a coroutine and the `await` of it, no Python program is safe.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    main(sys.argv[1:])
