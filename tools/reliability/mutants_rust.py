"""Has cargo-mutants change the Rust machines in one place at a time, and sees what no test noticed: `make mutants`.

What is mutated, and by which tests it has to be noticed, is said in `.cargo/mutants.toml`. A checked build asks some things
twice, by counts and by a record of every branch; the published one has the counts alone. What goes unnoticed in the first is
tried once more in the second. Survivors of both need a reason in `mutants.toml`, under `[rust]`.

An hour and more: `--iterate` goes on where a run was cut off, and tries again what was missed, as long as the sources are
the same.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from tools.reliability import notes

ROOT = Path(__file__).parents[2]
OUT = ROOT / "target/mutants"
KNOWN = OUT / "outcomes.json"
NOTICED = ("CaughtMutant", "Timeout")
LIMIT = "60"  # seconds for a mutant's tests; who takes longer hangs, and is noticed by that
AT_LEAST = 0.95
Outcomes = dict[str, str]


def short(name: str) -> str:
    """Name a mutant without its line, which changes with every other edit."""
    return re.sub(r"^rust/cano-engine/src/(\S+?\.rs):\d+:\d+: ", r"\1: ", name)


def cargo(*arguments: str, checked: bool = True) -> subprocess.CompletedProcess[str]:
    """Run cargo-mutants; it fails where a mutant is missed."""
    environment = {**os.environ, "CARGO_PROFILE_DEV_DEBUG": "none"}
    if not checked:
        environment["CARGO_PROFILE_DEV_DEBUG_ASSERTIONS"] = "false"
    command = ["cargo", "mutants", "--package", "cano-engine", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, check=False)


def collect(folder: Path) -> Outcomes:
    """What a run of cargo-mutants has seen so far, by mutant."""
    outcomes: list[dict[str, Any]] = json.loads((folder / "outcomes.json").read_text(encoding="utf-8"))["outcomes"]
    return {
        outcome["scenario"]["Mutant"]["name"]: outcome["summary"]
        for outcome in outcomes
        if isinstance(outcome["scenario"], dict)
    }


def listed() -> list[str]:
    """Every mutant of the sources as they are."""
    command = ["cargo", "mutants", "--package", "cano-engine", "--list"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def attempt(where: str, known: Outcomes, names: list[str], *, checked: bool) -> None:
    """Try these mutants, and note what came of each."""
    wanted = "|".join(f"^{re.escape(name)}$" for name in names)
    shutil.rmtree(OUT / where, ignore_errors=True)
    ran = cargo("--output", str(OUT / where), "--timeout", LIMIT, "--re", wanted, checked=checked)
    for name, summary in collect(OUT / where / "mutants.out").items():
        if known.get(name) not in NOTICED:
            known[name] = summary
    KNOWN.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    if ran.returncode not in (0, 2, 3):  # all noticed; some missed; some that hang
        sys.exit(f"cargo mutants ended with {ran.returncode}")


def main() -> int:
    """Try every mutant; return 1 if the tests or the list of reasons have a gap."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterate", action="store_true", help="only what no earlier run has seen noticed")
    parser.add_argument("--collect", type=Path, nargs="*", default=[], help="mutants.out of a run that was cut off")
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    names = listed()
    known: Outcomes = json.loads(KNOWN.read_text(encoding="utf-8")) if given.iterate and KNOWN.exists() else {}
    for folder in given.collect:
        known.update({name: what for name, what in collect(folder).items() if known.get(name) not in NOTICED})
    reasons: dict[str, str] = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))[
        "rust"
    ]
    known = {name: known[name] for name in names if known.get(name) in (*NOTICED, "Unviable")}
    if todo := [name for name in names if name not in known]:
        attempt("checked", known, todo, checked=True)
    if missed := [name for name in names if known[name] not in (*NOTICED, "Unviable")]:
        attempt("unchecked", known, missed, checked=False)
    viable = [name for name in names if known[name] != "Unviable"]
    lived = [short(name) for name in viable if known[name] not in NOTICED]
    unexplained = [name for name in lived if name not in reasons]
    stale = [name for name in reasons if name not in lived]
    print(f"{len(viable)} mutants, {len(viable) - len(lived)} noticed, {len(lived)} survive")
    print("".join(f"SURVIVES: {name}\n" for name in unexplained), end="")
    print("".join(f"no longer a survivor: {name}\n" for name in stale), end="")
    counts = {"mutants": len(viable), "killed": len(viable) - len(lived), "survive": len(lived)}
    counts["do_not_compile"] = len(names) - len(viable)
    facts = [f"`{name.replace('|', chr(92) + '|')}`: {reasons.get(name, 'not explained')}" for name in lived]
    notes.write("mutants-rust", "mutation", "the Rust engine's machines and hand-off, all its tests", counts, facts)
    return int(bool(unexplained or stale) or len(viable) - len(lived) < AT_LEAST * len(viable))


if __name__ == "__main__":
    sys.exit(main())
