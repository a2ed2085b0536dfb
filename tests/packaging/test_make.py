"""The Makefile explains itself, and says in one sentence what a machine lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.packaging.building import ROOT

if TYPE_CHECKING:
    import pathlib

CHECK = ROOT / "tools" / "check-machine.sh"


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of commands that stands for a whole machine: a shell's tools, cargo, rustc and a linker."""
    for tool in ("sh", "sed", "head", "printf"):
        if found := shutil.which(tool):
            (tmp_path / tool).symlink_to(found)
    answers = {"cargo": "cargo 1.94.0 (x)", "rustc": "rustc 1.94.0 (x)", "cc": "cc"}
    for tool, answer in answers.items():
        (tmp_path / tool).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / tool).chmod(0o755)
    return tmp_path


def check(machine: pathlib.Path, python: str = sys.executable) -> tuple[int, str]:
    """What check-machine.sh answers on that machine."""
    done = subprocess.run(
        ["sh", str(CHECK), python], env={"PATH": str(machine)}, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_complete_machine_passes(machine: pathlib.Path) -> None:
    assert check(machine) == (0, "")


@pytest.mark.parametrize(
    ("tool", "answer", "says"),
    [
        ("cargo", None, "cargo (Rust 1.94 or newer) is needed"),
        ("cc", None, "a C linker is needed"),
        ("rustc", "rustc 1.70.0 (x)", "Rust 1.94 or newer is needed, and this is 'rustc 1.70.0 (x)'"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    machine: pathlib.Path, tool: str, answer: str | None, says: str
) -> None:
    if answer is None:
        (machine / tool).unlink()
    else:
        (machine / tool).write_text(f"#!/bin/sh\necho '{answer}'\n")
    code, said = check(machine)
    assert code == 1
    assert said.startswith(f"cano: {says}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("version", [None, "3.10"])
def test_an_old_or_missing_python_is_said_in_one_sentence(machine: pathlib.Path, version: str | None) -> None:
    if version is not None:
        (machine / "old").write_text("#!/bin/sh\nexit 1\n")
        (machine / "old").chmod(0o755)
    code, said = check(machine, "old")
    assert code == 1
    assert said.startswith("cano: Python 3.11 or newer is needed, and 'old' is not one")
    assert said.count("\n") == 1


def test_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", "")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        env={**os.environ, "MAKEFLAGS": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    listed = re.findall(r"^  make ([\w-]+) +\S", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())
    assert {"demo", "test", "build", "lint", "typecheck", "bench", "docs", "wheels", "clean", "help"} <= set(listed)
