"""Every example runs, on both engines, without a warning, and prints what it is there to show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "examples"

# What is in the output of each script, as regular expressions, in this order.
DOCUMENT: dict[str, list[str]] = {
    "linear": ["final state: OrderState.COMPLETE", "paid: 28.5", "empty order: OrderState.FAILED"],
    "complete": ["DataState.COMPLETE after .* s, 3 processors", "final result: 330"],
    "closures": ["Good morning, Ada!", "Good morning, Barbara!", "3 guests, and room for 10", "State.COMPLETE"],
    "join_all": [
        re.escape("[100, 200, 300]"),
        "0 ok, 1 failed, 2 cancelled of 3",
        "processor 1 .*, processor 3 ",
        "1 ok, 2 failed, 0 cancelled of 3",
    ],
    "join_any": [
        "provider 2: down",
        "provider 3: answered",
        "provider 1: cancelled",
        "State.COMPLETE after .* 1 ok, 1 failed, 1 cancelled of 3",
    ],
    "join_quorum": [
        "replica 1, replica 2, replica 3\n.*failed: 0, cancelled: 2",
        "replica 2, replica 3, replica 5\n.*failed: 2, cancelled: 0",
        "no quorum: .* 0 ok, 3 failed, 2 cancelled of 5",
    ],
    "join_percentage": ["75 records done", "branch 9 failed", "were not needed", "exhausted", "20 records done"],
    "join_partial_results": [
        "merging: answer of the medium service",
        "success: fast.*\nsuccess: medium",
        "error: broken",
        "cancelled: slow.*\ncancelled: backup",
    ],
    "join_partial_timeout": [
        "3 of 4 engines answered",
        "though one engine needs 5 s",
        "3 ok, 0 failed, 1 cancelled of 4",
    ],
}
REPLICAS = [
    "(  confirmed  replica [134] after .* s\n){3}",
    "failed     replica 2: file is not a database",
    "cancelled  replica 5",
    "confirmed: the entry is safe",
    "replica 4  hello\n  replica 5  .nothing",
    "no quorum",
]
HEDGED = [
    "200 calls, 20 at once",
    r"plain( +[\d.]+ ms){3} +200 +\+0.0%\n",
    r"hedged( +[\d.]+ ms){3} +\d{3} +\+[\d.]+%\n",
    "p99 from",
]


def run(engine: str, script: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", script, *map(str, arguments)],
        env={**os.environ, "CANO_ENGINE": engine, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=250,
        check=False,
    )


def check(done: "subprocess.CompletedProcess[str]", expected: list[str], code: int = 0) -> None:
    assert done.stderr == ""
    assert done.returncode == code, done.stdout
    rest = done.stdout
    for pattern in expected:
        found = re.search(pattern, rest)
        assert found is not None, f"{pattern!r} is not in what is left of the output:\n{rest}"
        rest = rest[found.end() :]


def test_no_example_is_left_out() -> None:
    programs = {path for path in ROOT.rglob("*.py") if '__name__ == "__main__"' in path.read_text("utf-8")}
    tested = {ROOT / "document" / f"{name}.py" for name in DOCUMENT}
    tested |= {ROOT / "survey/main.py", ROOT / "replicas/replicas.py", ROOT / "hedged/hedged.py"}
    assert programs - {ROOT / "hedged/server.py"} == tested
    listed = (ROOT / "README.md").read_text("utf-8")
    assert [path.name for path in sorted(tested) if path.relative_to(ROOT).as_posix() not in listed] == []


@pytest.mark.parametrize("name", DOCUMENT)
def test_document(engine: str, name: str) -> None:
    check(run(engine, ROOT / "document" / f"{name}.py"), DOCUMENT[name])


def test_replicas(engine: str) -> None:
    check(run(engine, ROOT / "replicas/replicas.py"), REPLICAS)


def test_hedged(engine: str) -> None:
    check(run(engine, ROOT / "hedged/hedged.py", "--calls", 200, "--at-once", 20), HEDGED)
