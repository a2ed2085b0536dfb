"""A process that is stopped half-way, as by a debugger, a container that is frozen, or a machine that sleeps, and goes on later.

Its monotonic clock has gone on meanwhile (that of a machine asleep has not, on Linux: nothing has happened then), so all its
timers are due at once. None is lost, none fires twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SOAK = os.environ.get("CANO_SOAK") == "1"
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.fault("F15"),
    pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped by a signal there"),
]


@pytest.mark.parametrize("stopped", [0.05, 1.0], ids=["some are due", "all are due"])
def test_a_process_that_is_stopped(engine: str, stopped: float, tried: Callable[..., None]) -> None:
    for _ in range(20 if SOAK else 1):
        program = Path(__file__).with_name("suspended.py")
        child = subprocess.Popen(
            [sys.executable, "-W", "error", str(program), engine],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])},
        )
        assert child.stdout is not None
        with child:
            assert child.stdout.readline() == "armed\n"
            child.send_signal(signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
            time.sleep(stopped)  # this is what is injected
            child.send_signal(signal.SIGCONT)
            out, err = child.communicate(timeout=60)
        assert (child.returncode, err) == (0, "")
        seen = json.loads(out)
        limited = [item for item in range(24) if item % 4 == 3]
        others = [item for item in range(24) if item % 4 != 3]
        assert seen["ok"] == others
        assert seen["bad"] == ["AttemptTimeoutError"] * len(limited)
        assert seen["woken"] == [[item, 1] for item in others]
        assert seen["tried"] == [[item, 2 if item in limited else 1] for item in range(24)]
        # An attempt's limit, the delay, and the limit of the second attempt, at least.
        assert seen["took"] >= max(stopped, 0.3 + 0.1 + 0.3)
        assert len(seen["durations"]) == 24
        assert all(0 <= duration <= seen["took"] for duration in seen["durations"])
        tried(timers=36)
