"""F11: the suites themselves, each test in many threads at once (`tests/at_once.py`), in a process of their own.

`tests/compat/test_many_loops.py` has threads share a workflow, a store and a token; `tests/faults/test_at_once.py` has them share
the package, under a few programs. Here they share the package under all that the contract says of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.at_once import run_at_once
from tests.faults.points import SOAK

pytestmark = pytest.mark.fault("F11")

ROOT = Path(__file__).parents[2]
THREADS = 8 if SOAK else 4
# The short form: what touches every kind of step, and takes seconds.
FEATURES = [
    "as_completed", "nodes", "retries", "split_join", "split_results", "strategies",
    "tasks", "timeouts", "workflow",
]  # fmt: skip
SUITES = ["tests/contract"] if SOAK else [f"tests/contract/test_{feature}.py" for feature in FEATURES]


@pytest.mark.timeout(3600 if SOAK else 300)
def test_a_suite_in_many_threads(engine: str, tried: Callable[..., None]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CANO_", "PYTEST_"))}
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", f"--at-once={THREADS}", "--engine", engine]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *SUITES],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr[-10_000:]
    told = re.search(r"at once: (\d+) tests in (\d+) threads each, (\d+) alone", ended.stdout)
    assert told is not None, ended.stdout
    tests, threads, alone = map(int, told.groups())
    assert threads == THREADS
    assert tests > 5 * alone
    tried(tests_in_many_threads=tests)


# --- what would be found ---


def test_what_one_thread_raises_is_raised() -> None:
    numbers = iter(range(THREADS))
    lock = threading.Lock()

    def call() -> None:
        with lock:
            number = next(numbers)
        if number >= 2:
            raise LookupError(number % 2)

    with pytest.raises(LookupError) as caught:
        run_at_once([call] * THREADS)
    (note,) = caught.value.__notes__
    assert note.startswith(f"{THREADS - 2} of {THREADS} threads failed:\n")
    assert f"{THREADS // 2 - 1} times LookupError: 1" in note


def test_threads_that_hang_are_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    end = threading.Event()

    def hang_here() -> None:
        end.wait(60)

    try:
        with pytest.raises(pytest.fail.Exception, match=r"after 0 s there still run: at once 1; each stack is above"):
            run_at_once([lambda: None, hang_here], patience=0.2)
        assert "in hang_here" in capfd.readouterr().err
    finally:
        end.set()


def test_a_skip_is_one_only_where_all_threads_skip() -> None:
    run_at_once([lambda: None, lambda: pytest.skip("not here")])
    with pytest.raises(pytest.skip.Exception, match="not here"):
        run_at_once([lambda: pytest.skip("not here")] * 2)
