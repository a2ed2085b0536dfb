"""What would be published, built once: a wheel and a source distribution, and fresh environments to put them in."""

from __future__ import annotations

import sys
import venv
from typing import TYPE_CHECKING

import pytest
from tests.packaging.building import ROOT, maturin, run

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel for the running interpreter."""
    out = tmp_path_factory.mktemp("wheel")
    maturin("build", "--release", "--locked", "--interpreter", sys.executable, "--out", out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The source distribution."""
    out = tmp_path_factory.mktemp("sdist")
    maturin("sdist", "--out", out)
    (built,) = out.glob("*.tar.gz")
    return built


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy of the files under version control, and nothing else."""
    out = tmp_path_factory.mktemp("clone") / "cano"
    for name in run("git", "ls-files", "-z").split("\0"):
        source = ROOT / name
        if name and source.is_file():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(source.read_bytes())
    return out


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[pathlib.Path], pathlib.Path]:
    """Install something into a fresh environment; gives that environment's interpreter."""

    def install(what: pathlib.Path) -> pathlib.Path:
        home = tmp_path_factory.mktemp("environment")
        venv.create(home, with_pip=True, symlinks=True)
        python = home / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", what, cwd=home)
        return python

    return install
