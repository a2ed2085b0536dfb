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

pytestmark = pytest.mark.fault("F5", "F6")

PROGRAMS = Path(__file__).with_name("programs.py")
SOAK = os.environ.get("CANO_SOAK") == "1"
# How often those that end at a random moment, and the others; `CANO_ENDINGS` names another number for the long form.
REPEATS = (int(os.environ.get("CANO_ENDINGS", "200")),) * 2 if SOAK else (5, 1)
# Seconds: a process is gone at most so long after it had nothing to do but to end. (Starting it takes most of this.)
PATIENCE = 2.0
SLOW_MACHINE = 10.0


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


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_a_process_ends_as_it_should(engine: str, ending: str, tried: Any) -> None:
    if ending in FORKS and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    program, code, stdout = ENDINGS[ending]
    is_random = "rng" in program.__code__.co_varnames
    filters = ["-W", "error"]
    if ending in FORKS:  # of which CPython warns from 3.12 on; that it works is what is tested here
        filters += ["-W", "ignore:This process:DeprecationWarning"]
    fastest = float("inf")
    repeats = REPEATS[0 if is_random else 1]
    for seed in range(repeats):
        began = time.monotonic()
        process = subprocess.run(
            [sys.executable, *filters, "-X", "faulthandler", str(PROGRAMS), ending, engine, str(seed)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        fastest = min(fastest, time.monotonic() - began)
        assert (process.returncode, process.stdout, process.stderr) == (code, stdout, ""), f"seed {seed}"
    tried(processes=repeats)
    # The fastest: how busy the machine is with other things says nothing about us.
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert fastest < PATIENCE * (SLOW_MACHINE if SOAK else busy)
