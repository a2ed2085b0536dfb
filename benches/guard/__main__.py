"""`python -m benches.guard`: did a change cost speed? Instructions are counted, so no clock has a say.

Every hot path is run under valgrind's callgrind at two sizes; the difference, per unit, is compared with the figures in
`stored.json`, which `--store` writes. They hold for one build of an interpreter and of the native engine, and one processor
family (between two makes of x86-64 processors they did not differ by one instruction): where none are stored for what
runs here, that is said, and nothing fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from benches.guard.paths import BESIDE, PATHS

from cano import _core

STORED = Path(__file__).with_name("stored.json")
TOLERANCE = 0.02


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.guard", description=__doc__)
    parser.add_argument("--store", action="store_true", help="make what is counted now what is compared with")
    parser.add_argument("--only", default="", help="a part of the names of the paths to count")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"default: {TOLERANCE}")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("cano: valgrind is needed to count instructions (Debian: apt install valgrind)", file=sys.stderr)
        return 2
    stored: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    known: dict[str, dict[str, float]] = stored.get(_build(), {})
    counted: dict[str, dict[str, float]] = {}
    worse = []
    print(f"instructions per unit, {_build()}")
    for name in PATHS:
        if options.only not in name:
            continue
        counted[name] = _per_unit(name, PATHS[name])
        now, native = counted[name]["instructions"], counted[name]["native"]
        before = known[name]["instructions"] if name in known else None
        change = "" if before is None else f"  {now / before - 1:+7.2%} of {before:,.0f}"
        print(f"  {name:32s} {now:10,.0f}, {native:8,.0f} of them in the native engine{change}", flush=True)
        if before is not None and now > before * (1 + options.tolerance):
            worse.append(name)
    if options.store:
        for name in BESIDE:
            if name in counted:
                gathered = _per_unit(name, BESIDE[name], "--beside")
                counted[name]["asyncio.gather"] = gathered["instructions"]
                print(f"  {name:32s} {gathered['instructions']:10,.0f} under asyncio.gather", flush=True)
        stored[_build()] = {**known, **counted}
        STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        return 0
    if not known:
        print("nothing is stored for this build: `make bench-guard ARGS=--store` makes these figures the measure")
    if worse:
        print(
            f"more than {options.tolerance:.0%} more instructions than stored: {', '.join(worse)}. Make up for it, or "
            "say in the commit why it is worth that and store the new figures (make bench-guard ARGS=--store).",
            file=sys.stderr,
        )
    return int(bool(worse))


def _build() -> str:
    """What the figures depend on, beside the code."""
    native = _core.build_info()
    # Another build of the same version has other instructions: what it was compiled with, and how.
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    how = "optimized" if "--enable-optimizations" in flags else "plain"
    python = f"CPython {platform.python_version()} ({how}, {platform.python_compiler()})"
    return f"{python}, rustc {native['rustc']}, {native['profile']}, {platform.machine()}"


def _per_unit(name: str, sizes: tuple[Any, int, int], *arguments: str) -> dict[str, float]:
    _, small, large = sizes
    few, many = (_instructions(name, n, *arguments) for n in (small, large))
    return {key: round((many[key] - few[key]) / (large - small), 1) for key in few}


def _instructions(name: str, n: int, *arguments: str) -> dict[str, int]:
    """How many instructions a process takes for N units, and how many of them are the native engine's own."""
    # Addresses and hashes decide how full buckets are and so how many instructions a look-up takes.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profile")
        command = [
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}"),
            *(sys.executable, "-m", "benches.guard.paths", name, str(n), *arguments),
        ]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment, check=False)
        if done.returncode or not profile.exists():
            raise SystemExit(f"callgrind ended with exit status {done.returncode} on {name!r}:\n{done.stderr}")
        return _count(profile)


def _count(profile: Path) -> dict[str, int]:
    total = native = 0
    in_native = called = False
    names: dict[str, str] = {}
    with profile.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("ob="):
                number, _, name = line[3:].strip().partition(" ")
                in_native = "_core." in names.setdefault(number, name)
            elif line.startswith("calls="):
                called = True  # the next line is what was called, which is counted where it is
            elif line[0].isdigit() or line[0] in "+-*":
                if not called:
                    cost = int(line.split()[1])
                    total += cost
                    native += cost if in_native else 0
                called = False
            elif line.startswith("cob="):
                number, _, name = line[4:].strip().partition(" ")
                names.setdefault(number, name)
    return {"instructions": total, "native": native}


if __name__ == "__main__":
    sys.exit(main())
