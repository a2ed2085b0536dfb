"""Builds the documentation into site/ with warnings as errors: `make docs`.

Zensical's strict mode fails for broken links and unknown names in the reference, but not for what the docstring parser
(griffe) complains of; that goes to stderr only, so it is looked for there.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
COMPLAINT = re.compile(r"^(griffe|mkdocstrings|mkdocs_autorefs|WARNING|ERROR)\b.*", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def main() -> int:
    """Run the build and return its exit status, 1 also when anything complained."""
    zensical = pathlib.Path(sys.executable).with_name("zensical")
    ended = subprocess.run(
        [zensical, "build", "--clean", "--strict"], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
    )
    said = COLOUR.sub("", ended.stderr)
    sys.stderr.write(said)
    complaints = COMPLAINT.findall(said)
    if complaints and ended.returncode == 0:
        sys.stderr.write(f"{len(complaints)} warnings, which are errors here\n")
    return ended.returncode or bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
