"""The examples in the docstrings run on both engines, and print what they say."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest
from tests.docs.test_blocks import run_in_virtual_time

import cano

# What a newcomer looks up first has an example in its docstring.
WITH_EXAMPLE = {
    "cano.cancel.CancelToken",
    "cano.fan.as_completed",
    "cano.fan.fan_out",
    "cano.join.JoinConfig",
    "cano.join.JoinStrategy",
    "cano.policy.Retry",
    "cano.results.SplitResult",
    "cano.steps.Node",
    "cano.steps.TaskResult",
    "cano.store.MemoryStore",
    "cano.testing.flaky",
    "cano.testing.run",
    "cano.workflow.Workflow",
}


def public_modules() -> list[ModuleType]:
    names = [info.name for info in pkgutil.iter_modules(cano.__path__) if not info.name.startswith("_")]
    return [cano, *(importlib.import_module(f"cano.{name}") for name in names)]


FOUND = [test for module in public_modules() for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("example", FOUND, ids=lambda test: test.name)
def test_docstring(example: doctest.DocTest, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANO_ENGINE", engine)
    monkeypatch.setattr(asyncio, "run", run_in_virtual_time)
    example.globs = {}  # what a reader has who types it in: nothing
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=told.append)
    assert runner.failures == 0, "".join(told)


def test_what_has_an_example() -> None:
    assert WITH_EXAMPLE - {test.name for test in FOUND} == set()
