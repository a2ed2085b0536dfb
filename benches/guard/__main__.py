"""`python -m benches.guard`: did a change cost speed? Instructions are counted, so no clock has a say.

Every hot path is run under valgrind's callgrind at two sizes; the difference, per unit, is compared with the figures in
`stored.json`, which `--store` writes. They hold for one interpreter, build of the native engine and processor family:
where none are stored for what runs here, that is said, and nothing fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benches.guard.paths import PATHS

from cano import _core

STORED = Path(__file__).with_name("stored.json")
TOLERANCE = 0.02
COLLECTED = re.compile(r"Collected : (\d+)")


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
    known: dict[str, float] = stored.get(_build(), {})
    counted: dict[str, float] = {}
    worse = []
    print(f"instructions per unit, {_build()}")
    for name in PATHS:
        if options.only not in name:
            continue
        counted[name] = _per_unit(name)
        before = known.get(name)
        change = "" if before is None else f"  {counted[name] / before - 1:+7.2%} of {before:,.0f}"
        print(f"  {name:32s} {counted[name]:10,.0f}{change}", flush=True)
        if before is not None and counted[name] > before * (1 + options.tolerance):
            worse.append(name)
    if options.store:
        stored[_build()] = {**known, **{name: round(value, 1) for name, value in counted.items()}}
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
    version = ".".join(platform.python_version_tuple()[:2])
    return f"CPython {version}, rustc {native['rustc']}, {native['profile']}, {platform.machine()}"


def _per_unit(name: str) -> float:
    _, small, large = PATHS[name]
    return (_instructions(name, large) - _instructions(name, small)) / (large - small)


def _instructions(name: str, n: int) -> int:
    command = [
        *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
        *(sys.executable, "-m", "benches.guard.paths", name, str(n)),
    ]
    # Addresses and hashes decide how full buckets are and so how many instructions a look-up takes.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    found = COLLECTED.search(done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"callgrind ended with exit status {done.returncode} on {name!r}:\n{done.stderr}")
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main())
