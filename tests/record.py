"""What the tests tried, for `docs/reliability.md`: which fault classes a test belongs to, and how often each was injected.

A test says where it belongs with `@pytest.mark.fault("F8")` (or `pytestmark`); the classes are those of
`tools/reliability/classes.toml`. What it did more often than once it reports through the fixture `tried`:

    def test_an_interrupt_at_every_opcode(engine, tried):
        ...
        tried(interrupts=points)

`pytest --record FILE` writes what a run amounts to, by interpreter and fault class. Runs add up in a file of several runs only
if `--record-add` is given; otherwise a class that ran replaces what the file says of it.
"""

from __future__ import annotations

import json
import platform
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def interpreter() -> str:
    """How the page names the interpreter: `3.14t`, say."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return f"{sys.version_info.major}.{sys.version_info.minor}{'t' if free_threaded else ''}"


class Recorder:
    """Collects what the tests of one run tried, per fault class."""

    def __init__(self, file: Path | None, *, adds: bool) -> None:
        self.file = file
        self.adds = adds
        self.outcomes: dict[str, Counter[str]] = {}
        self.seconds: Counter[str] = Counter()
        self.tried: dict[str, Counter[str]] = {}

    def report(self, classes: list[str], outcome: str, seconds: float, tried: dict[str, int]) -> None:
        for name in classes:
            self.outcomes.setdefault(name, Counter())[outcome] += 1
            self.seconds[name] += seconds  # type: ignore[assignment]
            self.tried.setdefault(name, Counter()).update(tried)

    def write(self) -> None:
        if self.file is None or not self.outcomes:
            return
        stored: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}
        place = stored.setdefault(interpreter(), {})
        for name in sorted(self.outcomes):
            before = place.get(name, {}) if self.adds else {}
            place[name] = {
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "python": platform.python_version(),
                "tests": dict(sorted((Counter(before.get("tests", {})) + self.outcomes[name]).items())),
                "seconds": round(before.get("seconds", 0) + self.seconds[name], 1),
                "tried": dict(sorted((Counter(before.get("tried", {})) + self.tried[name]).items())),
            }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        facts = dict(report.user_properties)
        if "fault_classes" in facts and (report.when == "call" or (report.when == "setup" and report.skipped)):
            self.report(facts["fault_classes"], report.outcome, report.duration, facts.get("tried", {}))

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        self.write()


def add_options(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, help="write what the tests tried, per fault class, to this file")
    parser.addoption("--record-add", action="store_true", help="add to what the file of --record says already")


def configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fault(*classes): the fault classes of tools/reliability/classes.toml it is about"
    )
    config.pluginmanager.register(
        Recorder(config.getoption("--record"), adds=config.getoption("--record-add")), "cano-recorder"
    )


def mark(items: list[pytest.Item]) -> None:
    """Has each report say which fault classes its test belongs to."""
    for item in items:
        classes = sorted({name for marker in item.iter_markers("fault") for name in marker.args})
        if classes:
            item.user_properties.append(("fault_classes", classes))


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds to what the test tried: `tried(interrupts=20_000)`."""
    counts: Counter[str] = Counter()
    request.node.user_properties.append(("tried", counts))

    def add(**more: int) -> None:
        counts.update(more)

    return add
