"""The native module is what its stub, its manifests and its notices say."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from tests.packaging.building import ROOT, run

import cano
from cano import _core

pytestmark = pytest.mark.fault("platforms")


def test_the_stub_agrees_with_the_module(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "cano._core"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT / "python"), "PATH": "", "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found" in done.stdout


def test_every_version_is_the_same() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    changes = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes is not None
    assert {cargo["version"], project["version"], cano.__version__, changes[1]} == {_core.build_info()["version"]}


def test_build_info_is_complete() -> None:
    info = _core.build_info()
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", info["rustc"])
    assert info["pyo3"].startswith("0.30.")
    assert info["profile"] in {"debug", "release"}
    assert isinstance(info["features"], tuple)
    assert isinstance(info["free_threaded"], bool)


def test_the_suite_runs_on_the_module_of_this_checkout() -> None:
    assert pathlib.Path(_core.__file__).parent == ROOT / "python" / "cano"


@pytest.mark.slow
def test_notices_of_every_crate_are_shipped() -> None:
    run(sys.executable, ROOT / "tools" / "third_party_licenses.py", "--check")


def test_the_engine_crate_knows_no_python() -> None:
    options = ["--package", "cano-engine", "--all-features", "--edges", "normal", "--target", "all", "--prefix", "none"]
    tree = run("cargo", "tree", *options, "--locked")
    assert tree.startswith("cano-engine ")
    assert not re.search(r"^(pyo3|cpython|python)", tree, re.MULTILINE)
    assert "#![forbid(unsafe_code)]" in (ROOT / "rust" / "cano-engine" / "src" / "lib.rs").read_text()
