"""A native module that fails on purpose (`rust/cano-py/src/fail.rs`), made for `test_panics.py` and `test_crossings.py`.

It takes a minute or two, so only `make soak` does it, or `CANO_FAIL_POINTS=1`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

ROOT = Path(__file__).parent.parent.parent
WANTED = "1" in (os.environ.get("CANO_FAIL_POINTS"), os.environ.get("CANO_SOAK"))

MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not WANTED, reason="compiles another native module: CANO_FAIL_POINTS=1"),
    pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo"),
]


@cache
def package() -> Path:
    """Make a copy of the package with a native module that has fail points; what has to be on the path for it."""
    target = ROOT / "target" / "fail-points"
    build = ["cargo", "build", "--quiet", "--locked", "--manifest-path", str(ROOT / "rust/cano-py/Cargo.toml")]
    subprocess.run(
        [*build, "--features", "fail-points", "--target-dir", str(target)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYO3_PYTHON": sys.executable},
    )
    built = next(path for path in (target / "debug").glob("*_core.*") if path.suffix in (".so", ".dylib", ".dll"))
    place = Path(mkdtemp(prefix="fail-points-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    shutil.copytree(ROOT / "python/cano", place / "cano", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    shutil.copy(built, place / "cano" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}")
    return place


def python(program: str, *more: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a program of this folder with that module."""
    path = os.pathsep.join([str(package()), str(ROOT)])
    return subprocess.run(
        [sys.executable, *options, str(Path(__file__).with_name(program)), *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
        env={**os.environ, "PYTHONPATH": path, "RUST_BACKTRACE": "0"},
    )
