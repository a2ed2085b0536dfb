"""A panic in the native engine becomes `InternalError`, wherever it happens; the process, the loop and later runs go on.

Panics are injected at each transition that is reported to a machine, in each callback of the loop, each step of a worker, where a
coroutine is let go of and where a store is locked: one alone, one that is followed by another at the next such point, and
five in a row; in a build of the native module made for this (`fail_points.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.native.fail_points import MARKS, python

pytestmark = [pytest.mark.fault("F13", "unsafe"), *MARKS]


def test_a_panic_at_every_transition(tried: Callable[..., None]) -> None:
    ended = python("panics.py", options=("-W", "ignore:cano's native engine:RuntimeWarning"))
    # What Rust prints of each panic is on the standard error; nothing else may be.
    printed = [
        line
        for line in ended.stderr.splitlines()
        if line and "panicked at" not in line and "injected at point" not in line and "RUST_BACKTRACE" not in line
    ]
    assert (ended.returncode, printed) == (0, [])
    assert int(ended.stdout) > 500  # so many panics were injected
    tried(panics=int(ended.stdout))
