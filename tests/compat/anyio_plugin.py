"""A pytest plugin that runs the tests of anyio's pytest plugin inside branches, for test_anyio_suite.py.

`CANO_ENGINE` names the engine, `CANO_INTROSPECT=1` makes branches real tasks.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anyio._backends._asyncio import TestRunner
from in_a_branch import in_a_branch

if TYPE_CHECKING:
    import pytest

# What cannot pass in a branch: the start of a test's name, and why.
EXCLUDED: dict[str, str] = {}

_run_test = TestRunner.run_test


def _run_in_a_branch(self: TestRunner, test_func: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    @functools.wraps(test_func)
    async def inside(**kwargs: Any) -> None:
        await in_a_branch(
            functools.partial(test_func, **kwargs),
            os.environ["CANO_ENGINE"],
            introspect=os.environ.get("CANO_INTROSPECT") == "1",
        )

    _run_test(self, inside, kwargs)


def pytest_configure(config: pytest.Config) -> None:
    TestRunner.run_test = _run_in_a_branch  # type: ignore[method-assign]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def applies(item: pytest.Item) -> bool:
        # anyio's own names for its asyncio backend: with and without debug mode, uvloop, eager tasks.
        if "asyncio" not in item.name or not inspect.iscoroutinefunction(getattr(item, "obj", None)):
            return False
        return not any(item.nodeid.rpartition("/")[2].startswith(name) for name in EXCLUDED)

    left_out = [item for item in items if not applies(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if applies(item)]
