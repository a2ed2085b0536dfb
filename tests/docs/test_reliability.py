"""docs/reliability.md is what its generator makes of the records, and every fault class is somebody's."""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.docs.blocks import ROOT
from tools.reliability import page

CLASSES: list[dict[str, Any]] = tomllib.loads((page.HERE / "classes.toml").read_text(encoding="utf-8"))["class"]
NAMES = [entry["name"] for entry in CLASSES]


def marked() -> dict[str, set[str]]:
    """The fault classes that are named in the tests, each with the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), (
                        f"{path}:{node.lineno}: write the class out, for this test"
                    )
                    found.setdefault(argument.value, set()).add(str(path.relative_to(ROOT)))
    return found


def test_the_page_is_what_the_records_make() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "`make reliability` brings it up to date"


def test_every_class_that_a_test_names_is_known() -> None:
    found = marked()
    assert {name: found[name] for name in found.keys() - set(NAMES)} == {}


def test_every_class_is_claimed_by_a_test_or_says_why_not() -> None:
    idle = {entry["name"] for entry in CLASSES if not entry.get("elsewhere") and not entry.get("pending")}
    assert idle - marked().keys() == set()


def test_the_classes_are_complete() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert [name for name in NAMES if name[1:].isdigit()] == [*(f"F{number}" for number in range(1, 16)), "F23"]
    promises = tomllib.loads((page.HERE / "classes.toml").read_text(encoding="utf-8"))["promises"]
    for entry in CLASSES:
        assert entry.keys() >= {"title", "promises", "inject", "check", "target", "found", "limits"}, entry["name"]
        assert set(entry["promises"]) <= promises.keys(), entry["name"]


# --- the generator, on data made up for it ---

ENTRY = {
    "name": "F1",
    "title": "Rain",
    "promises": ["P1"],
    "inject": "Water from above.",
    "check": "Dry inside.",
    "target": "once",
    "found": ["A hole in the roof; mended."],
    "limits": [],
}
RAN = {"date": "2026-01-01", "python": "3.11.9", "machine": "Linux x86_64", "forms": ["short"], "seconds": 1.0}


def made(tmp_path: Path, tests: dict[str, Any], beside: list[dict[str, Any]] = (), **changed: Any) -> str:  # type: ignore[assignment]
    (tmp_path / "tests.json").write_text(json.dumps(tests))
    (tmp_path / "other.json").write_text(json.dumps(list(beside)))
    classes = {"promises": {"P1": "It stays dry."}, "class": [{**ENTRY, **changed}]}
    return page.make(classes, page.Records(tmp_path), "{summary}\n\n{table}\n\n{sections}")


def test_a_class_that_ran(tmp_path: Path) -> None:
    ran = {**RAN, "tests": {"passed": 3, "skipped": 1}, "tried": {"drops_of_rain": 1_500}}
    text = made(tmp_path, {"3.11": {"F1": {"native": ran, "python": ran}}})
    assert "1 of 1 classes of faults were tried on CPython 3.11." in text
    assert "| Rain | 3,000 drops of rain | 1 | holds |" in text
    assert "| 3.11.9 | native | short | 3 passed, 1 skipped | 1,500 drops of rain | 2026-01-01, Linux x86_64 |" in text
    assert "- A hole in the roof; mended." in text


def test_a_class_that_fails_is_called_so(tmp_path: Path) -> None:
    text = made(tmp_path, {"3.14t": {"F1": {"both": {**RAN, "tests": {"passed": 3, "failed": 1}, "tried": {}}}}})
    assert "Failing now: F1." in text
    assert "**fails**" in text
    assert "3 passed, 1 failed" in text


def test_a_class_that_did_not_run_is_called_so(tmp_path: Path) -> None:
    text = made(tmp_path, {}, pending="Waits for rain.")
    assert "Nothing is recorded of F1." in text
    assert "not recorded" in text
    assert "Waits for rain." in text


def test_what_was_tried_without_pytest(tmp_path: Path) -> None:
    fact = {"class": "F1", "what": "hose", "date": "2026-01-02", "tried": {"litres": 1_000}, "facts": ["It was cold."]}
    text = made(tmp_path, {}, [fact])
    assert "*hose* (2026-01-02): 1,000 litres.\n\n- It was cold." in text
    assert "| holds |" in text


def test_what_was_recorded_on_its_own_has_its_own_row(tmp_path: Path) -> None:
    ran = {**RAN, "tests": {"passed": 3}, "tried": {"drops": 1_500}}
    apart = {**RAN, "forms": ["long"], "tests": {"passed": 1}, "tried": {"drops": 2}}
    (tmp_path / "apart.json").write_text(
        json.dumps({"3.11": {"F1": {"native": apart}}, "3.14": {"F1": {"both": apart}}})
    )
    text = made(tmp_path, {"3.11": {"F1": {"native": ran, "python": ran}}})
    assert "tried on CPython 3.11 and 3.14." in text
    assert "| Rain | 3,002 drops | 2 drops | 1 | holds |" in text
    assert "| 3.11.9 | native | short | 3 passed | 1,500 drops |" in text
    assert "| 3.11.9 | native | long | 1 passed | 2 drops |" in text
    assert "| 3.11.9 | both | long | 1 passed | 2 drops |" in text


def test_a_record_of_an_unknown_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="F99"):
        made(tmp_path, {"3.11": {"F99": {}}})
