"""The code blocks of README and docs run on both engines, and print what the pages say they print."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import io
import os
import subprocess
import sys
import types
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.docs.blocks import ROOT, Block, blocks_of, pages, programs

from cano.testing import VirtualTimeLoop

PROGRAMS = [program for page in pages() for program in programs(page)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program[0]))
def test_block(
    program: list[Block], engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("CANO_ENGINE", engine)
    monkeypatch.chdir(tmp_path)  # what a program writes, it writes there
    if not program[0].real_time:
        monkeypatch.setattr(asyncio, "run", run_in_virtual_time)
    # A real module, so that pickling, annotations and dataclasses find it.
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    for block in program:
        printed = run(block, module.__dict__)
        if block.prints is not None:
            assert_prints(block, printed)


def run(block: Block, namespace: dict[str, Any]) -> str:
    # Lines are counted as in the page, so that a traceback leads there.
    code = compile("\n" * (block.line - 1) + block.code, str(block.path), "exec", dont_inherit=True)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, namespace)
    return out.getvalue()


def run_in_virtual_time(main: Coroutine[Any, Any, Any], **_: Any) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def assert_prints(block: Block, printed: str) -> None:
    checker = doctest.OutputChecker()
    if not checker.check_output(block.prints, printed, doctest.ELLIPSIS):
        pytest.fail(f"{block} says it prints\n{block.prints}\nbut it prints\n{printed}", pytrace=False)


def test_the_first_example_runs_as_printed(engine: str) -> None:
    """The README's first program, as somebody would run it: a file, a real clock, nothing patched."""
    block = blocks_of(ROOT / "README.md")[0]
    assert len([line for line in block.code.splitlines() if line.strip()]) <= 12
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.code],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**os.environ, "CANO_ENGINE": engine},
    )
    assert ended.returncode == 0, ended.stderr
    assert_prints(block, ended.stdout)


def test_every_page_is_looked_at() -> None:
    assert len(pages()) > 20
    assert len(PROGRAMS) > 40
