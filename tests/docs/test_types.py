"""What the tutorial teaches is typed: each of its programs passes mypy, strict."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import ROOT, blocks_of


def test_the_tutorial_is_typed(tmp_path: Path) -> None:
    files = []
    for block in blocks_of(ROOT / "docs/tutorial.md"):
        file = tmp_path / f"tutorial_{block.line}.py"
        file.write_text(block.code, encoding="utf-8")
        files.append(str(file))
    assert len(files) > 5
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-incremental",
        "--config-file=",
        "--follow-imports=silent",
        *files,
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "python")}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
