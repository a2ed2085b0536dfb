"""What the tests that compare the engines with each other ask for."""

from __future__ import annotations

import os

import pytest

from cano._engine import why_unavailable


@pytest.fixture(scope="session")
def both() -> None:
    """Both engines are here; a missing native engine is a failure and no skip, as with the fixture `engine`."""
    reason = why_unavailable("native")
    if reason is None:
        return
    if os.environ.get("CANO_ALLOW_MISSING_NATIVE") == "1":
        pytest.skip(f"the native engine is not here: {reason}")
    pytest.fail(f"the native engine is not here: {reason}", pytrace=False)
