"""Every cell of strategy, decision and fault that can be reached is: what was never reached counts as untested.

A generator has blind spots. Where this fails, either the generator lost sight of something, or the cell is impossible: then
`reach.impossible` says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from tests.properties.reach import DECISIONS, FAULTS, STRATEGIES, cells, impossible, reached

pytestmark = pytest.mark.fault("coverage")

MOST = 3_000  # splits; it takes some hundreds
SOAK = os.environ.get("CANO_SOAK") == "1"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_cell_is_reached(engine: str, strategy: str, tried: Callable[..., None]) -> None:
    ours = {cell for cell in cells() if cell[0] == strategy}
    possible = {cell for cell in ours if not impossible(*cell)}
    # In the long form it goes on, to find what is called impossible and is not.
    wanted = ours if SOAK else possible
    hit, splits = reached(strategy, engine, wanted, MOST)
    assert possible - hit == set()
    assert {cell: impossible(*cell) for cell in hit - possible} == {}
    tried(cells_reached=len(hit), cells_impossible=len(ours - possible), random_splits=splits)


def test_what_is_impossible_is_little() -> None:
    assert len(list(cells())) == len(STRATEGIES) * len(DECISIONS) * len(FAULTS) == 324
    reasons = [impossible(*cell) for cell in cells()]
    assert sum(map(bool, reasons)) == 70
    assert len(set(reasons)) == 7
