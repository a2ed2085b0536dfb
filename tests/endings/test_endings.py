"""However a process ends while runs are under way: the right exit code, nothing on its standard error, in time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.fault("F6")

PROGRAMS = Path(__file__).with_name("programs.py")
SOAK = os.environ.get("CANO_SOAK") == "1"
# How often those that end at a random moment, and the others; `CANO_ENDINGS` names another number for the long form.
REPEATS = (int(os.environ.get("CANO_ENDINGS", "200")),) * 2 if SOAK else (5, 1)
# Seconds: a process is gone at most so long after it had nothing to do but to end. (Starting it takes most of this.)
PATIENCE = 2.0
# On a machine that is slow or busy, one that has nothing to do takes longer, too: what it takes counts so many times.
NOTHING_TO_DO = "closed_before_it_began"
STARTS = 10
TRIES = 5
HANGS = 100  # seconds: it never ends


def _endings() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("endings_programs", PROGRAMS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    endings: dict[str, Any] = module.ENDINGS
    return endings


ENDINGS = _endings()
FORKS = [name for name in ENDINGS if any(word in name for word in ("fork", "child", "process"))]


def end(ending: str, engine: str, seed: int) -> float:
    """Run an ending, see that it is as it should be, and return how long it took."""
    _, code, stdout = ENDINGS[ending]
    filters = ["-W", "error"]
    if ending in FORKS:  # of which CPython warns from 3.12 on; that it works is what is tested here
        filters += ["-W", "ignore:This process:DeprecationWarning"]
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, *filters, "-X", "faulthandler", str(PROGRAMS), ending, engine, str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    took = time.monotonic() - began
    assert (process.returncode, process.stdout, process.stderr) == (code, stdout, ""), f"seed {seed}"
    return took


@pytest.mark.timeout(3600 if SOAK else 600)
@pytest.mark.parametrize(
    "ending", [pytest.param(name, marks=[pytest.mark.fault("F5")] * (name in FORKS)) for name in sorted(ENDINGS)]
)
def test_a_process_ends_as_it_should(engine: str, ending: str, tried: Any) -> None:
    if ending in FORKS and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    is_random = "rng" in ENDINGS[ending][0].__code__.co_varnames
    repeats = REPEATS[0 if is_random else 1]
    fastest = min(end(ending, engine, seed) for seed in range(repeats))
    tried(processes=repeats)
    # The fastest, and more tries only while that is too slow: one that waits for somebody does so each time.
    allowed = PATIENCE
    for seed in range(TRIES):
        if fastest < allowed:
            break
        allowed = PATIENCE + STARTS * end(NOTHING_TO_DO, engine, seed)
        fastest = min(fastest, end(ending, engine, seed))
    assert fastest < allowed
