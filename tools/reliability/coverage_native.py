"""Which lines and branches of the native engine the suite in tests/ reaches, its binding above all, for docs/reliability.md.

The Rust machines have tests of their own (`make coverage-rust`). What drives Python branches can only be run from Python: the
module is built once more with counters in it, for the interpreter that runs this, and the native engine's tests run on that.
Only nightly Rust counts branches. With debug assertions on, so that they are tried along the way.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from tools.reliability import notes

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "target" / "coverage"
SITE = TARGET / "site"
PROFILES = TARGET / "profiles"
TESTS = ["tests/contract", "tests/native", "tests/faults", "tests/leaks", "tests/compat/test_loops.py"]
# How long the loop is kept says nothing of a module that counts and checks as it goes.
NOT = ["--deselect", "tests/contract/test_fairness.py"]
# Not ours, or never in a build that is published.
LEFT_OUT = r"/(registry|rustc|library)/|/fail\.rs"


def build() -> Path:
    """Build the module with counters, and lay the package out around it."""
    flags = "-C instrument-coverage -Z coverage-options=branch"
    settings = {**os.environ, "RUSTFLAGS": flags, "PYO3_PYTHON": sys.executable, "PYO3_BUILD_EXTENSION_MODULE": "1"}
    command = ["cargo", "+nightly", "build", "--quiet", "--locked", "--package", "cano-py"]
    command += ["--features", "cano-py/fail-points", "--target-dir", str(TARGET)]
    subprocess.run(command, check=True, cwd=ROOT, env=settings)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(ROOT / "python", SITE, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    module = SITE / "cano" / f"_core{suffix}"
    shutil.copy2(TARGET / "debug" / "lib_core.so", module)
    return module


def run(arguments: list[str]) -> int:
    """Run the tests on that module; each process adds to the same few files of counts."""
    shutil.rmtree(PROFILES, ignore_errors=True)
    settings = {**os.environ, "PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}", "LLVM_PROFILE_FILE": f"{PROFILES}/%4m.profraw"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--quiet",
        "-p",
        "no:cacheprovider",
        "--engine",
        "native",
        "--timeout",
        "600",
    ]
    return subprocess.run([*command, *NOT, *(arguments or TESTS)], check=False, cwd=ROOT, env=settings).returncode


def count(module: Path) -> dict[str, dict[str, Any]]:
    """What was reached, by file of the source."""
    found = subprocess.run(["rustc", "+nightly", "--print", "sysroot"], check=True, capture_output=True, text=True)
    (tools,) = Path(found.stdout.strip()).glob("lib/rustlib/*/bin/llvm-cov")
    merged = PROFILES / "all.profdata"
    profiles = [str(path) for path in PROFILES.glob("*.profraw")]
    subprocess.run(
        [str(tools.with_name("llvm-profdata")), "merge", "-sparse", *profiles, "-o", str(merged)], check=True
    )
    command = [str(tools), "export", str(module), f"-instr-profile={merged}", "--summary-only"]
    command += [f"--ignore-filename-regex={LEFT_OUT}"]
    report = subprocess.run(command, check=True, capture_output=True, text=True)
    files = json.loads(report.stdout)["data"][0]["files"]
    return {file["filename"].partition("/rust/")[2]: file["summary"] for file in files}


def main(arguments: list[str]) -> int:
    """Build, run, count, and write it down if the tests passed."""
    module = build()
    ended = run(arguments)
    files = {name: summary for name, summary in count(module).items() if name.startswith("cano-py/")}
    tried: dict[str, int] = {}
    for what in ("lines", "branches"):
        total = sum(summary[what]["count"] for summary in files.values())
        covered = sum(summary[what]["covered"] for summary in files.values())
        tried |= {f"{what}_reached": covered, f"{what}_missed": total - covered}
    for name, summary in sorted(files.items()):
        lines, branches = (f"{summary[what]['covered']} of {summary[what]['count']}" for what in ("lines", "branches"))
        print(f"{name:45} lines {lines:14} branches {branches}")
    print(tried)
    if ended == 0 and not arguments:
        version = ".".join(map(str, sys.version_info[:2]))
        what = f"lines and branches of the native engine's binding, reached from Python, CPython {version}"
        notes.write("coverage-native", "coverage", what, tried)
    return ended


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
