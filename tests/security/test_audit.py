"""What runs do to the outside, as CPython's own audit hooks tell it: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault("security")

PROGRAM = Path(__file__).with_name("watched.py")


def seen(*arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip()


def test_runs_open_listen_on_evaluate_and_start_nothing(engine: str) -> None:
    assert seen(engine) == ""


def test_it_would_be_seen() -> None:
    if os.path.exists("/proc/net/tcp"):
        assert "socket:" in seen("python", "listen")
    assert "compile" in seen("python", "evaluate")


@pytest.mark.parametrize("arguments", [["-m", "cano"], ["-c", "import cano"]])
def test_what_is_printed_about_the_installation_holds_no_environment(arguments: list[str]) -> None:
    """`python -m cano` is what people paste into an issue."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**os.environ, "SOME_TOKEN": "canary-in-the-environment"},
    )
    assert ended.returncode == 0
    assert "canary" not in ended.stdout + ended.stderr
