"""The canary goes through all suites, in a process of its own: the long form (`CANO_SOAK=1`), for it takes minutes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.security.through_all import Listener, TellingInt, TellingStr

from cano import TaskError

pytestmark = pytest.mark.fault("security")

ROOT = Path(__file__).parents[2]
SUITES = ["tests/contract", "tests/properties"]


@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.environ.get("CANO_SOAK") != "1", reason="takes minutes: CANO_SOAK=1")
def test_the_canary_through_all_suites(engine: str, tried: Callable[..., None]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CANO_", "PYTEST_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--engine", engine, *SUITES],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**environment, "CANO_CANARY": "1"},
    )
    assert ended.returncode == 0, ended.stdout[-5_000:] + ended.stderr
    told = re.search(r"canary: (\d+) drawn, (\d+) stored, (\d+) texts searched, 0 leaks", ended.stdout)
    summary = re.search(r"^(\d+) passed, (\d+) skipped", ended.stdout, re.MULTILINE)
    assert told is not None, ended.stdout
    assert summary is not None, ended.stdout[-1_000:]
    drawn, stored, searched = map(int, told.groups())
    passed, skipped = map(int, summary.groups())
    assert passed > 10 * skipped
    tried(values_drawn=drawn, values_stored=stored, texts_searched=searched)


def test_a_leak_would_be_found() -> None:
    assert (TellingInt(3), TellingStr("a")) == (3, "a")
    listener = Listener()
    listener.errors.append(TaskError(f"a task returned {TellingInt(3)}"))
    listener.lines.append(f"a task returned {TellingStr('x')!r}")
    assert len(list(listener.leaks())) == 2
    assert list(listener.leaks()) == []


def test_what_a_user_shows_is_no_leak() -> None:
    listener = Listener()
    error = TaskError(f"a task failed with ValueError: {TellingInt(3)}")
    error.__cause__ = ValueError(TellingInt(3))
    listener.errors.append(error)
    assert list(listener.leaks()) == []
    assert listener.searched == 1
