"""anyio's own tests for its asyncio backend, each run inside a branch, beside two others.

They do not come with the installed package: `CANO_ANYIO_TESTS` names an unpacked source distribution of the version that
is installed. They run in a process of their own, under the plugin in anyio_plugin.py, on every loop that they know: in
debug mode, on asyncio, uvloop and with eager tasks. What they need must be there: pytest-mock, psutil, trustme, blockbuster.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

# Left out: `sockets` and `to_process`, which test the machine's network (IPv6, DNS) and processes more than tasks, and what
# is about anyio's packaging or its own pytest plugin.
SUBJECTS = (
    "concurrency_utils", "contextmanagers", "debugging", "eventloop", "fileio", "from_thread", "functools", "futures",
    "itertools", "lowlevel", "signals", "subprocesses", "synchronization", "taskgroups", "tempfile", "to_thread",
)  # fmt: skip
HERE = pathlib.Path(__file__).parent
SOURCES = os.environ.get("CANO_ANYIO_TESTS")

# Minutes of tests, most of which wait for real time to pass.
pytestmark = [
    pytest.mark.fault("asyncio-suite"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(SOURCES is None, reason="CANO_ANYIO_TESTS names no sources of anyio"),
]


@pytest.mark.parametrize("mode", ["default", "introspect"])
def test_anyios_own_tests(engine: str, mode: str, tmp_path: pathlib.Path, tried: Any) -> None:
    assert SOURCES is not None
    shutil.copytree(pathlib.Path(SOURCES) / "tests", tmp_path / "tests")
    shutil.copy(pathlib.Path(SOURCES) / "pyproject.toml", tmp_path)
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "CANO_ENGINE": engine,
        "CANO_INTROSPECT": "1" if mode == "introspect" else "0",
    }
    files = [f"tests/test_{subject}.py" for subject in SUBJECTS]
    here = [file for file in files if (tmp_path / file).exists()]  # not every version of anyio has them all
    assert len(here) > len(files) / 2
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "anyio_plugin", "-p", "no:cacheprovider", *here, "tests/streams"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    tried(anyio_tests=int(passed[1]))
