"""The main example on small trees: what it reports, how it fails, what it shows on a terminal."""

import os
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = Path(__file__).parents[2] / "examples/survey/main.py"
MODULE = """\
import os, sys
from os import path
from . import sibling

class Outer:
    def method(self):
        async def inner():
            pass
        return inner

try:
    import json
except ImportError:
    def fallback(): pass
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "package").mkdir(parents=True)
    for number in range(18):
        (folder / "package" / f"module_{number:02}.py").write_text(MODULE)
    for skipped in ("__pycache__", ".hidden", "site-packages"):
        (folder / skipped).mkdir()
        (folder / skipped / "skipped.py").write_text("import skipped")
    (folder / "notes.txt").write_text("no Python")
    return folder


def survey(engine: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-W", "error", MAIN, "--engine", engine, *map(str, arguments)],
        env={**os.environ, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=250,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_every_file_is_measured_or_named(engine: str, tree: Path, tmp_path: Path) -> None:
    (tree / "broken.py").write_bytes(b"# coding: klingon\n")
    # A link to itself is an OSError, which may go away, so it is tried four times. Meanwhile the join has what it needs
    # and cancels it: it is the second split that names it.
    (tree / "loop.py").symlink_to(tree / "loop.py")
    out = tmp_path / "a new" / "folder"
    done = survey(engine, tree, "--out", out)
    assert done.stderr == ""  # no progress where there is no terminal
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"survey of {tree}"
    assert lines[1:5] == [
        "  files      20 found: 18 measured, 2 failed",
        f"  lines      {18 * 14}",
        f"  functions  {18 * 3}",
        "  classes    18",
    ]
    assert re.search(r"most imported modules\n  json  18 files\n  os    18 files\n  sys   18 files\n\n", done.stdout)
    assert re.search(r"  Outer.method +4 lines, in package/module_\d\d.py:6\n", done.stdout)
    assert lines[-7:-3] == [
        "",
        "2 files could not be measured",
        "  broken.py  SyntaxError: unknown encoding: klingon",
        "  loop.py    OSError: Too many levels of symbolic links, 4 attempts",
    ]
    assert re.fullmatch(rf"20 branches, \d+\.\d\d s, {engine} engine", lines[-1])

    report = (out / "report.md").read_text("utf-8")
    assert "| broken.py | SyntaxError: unknown encoding: klingon |" in report
    assert report.count("18 files |") == 3
    assert {path.name for path in out.iterdir()} == {"report.md", "workflow.dot", "workflow.mmd"}
    assert "REST" in (out / "workflow.mmd").read_text("utf-8")
    assert (out / "workflow.dot").read_text("utf-8").startswith("digraph")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in a folder")
def test_a_file_that_cannot_be_read_to_its_end(engine: str, tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tree / "a_pipe.py")  # whoever opens it waits for a writer: the thread is never free again
    done = survey(engine, tree, "--out", tmp_path / "out", "--attempt-timeout", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "19 found: 18 measured, 1 failed" in done.stdout
    assert re.search("  a_pipe.py  AttemptTimeoutError: attempt 1 of .* longer than .* 1 s\n", done.stdout)


def test_too_many_broken_files_end_in_failed(engine: str, tree: Path, tmp_path: Path) -> None:
    for number in range(5):
        (tree / f"a_{number}.py").write_text("def (:")
    done = survey(engine, tree, "--out", tmp_path / "out", "--bulkhead", 1)
    assert done.returncode == 1
    assert "23 found: 0 measured, 3 failed, 20 not tried" in done.stdout
    assert "failed: the join of split measure" in done.stdout
    assert "Percentage(0.9) needs 21 of 23 branches to succeed" in done.stdout
    assert done.stdout.count("SyntaxError: invalid syntax (line 1)") == 3


def test_an_empty_folder(engine: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = survey(engine, tmp_path / "empty", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "failed: no Python file was found" in done.stdout


def test_bad_arguments(engine: str, tree: Path, tmp_path: Path) -> None:
    done = survey(engine, tree, "--out", tmp_path / "out", "--bulkhead", 0)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bulkhead is 0, so no branch could ever start" in done.stderr
    done = survey(engine, tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no folder" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")
def test_progress_on_a_terminal(engine: str, tree: Path, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, MAIN, tree, "--engine", engine, "--out", tmp_path / "out"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            encoding="utf-8",
        )
        stdout, _ = process.communicate(timeout=250)
        shown = os.read(ours, 10_000).decode() if select.select([ours], [], [], 0)[0] else ""
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0
    assert "\rmeasuring 1 of 18 files (6%), 0 failed" in shown
    assert shown.endswith("\r\x1b[2K")  # and it is gone before the report comes
    assert "measuring 1 of" not in stdout
