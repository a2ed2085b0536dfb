"""Builds a wheel for each of several interpreters and tests each where it was installed: `make wheels`.

    python -m tools.build_wheels [--out FOLDER] [--test PATHS] [INTERPRETER...]

An interpreter is a command or a path. Without one: every supported version that is found on the PATH and runs. Two
names of one version are one wheel. The tests that `--test` names (none without it) run in a fresh environment, from a
folder that holds them and no package: what is tested is what would be published. What came of them is recorded for
docs/reliability.md, wheel by wheel.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
import zipfile

from tools.reliability import notes

ROOT = pathlib.Path(__file__).parent.parent
# Compiled apart from the desk's own builds, which a build for another interpreter would undo.
TARGET = ROOT / "target" / "wheels"
USUAL = ("python3", "python3.11", "python3.12", "python3.13", "python3.14", "python3.14t")
TAG = "import sys, sysconfig as c; print('cp%d%d' % sys.version_info[:2] + 't' * bool(c.get_config_var('Py_GIL_DISABLED')))"
OLDEST = "import sys; sys.exit(sys.version_info < (3, 11))"
LARGEST = 2 * 1024 * 1024
# In the extra `test`, but to build and to check types with: no test of the installed package needs them.
TOOLS = re.compile(r"(maturin|mypy|pyright)\b")


def clean() -> dict[str, str]:
    """The environment, without what would lead an interpreter to another's packages."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYO3_PYTHON", "PYTHONHOME")
    }


def run(*command: object, cwd: pathlib.Path = ROOT, **environment: str) -> None:
    """Run a command, with its output on the terminal; one that fails ends the program."""
    subprocess.run([str(part) for part in command], cwd=cwd, env={**clean(), **environment}, check=True)


def interpreters(named: list[str]) -> dict[str, str]:
    """The interpreters to build for, by the tag of their wheel."""
    found: dict[str, str] = {}
    for name in named or USUAL:
        path = shutil.which(name)
        # A version manager's stand-in is found for versions that are not installed: only running it tells.
        runs = path and subprocess.run([path, "-c", OLDEST], capture_output=True, check=False).returncode == 0
        if not path or not runs:
            if named:
                sys.exit(f"cano: '{name}' is no interpreter of Python 3.11 or newer that runs here")
            continue
        tag = subprocess.run([path, "-c", TAG], capture_output=True, text=True, check=True).stdout.strip()
        found.setdefault(tag, path)
    return found


def build(python: str, out: pathlib.Path) -> pathlib.Path:
    """Build the wheel for an interpreter and check what it holds."""
    maturin = pathlib.Path(sys.executable).with_name("maturin")
    with tempfile.TemporaryDirectory(dir=out) as fresh:
        run(maturin, "build", "--quiet", "--release", "--locked", "--interpreter", python, "--out", fresh,
            CARGO_TARGET_DIR=str(TARGET))  # fmt: skip
        (built,) = pathlib.Path(fresh).glob("*.whl")
        wheel = built.replace(out / built.name)
    size = wheel.stat().st_size
    licences = {name.rpartition("/")[2] for name in zipfile.ZipFile(wheel).namelist() if "/licenses/" in name}
    if size >= LARGEST:
        sys.exit(f"cano: {wheel.name} has {size} bytes; fewer than {LARGEST} were expected")
    if missing := {"LICENSE", "THIRD-PARTY-LICENSES.txt"} - licences:
        sys.exit(f"cano: {wheel.name} lacks {', '.join(sorted(missing))}")
    return wheel


def requirements() -> list[str]:
    """What the tests of the installed package may import."""
    listed = subprocess.run(
        [sys.executable, ROOT / "tools" / "extra.py", "test"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [line for line in listed if not TOOLS.match(line)]


def counts(report: pathlib.Path) -> dict[str, int]:
    """How many tests there were, by what came of them, in a report that pytest wrote."""
    (suite,) = ET.parse(report).getroot().iter("testsuite")
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    skipped = int(suite.get("skipped", 0))
    return {"passed": int(suite.get("tests", 0)) - failed - skipped, "failed": failed, "skipped": skipped}


def test(python: str, wheel: pathlib.Path, paths: list[str]) -> dict[str, int]:
    """Install a wheel into a fresh environment, run tests on it, and return what came of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run(python, "-m", "venv", folder / "environment")
        python = str(folder / "environment" / "bin" / "python")
        pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        run(*pip, "--no-deps", wheel)
        for requirement in requirements():
            try:
                run(*pip, "--only-binary=:all:", requirement)
            except subprocess.CalledProcessError:
                # The tests that need it say that they are skipped; pytest itself would be missed at once.
                print(
                    f"cano: {wheel.name} is tested without {requirement}: there is no wheel of it for this interpreter"
                )
        shutil.copytree(ROOT / "tests", folder / "suite" / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder / "suite")
        where = "import cano, cano._core as core; print(cano.__file__, core.__file__, sep='\\n')"
        places = subprocess.run(
            [python, "-c", where], cwd=folder / "suite", capture_output=True, text=True, check=True
        ).stdout.splitlines()
        if not all(pathlib.Path(place).is_relative_to(folder / "environment") for place in places):
            sys.exit(f"cano: the tests would not run on the installed wheel, but on {', '.join(places)}")
        pytest = [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junit-xml={folder / 'report.xml'}",
            *paths,
        ]
        subprocess.run(pytest, cwd=folder / "suite", env=clean(), check=False)
        if not (folder / "report.xml").exists():
            return {"passed": 0, "failed": 1, "skipped": 0}
        return counts(folder / "report.xml")


def main() -> None:
    """Build and test the wheels that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreters", nargs="*", metavar="INTERPRETER")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "dist")
    parser.add_argument("--test", default="", metavar="PATHS", help="what to run from each installed wheel")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    for tag, python in interpreters(asked.interpreters).items():
        wheel = build(python, asked.out)
        size = f"{wheel.stat().st_size // 1024} KiB"
        print(f"{tag}: {wheel} ({size})", flush=True)
        if not asked.test:
            continue
        try:
            came = test(python, wheel, asked.test.split())
        except subprocess.CalledProcessError as error:  # the others are told about, too
            failed.append(f"{tag}: '{' '.join(map(str, error.cmd[1:]))}' gave {error.returncode}")
            continue
        tests = {f"tests_{what}": count for what, count in came.items()}
        notes.write(f"wheel-{tag}", "platforms", f"the wheel for {tag}, {size}, installed: {asked.test}", tests)
        if came["failed"] or not came["passed"]:
            failed.append(f"{tag}: {came}")
    if failed:
        sys.exit("\n".join(["cano: not every wheel passes its tests", *failed]))


if __name__ == "__main__":
    main()
