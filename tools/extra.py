"""Prints the requirements of one or more extras of pyproject.toml, one per line, for `pip install -r`.

Used by the Makefile, which wants the tools without building the package first, as `pip install .[test]` would.
"""

import pathlib
import re
import sys
import tomllib

EXTRAS = tomllib.loads((pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]


def requirements(extra: str) -> list[str]:
    """The requirements of `extra`, with those of the extras that it includes as `cano[other]`."""
    found: list[str] = []
    for requirement in EXTRAS[extra]:
        included = re.fullmatch(r"cano\[(\w+)\]", requirement)
        found += requirements(included[1]) if included else [requirement]
    return found


if __name__ == "__main__":
    print("\n".join(line for extra in sys.argv[1:] for line in requirements(extra)))
