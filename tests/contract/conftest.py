"""What several files of contract tests ask for."""

from __future__ import annotations

import pytest
from tests.three import Three, gathered, in_branches, in_real_tasks


@pytest.fixture(params=["branch", "introspect", "gather"])
def three(request: pytest.FixtureRequest, engine: str) -> Three:
    """Run `scenario(0)`, `scenario(1)`, `scenario(2)` at once, and give what they return."""
    return {"branch": in_branches(engine), "introspect": in_real_tasks(engine), "gather": gathered}[request.param]
