"""Running the tools that build, as somebody would who knows nothing of this checkout."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where installing from source compiles: kept between runs, and apart from the desk's own builds, which it would undo.
TARGET = ROOT / "target" / "packaging"

FRESH = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CANO_", "PYO3_"))},
    "CARGO_TARGET_DIR": str(TARGET),
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
"""The environment of a process that knows nothing of this checkout."""


def run(*command: str | os.PathLike[str], cwd: pathlib.Path = ROOT) -> str:
    """Run a command and return what it printed; where it fails, the test fails with all of it."""
    done = subprocess.run(
        [os.fspath(part) for part in command], cwd=cwd, env=FRESH, text=True, capture_output=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{' '.join(map(str, command))} gave {done.returncode}:\n{said}"
    return done.stdout


def maturin(*arguments: str | os.PathLike[str]) -> None:
    """Run the maturin of this environment."""
    run(pathlib.Path(sys.executable).parent / "maturin", *arguments)
