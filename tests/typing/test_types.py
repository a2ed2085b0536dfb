"""The types users see: what is right passes mypy and pyright, both strict, and what is wrong is found by both."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXPECTED = re.compile(r"# expect-error: \w+")
MYPY = re.compile(r"^(?P<file>[^:]+\.py):(?P<line>\d+): error: (?P<message>.*)$")

# A checker that starts with nothing cached reads the standard library's types first.
pytestmark = pytest.mark.timeout(600)


def mypy(*files: Path, where: Path) -> set[tuple[str, int, str]]:
    """What mypy finds, as (file name, line, message)."""
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--no-incremental", "--config-file="]
    ended = subprocess.run(
        [*command, "--follow-imports=silent", "--no-error-summary", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(ROOT / "python")},
        cwd=where,
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    found = [MYPY.match(line) for line in ended.stdout.splitlines()]
    return {(Path(one["file"]).name, int(one["line"]), one["message"]) for one in found if one is not None}


def pyright(*files: Path, where: Path) -> set[tuple[str, int, str]]:
    """What pyright finds, as (file name, line, message)."""
    project = where / "pyrightconfig.json"
    project.write_text(
        json.dumps(
            {
                "include": [file.name for file in files],
                "typeCheckingMode": "strict",
                "pythonVersion": "3.11",
                "extraPaths": [str(ROOT / "python")],
                # Of a mistake's consequences nothing is to be learnt here.
                "reportUnknownVariableType": False,
                "reportUnknownMemberType": False,
                "reportUnknownArgumentType": False,
                "reportUnusedExpression": False,
            }
        ),
        encoding="utf-8",
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(project)],
        capture_output=True,
        text=True,
        check=False,
        cwd=where,
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    answer = json.loads(ended.stdout)
    assert answer["summary"]["filesAnalyzed"] == len(files), ended.stdout
    return {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"])
        for one in answer["generalDiagnostics"]
        if one["severity"] in ("error", "warning")
    }


@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_the_types_users_see(checker: object, tmp_path: Path) -> None:
    assert callable(checker)
    accepted, rejected = (Path(shutil.copy(HERE / name, tmp_path)) for name in ("accepted.py", "rejected.py"))
    found = checker(accepted, rejected, where=tmp_path)
    wrongly = sorted(one for one in found if one[0] == accepted.name)
    assert not wrongly, f"{checker.__name__} refuses what is right: {wrongly}"

    lines = rejected.read_text(encoding="utf-8").splitlines()
    expected = {number for number, line in enumerate(lines, 1) if EXPECTED.search(line)}
    assert len(expected) > 30
    lines_found = {line for _, line, _ in found}
    missed = [f"{number}: {lines[number - 1].strip()}" for number in sorted(expected - lines_found)]
    assert not missed, f"{checker.__name__} does not see: {missed}"
    surprising = sorted(one for one in found if one[0] == rejected.name and one[1] not in expected)
    assert not surprising, f"{checker.__name__} finds more than is wrong: {surprising}"
