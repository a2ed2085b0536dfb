"""Nothing outlives its run: no object, no reference, no memory. Each check has a process to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).with_name("programs.py")
SOAK = os.environ.get("CANO_SOAK") == "1"
# In the short form the kinds of run share the time there is, and those that nearly every run is like have more of it.
RUNS = 10_000 if SOAK else 400
MANY_RUNS = 10_000 if SOAK else 1_000
COMMON = ("chain", "fan_on_futures", "failing_branches", "cancelled")


def scenario_names() -> list[str]:
    """The scenarios' names, without importing the engine's state into this process."""
    names = []
    lines = PROGRAMS.with_name("scenarios.py").read_text(encoding="utf-8").splitlines()
    for marker, line in zip(lines, lines[1:], strict=False):
        if marker in ("@succeeds", "@fails"):
            names.append(line.removeprefix("async def ").split("(")[0])
    assert len(names) > 25
    return names


def run(*arguments: object, limit: float = 500) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", str(PROGRAMS), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600 if SOAK else limit,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


pytestmark = [pytest.mark.timeout(660 if SOAK else 600), pytest.mark.fault("F7")]


@pytest.mark.parametrize("scenario", scenario_names())
def test_nothing_is_left_of_a_run(engine: str, scenario: str, tried: Callable[..., None]) -> None:
    runs = MANY_RUNS if scenario in COMMON else RUNS
    run("nothing_is_left", engine, scenario, runs)
    tried(runs=runs)


COUNTS = [10, 1_000, pytest.param(100_000, marks=pytest.mark.skipif(not SOAK, reason="takes long: CANO_SOAK=1"))]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("way", ["async", "inline", "threads"])
def test_an_error_keeps_no_other_branch_alive(engine: str, way: str, count: int, tried: Callable[..., None]) -> None:
    run("an_error_keeps_no_other_branch", engine, way, count)
    tried(branches_of_a_failed_split=count)


@pytest.mark.parametrize("count", COUNTS)
def test_a_failed_join_keeps_no_cancelled_branch_alive(engine: str, count: int) -> None:
    run("a_cancelled_branch_keeps_nothing", engine, "-", count)


def test_a_collector_that_never_rests(engine: str) -> None:
    run("a_collector_that_never_rests", engine, "-", 20 if SOAK else 1)
