"""F8, the native engine: a `KeyboardInterrupt` left pending whenever Python code calls the engine, or the engine Python code.

Native code goes on with it, and the next Python code that runs raises it: a branch, a callback, the loop's own. (Real signals
come at moments like these, but seldom; `tests/faults/test_interrupts.py` sends some.) In a build of the native module made for
this (`fail_points.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.native.fail_points import MARKS, python

pytestmark = [pytest.mark.fault("F8"), *MARKS]


def test_an_interrupt_at_every_crossing(tried: Callable[..., None]) -> None:
    ended = python("crossings.py", options=("-W", "ignore:cano's native engine:RuntimeWarning"))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["faults"] == []
    assert found["reached"] > 1_000
    assert found["lost"] < found["reached"] / 10  # where asyncio lost a task of its own, which nobody can end
    tried(pending_interrupts=found["reached"], lost_by_asyncio=found["lost"])
