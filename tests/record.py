"""What the tests tried, for `docs/reliability.md`: which fault classes a test belongs to, and how often each was injected.

A test says where it belongs with `@pytest.mark.fault("F8")` (or `pytestmark`); the classes are those of
`tools/reliability/classes.toml`. What it did more often than once it reports through the fixture `tried`:

    def test_an_interrupt_at_every_opcode(engine, tried):
        ...
        tried(interrupts=points)

`pytest --record FILE` writes what a run amounts to: by interpreter, fault class and engine ("both": a test that is about no
engine, or compares the two). A class and engine that ran replaces what the file says of it; with `--record-add` it is added
to that, for a long run that was cut in pieces. `pytest --fault F8` runs the tests of one class.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BOTH = "both"


def interpreter() -> str:
    """How the page names the interpreter: `3.14t`, say."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return f"{sys.version_info.major}.{sys.version_info.minor}{'t' if free_threaded else ''}"


class Tally:
    """What the tests of one fault class did on one engine."""

    def __init__(self) -> None:
        self.tests: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()
        self.seconds = 0.0

    def as_json(self, before: dict[str, Any]) -> dict[str, Any]:
        form = "long" if os.environ.get("CANO_SOAK") == "1" else "short"
        return {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "forms": sorted({form, *before.get("forms", [])}),
            "tests": dict(sorted((Counter(before.get("tests", {})) + self.tests).items())),
            "seconds": round(before.get("seconds", 0) + self.seconds, 1),
            "tried": dict(sorted((Counter(before.get("tried", {})) + self.tried).items())),
        }


class Recorder:
    """Collects what the tests of one run tried, per fault class and engine."""

    def __init__(self, file: Path | None, *, adds: bool) -> None:
        self.file = file
        self.adds = adds
        self.tallies: dict[tuple[str, str], Tally] = {}

    def report(self, classes: list[str], engine: str, outcome: str, seconds: float, tried: dict[str, int]) -> None:
        for name in classes:
            tally = self.tallies.setdefault((name, engine), Tally())
            tally.tests[outcome] += 1
            tally.seconds += seconds
            tally.tried.update(tried)

    def write(self) -> None:
        if self.file is None or not self.tallies:
            return
        stored: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}
        place = stored.setdefault(interpreter(), {})
        for (name, engine), tally in self.tallies.items():
            engines = place.setdefault(name, {})
            engines[engine] = tally.as_json(engines.get(engine, {}) if self.adds else {})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        facts = dict(report.user_properties)
        # A test that never came to its call was skipped, or failed in its set-up; an error at the end comes on top.
        counts = report.when == "call" or not report.passed
        if "fault_classes" in facts and counts:
            self.report(
                facts["fault_classes"],
                facts["fault_engine"],
                report.outcome,
                report.duration,
                facts.get("tried", {}) if report.when == "call" else {},
            )

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        self.write()


def add_options(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, help="write what the tests tried, per fault class, to this file")
    parser.addoption("--record-add", action="store_true", help="add to what the file of --record says already")
    parser.addoption("--fault", action="append", help="run only what is marked with this fault class (may be repeated)")


def configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fault(*classes): the fault classes of tools/reliability/classes.toml it is about"
    )
    config.pluginmanager.register(
        Recorder(config.getoption("--record"), adds=config.getoption("--record-add")), "cano-recorder"
    )


def classes_of(item: pytest.Item) -> list[str]:
    return sorted({name for marker in item.iter_markers("fault") for name in marker.args})


def engine_of(item: pytest.Item) -> str:
    parameters = getattr(item, "callspec", None)
    by_folder = {"pure": "python", "native": "native"}.get(item.path.parent.name, BOTH)
    return parameters.params.get("engine", by_folder) if parameters is not None else by_folder


def mark(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Has each report say which fault classes and which engine its test is about; leaves out what --fault does not name."""
    wanted = set(config.getoption("--fault") or ())
    if wanted:
        left_out = [item for item in items if not wanted.intersection(classes_of(item))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if wanted.intersection(classes_of(item))]
    for item in items:
        classes = classes_of(item)
        if classes:
            item.user_properties += [("fault_classes", classes), ("fault_engine", engine_of(item))]


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds to what the test tried: `tried(interrupts=20_000)`."""
    counts: Counter[str] = Counter()
    request.node.user_properties.append(("tried", counts))

    def add(**more: int) -> None:
        counts.update(more)

    return add
