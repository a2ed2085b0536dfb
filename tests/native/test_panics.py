"""A panic in the native engine becomes `InternalError`, wherever it happens; the process, the loop and later runs go on.

Panics are injected at each transition that is reported to a machine and at each step of a worker, one alone and one that is
followed by another at the next such point, in a build of the native module made for this:
it takes a minute or two, so only `make soak` does it, or `CANO_FAIL_POINTS=1`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WANTED = "1" in (os.environ.get("CANO_FAIL_POINTS"), os.environ.get("CANO_SOAK"))

pytestmark = [
    pytest.mark.fault("F13", "unsafe"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not WANTED, reason="compiles another native module: CANO_FAIL_POINTS=1"),
    pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with a native module that has fail points; what has to be on the path for it."""
    target = ROOT / "target" / "fail-points"
    build = ["cargo", "build", "--quiet", "--locked", "--manifest-path", str(ROOT / "rust/cano-py/Cargo.toml")]
    subprocess.run(
        [*build, "--features", "fail-points", "--target-dir", str(target)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYO3_PYTHON": sys.executable},
    )
    built = next(path for path in (target / "debug").glob("*_core.*") if path.suffix in (".so", ".dylib", ".dll"))
    place = tmp_path_factory.mktemp("fail-points")
    shutil.copytree(ROOT / "python/cano", place / "cano", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    shutil.copy(built, place / "cano" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}")
    return place


def test_a_panic_at_every_transition(package: Path, tried: Callable[..., None]) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore:cano's native engine:RuntimeWarning",
            str(Path(__file__).with_name("panics.py")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(package), "RUST_BACKTRACE": "0"},
    )
    # What Rust prints of each panic is on the standard error; nothing else may be.
    printed = [
        line
        for line in ended.stderr.splitlines()
        if line and "panicked at" not in line and "injected at point" not in line and "RUST_BACKTRACE" not in line
    ]
    assert (ended.returncode, printed) == (0, [])
    assert int(ended.stdout) > 150  # so many panics were injected
    tried(panics=int(ended.stdout))
