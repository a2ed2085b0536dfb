"""CPython's own asyncio tests, each run inside a branch, beside two others, on a loop in debug mode.

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
import sysconfig
import unittest
from collections.abc import Iterator
from typing import Any

import pytest
from tests.compat.in_a_branch import in_a_branch

pytestmark = pytest.mark.fault("asyncio-suite")

# `graph` (3.14+) is not among them: it compares whole stacks, down to the test method as the lowest frame, and inside
# anything there are more. What a branch shows in call graphs is tested in test_call_graph.py.
MODULES = ("futures2", "locks", "queues", "server", "staggered", "taskgroups", "threads", "timeouts", "waitfor")

# What cannot pass in a branch: the start of a test's name, and why.
EXCLUDED: dict[str, str] = {}
# What cannot pass in a branch of the native engine that is no task of asyncio's, from 3.14 on: these look for the coroutine among
# the `gc.get_referrers` of an exception, and the collector does not know it while only the engine has it.
UNSEEN = (
    "test_exception_refcycles_parent_task",
    "test_exception_refcycles_parent_task_wr",
    "test_exception_refcycles_propagate_cancellation_error",
)
HIDES = sys.version_info >= (3, 14) and not sysconfig.get_config_var("Py_GIL_DISABLED")


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
                skips = [pytest.mark.skip(reason=why) for start, why in EXCLUDED.items() if test.startswith(start)]
                found.append(pytest.param((type(case), case._testMethodName), id=test, marks=skips))
    return found


def inside(case: type[Any], engine: str, introspect: bool) -> type[Any]:
    """The test case with its test methods run inside branches."""

    class Inside(case):  # type: ignore[misc]
        def _callTestMethod(self, method: Any) -> None:  # noqa: N802 - unittest's name
            test = in_a_branch(method, engine, introspect=introspect)
            assert self._asyncioRunner.run(test, context=self._asyncioTestContext) is None

    Inside.__name__, Inside.__qualname__, Inside.__module__ = case.__name__, case.__qualname__, case.__module__
    return Inside


@pytest.mark.parametrize("introspect", [False, True])
def test_the_adapter(engine: str, introspect: bool) -> None:
    """What says that the tests below are run where they should be, and that their failures are seen."""

    class Case(unittest.IsolatedAsyncioTestCase):
        async def test_is_in_a_branch(self) -> None:
            before = asyncio.current_task()
            assert before is not None
            assert isinstance(before, asyncio.Task) == introspect
            assert inspect.getcoroutinestate(before.get_coro()) == inspect.CORO_RUNNING
            await asyncio.sleep(0)
            assert asyncio.current_task() is before

        async def test_fails(self) -> None:
            await asyncio.sleep(0)
            self.fail("as it should")

    result = unittest.TestResult()
    for method in ("test_is_in_a_branch", "test_fails"):
        inside(Case, engine, introspect)(method).run(result)
    assert not result.errors
    ((_case, text),) = result.failures
    assert "as it should" in text


@pytest.mark.filterwarnings("default")  # as CPython runs them
@pytest.mark.parametrize("mode", ["default", "introspect"])
@pytest.mark.parametrize("test", _collect())
def test_in_a_branch(test: tuple[type[Any], str], mode: str, engine: str, tried: Any) -> None:
    case, method = test
    if HIDES and (engine, mode) == ("native", "default") and method in UNSEEN:
        pytest.skip("the collector does not know the coroutine")
    result = unittest.TestResult()
    inside(case, engine, mode == "introspect")(method).run(result)
    if result.skipped:
        pytest.skip(result.skipped[0][1])
    problems = [text for _case, text in result.failures + result.errors]
    assert not problems, "\n".join(problems)
    assert result.testsRun == 1
    tried(asyncio_tests=1)
