"""CPython's own asyncio tests, each run inside a branch, between two neighbours, on a loop in debug mode.

They are those of the running interpreter (`test.test_asyncio`), as far as they are written on
`IsolatedAsyncioTestCase`. An interpreter that ships without its tests takes them from the folder that the environment
variable `CANO_ASYNCIO_TESTS` names: the one that holds CPython's `Lib/test`, of the same version.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import os
import sys
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from cano import JoinConfig, JoinError, JoinStrategy, Workflow, fan_out

# `graph` (3.14+) is not among them: it compares whole stacks, down to the test method as the lowest frame, and inside
# anything there are more. What a branch shows in call graphs is tested in tests/contract/test_introspect.py.
MODULES = ("futures2", "locks", "queues", "server", "staggered", "taskgroups", "threads", "timeouts", "waitfor")

# A limit of stepping branches in place: gone with `introspect=True`, where the same test has to pass.
NO_TASK = "asyncio's call graphs are made of asyncio.Task, which a branch is only with introspect=True"
ONLY_INTROSPECT: dict[str, str] = {}
# What cannot pass in any branch.
NOT_IN_A_BRANCH: dict[str, str] = {}


def _find_tests() -> str | None:
    """Put CPython's tests on the path; gives the reason where there are none."""
    folder = os.environ.get("CANO_ASYNCIO_TESTS")
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.test_asyncio") is None:
        if not folder:
            return "this interpreter ships without its tests, and CANO_ASYNCIO_TESTS names no others"
        sys.modules.pop("test", None)
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    return None


def _cases(suite: Any) -> Iterator[unittest.IsolatedAsyncioTestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _cases(item)
        elif isinstance(item, unittest.IsolatedAsyncioTestCase):
            yield item


def _collect() -> list[Any]:
    if reason := _find_tests():
        return [pytest.param("none", marks=pytest.mark.skip(reason=reason))]
    found: list[Any] = []
    for name in MODULES:
        try:
            module = importlib.import_module(f"test.test_asyncio.test_{name}")
        except ModuleNotFoundError:  # a subject that this version of Python does not have
            continue
        for case in _cases(unittest.defaultTestLoader.loadTestsFromModule(module)):
            if inspect.iscoroutinefunction(getattr(case, case._testMethodName)):
                test = f"{name}.{type(case).__name__}.{case._testMethodName}"
                found.append(pytest.param((type(case), case._testMethodName), id=test))
    return found


def inside(case: type[Any], engine: str, introspect: bool) -> type[Any]:
    """The test case with its test methods called from the middle one of three branches."""

    class Inside(case):  # type: ignore[misc]
        def _callTestMethod(self, method: Any) -> None:  # noqa: N802 - unittest's name
            self._asyncioRunner.run(in_a_branch(method), context=self._asyncioTestContext)

    async def in_a_branch(method: Any) -> None:
        done = asyncio.Event()

        async def branch(index: int) -> None:
            if index != 1:
                await done.wait()
                return
            try:
                assert await method() is None
            finally:
                done.set()

        try:
            if introspect:
                workflow: Workflow[str] = Workflow(engine=engine, introspect=True).add_exit_state("end")
                join = JoinConfig(JoinStrategy.All, "end")
                await workflow.register_map("fan", branch, range(3), join).orchestrate("fan")
            else:
                await fan_out(branch, range(3), engine=engine)
        except JoinError as error:
            raise error.exceptions[0] from None

    Inside.__name__, Inside.__qualname__, Inside.__module__ = case.__name__, case.__qualname__, case.__module__
    return Inside


@pytest.mark.filterwarnings("default")  # as CPython runs them
@pytest.mark.parametrize("mode", ["default", "introspect"])
@pytest.mark.parametrize("test", _collect())
def test_in_a_branch(test: tuple[type[Any], str], mode: str, engine: str, request: pytest.FixtureRequest) -> None:
    case, method = test
    name = next(iter(part for part in request.node.callspec.id.split("-") if "." in part))
    for table, applies in ((NOT_IN_A_BRANCH, True), (ONLY_INTROSPECT, mode == "default")):
        for start, reason in table.items():
            if applies and name.startswith(start):
                pytest.skip(reason)
    result = unittest.TestResult()
    inside(case, engine, mode == "introspect")(method).run(result)
    if result.skipped:
        pytest.skip(result.skipped[0][1])
    problems = [text for _case, text in result.failures + result.errors]
    assert not problems, "\n".join(problems)
    assert result.testsRun == 1
