"""Writes THIRD-PARTY-LICENSES.txt: the notices of every Rust crate that is compiled into the native engine.

    python tools/third_party_licenses.py           write the file
    python tools/third_party_licenses.py --check   exit 1 if it is not what would be written

The crates are those that `cargo tree` gives for the binding on any platform, without build scripts and procedural
macros: what those do is gone when the module is built. A licence that is not in `ACCEPTED` ends it with an error.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "THIRD-PARTY-LICENSES.txt"
# Each allows use in a binary under the MIT licence if its notice goes along. deny.toml has the same list.
ACCEPTED = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Zlib", "BSD-2-Clause", "BSD-3-Clause", "0BSD"}
# A crate offers several files where it offers several licences: the first that is there will do.
NOTICES = (
    "LICENSE-MIT*",
    "LICENSE_MIT*",
    "license-mit*",
    "LICENSE.md",
    "LICENSE.txt",
    "LICENSE",
    "LICENSE*",
    "COPYING",
)
HEAD = """\
Third-party software in cano's native engine
============================================

The module cano._core is compiled from Rust and contains the crates below and the Rust standard library (Copyright (c)
The Rust Project Contributors, MIT OR Apache-2.0, https://www.rust-lang.org/policies/licenses). Written by
tools/third_party_licenses.py.
"""
RULE = "-" * 80


def crates() -> list[tuple[str, str, str]]:
    """Name, version and licence expression of every crate in the module, sorted by name."""
    options = ["--package", "cano-py", "--edges", "normal,no-proc-macro", "--target", "all", "--locked"]
    form = ["--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"]
    lines = subprocess.run(
        ["cargo", "tree", *options, *form], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.splitlines()
    found: set[tuple[str, str, str]] = set()
    for line in lines:
        package, licence = line.split("\t")
        name, version = package.split()[:2]
        if not name.startswith("cano-"):
            found.add((name, version.removeprefix("v"), licence))
    return sorted(found)


def folders() -> dict[tuple[str, str], pathlib.Path]:
    """Where the source of each crate lies, by name and version."""
    answer = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    return {(p["name"], p["version"]): pathlib.Path(p["manifest_path"]).parent for p in json.loads(answer)["packages"]}


def is_accepted(expression: str) -> bool:
    """Whether one of the licences offered is accepted; `A OR B` (or `A/B`) offers two, `A AND B` binds both."""
    choices = re.split(r" OR |/", expression.replace("(", "").replace(")", ""))
    return any(all(part in ACCEPTED for part in choice.split(" AND ")) for choice in choices)


def notice(folder: pathlib.Path) -> str:
    """The text of the notice that lies in a crate's folder."""
    for pattern in NOTICES:
        for path in sorted(folder.glob(pattern)):
            lines = path.read_text(encoding="utf-8").strip().splitlines()
            return "\n".join(line.rstrip() for line in lines)
    sys.exit(
        f"no licence file in {folder.name}: look for its notice and teach {pathlib.Path(__file__).name} to find it"
    )


def text() -> str:
    """The whole file."""
    where = folders()
    parts = [HEAD]
    for name, version, expression in crates():
        if not is_accepted(expression):
            sys.exit(f"{name} {version} is under {expression!r}: not accepted for what is linked into the module")
        parts.append(f"{RULE}\n{name} {version} ({expression})\n{RULE}\n\n{notice(where[name, version])}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != text():
            sys.exit(f"{OUTPUT.name} is out of date: run python {pathlib.Path(__file__).name} in tools/ and commit it")
    else:
        OUTPUT.write_text(text(), encoding="utf-8")
