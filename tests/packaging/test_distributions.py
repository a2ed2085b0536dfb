"""A wheel, a source distribution and a clean clone give the same working package."""

from __future__ import annotations

import json
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from tests.packaging.building import run

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

# They compile the native module, the first time from nothing.
pytestmark = [pytest.mark.fault("platforms"), pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = """
import asyncio, enum, json, sys
from importlib import metadata
from cano import JoinConfig, JoinStrategy, MemoryStore, Workflow
from cano._core import build_info

class S(enum.Enum):
    START = 1
    SPLIT = 2
    SUM = 3
    DONE = 4

def branch(number):
    async def run():
        await asyncio.sleep(0)
        return number * number
    return run

def start(store):
    store.put("numbers", [1, 2, 3])
    return S.SPLIT

async def total(store):
    store.put("total", sum(store.get("split_results").outputs()))
    return S.DONE

def run(engine):
    store = MemoryStore()
    join = JoinConfig(JoinStrategy.All, S.SUM, store_partial_results=True)
    workflow = (
        Workflow(store, engine=engine)
        .register(S.START, start)
        .register_split(S.SPLIT, [branch(n) for n in (1, 2, 3)], join)
        .register(S.SUM, total)
        .add_exit_state(S.DONE)
    )
    reached = asyncio.run(workflow.orchestrate(S.START))
    return [reached.name, store.get("total", int)]

print(json.dumps({
    "python": run("python"),
    "native": run("native"),
    "profile": build_info()["profile"],
    "requires": metadata.requires("cano"),
    "files": sorted(str(path) for path in metadata.files("cano")),
    "installed": [d.name for d in metadata.distributions()],
}))
"""


def test_contents_of_the_wheel(wheel: pathlib.Path) -> None:
    assert wheel.stat().st_size < 2 * 1024 * 1024
    names = zipfile.ZipFile(wheel).namelist()
    assert sum(name.startswith("cano/_core.") and not name.endswith(".pyi") for name in names) == 1
    assert {"cano/__init__.py", "cano/py.typed", "cano/_core.pyi", "cano/_engine/pure/machine.py"} <= set(names)
    licences = [name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name]
    assert sorted(licences) == ["LICENSE", "THIRD-PARTY-LICENSES.txt"]
    foreign = [name for name in names if not name.startswith(("cano/", "cano-"))]
    assert not foreign
    assert not [name for name in names if name.endswith((".rs", ".pyc"))]


def test_contents_of_the_source_distribution(sdist: pathlib.Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "Cargo.lock", "Cargo.toml", "LICENSE", "PKG-INFO", "README.md", "THIRD-PARTY-LICENSES.txt", "pyproject.toml",
        "python/cano/__init__.py", "python/cano/py.typed", "rust/cano-engine/src/lib.rs", "rust/cano-py/src/lib.rs",
    }  # fmt: skip
    assert not needed - names
    built = (".so", ".pyd", ".pyc", ".whl")
    assert not [name for name in names if name.startswith("target/") or name.endswith(built)]


@pytest.mark.parametrize("form", ["wheel", "sdist", "clone"])
def test_installs_and_runs(
    form: str, request: pytest.FixtureRequest, install: Callable[[pathlib.Path], pathlib.Path], tmp_path: pathlib.Path
) -> None:
    python = install(request.getfixturevalue(form))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    found = json.loads(run(python, "-W", "error", "-I", program, cwd=tmp_path).splitlines()[-1])

    assert found["native"] == found["python"] == ["DONE", 14]
    assert found["profile"] == "release"
    assert all("extra ==" in requirement for requirement in found["requires"])
    assert sorted(set(found["installed"]) - {"pip", "setuptools", "wheel"}) == ["cano"]
    # The same files, whichever way they came; the wheel is the reference.
    wheel_files = zipfile.ZipFile(request.getfixturevalue("wheel")).namelist()
    assert {name for name in found["files"] if name.startswith("cano/") and "__pycache__" not in name} == {
        name for name in wheel_files if name.startswith("cano/")
    }
    assert "cano" in run(python, "-I", "-m", "cano", cwd=tmp_path)
