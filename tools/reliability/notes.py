"""What was tried without pytest, for docs/reliability.md: one file in recorded/ per tool that writes here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"


def write(file: str, fault_class: str, what: str, tried: dict[str, int], facts: list[str] | None = None) -> None:
    """Replace what `recorded/<file>.json` says by one entry.

    Args:
        file: The file's name, without folder and suffix.
        fault_class: A class of classes.toml.
        what: What was done, in a few words.
        tried: How often, by what; the names' underscores are shown as spaces.
        facts: Sentences, where numbers do not say it.
    """
    entry: dict[str, Any] = {
        "class": fault_class,
        "what": what,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "tried": tried,
    }
    if facts:
        entry["facts"] = facts
    (RECORDED / f"{file}.json").write_text(json.dumps([entry], indent=1) + "\n", encoding="utf-8")


def coverage() -> None:
    """Write what `coverage run` has counted."""
    report = subprocess.run(
        [sys.executable, "-m", "coverage", "json", "--quiet", "--fail-under=0", "-o", "-"],
        check=True,
        capture_output=True,
        text=True,
    )
    totals = json.loads(report.stdout)["totals"]
    version = ".".join(map(str, sys.version_info[:2]))
    write(
        "coverage",
        "coverage",
        f"lines and branches of the pure engine's core, CPython {version}",
        {
            "statements_reached": totals["covered_lines"],
            "statements_missed": totals["missing_lines"],
            "branches_reached": totals["covered_branches"],
            "branches_missed": totals["missing_branches"],
            "lines_excluded": totals["excluded_lines"],
        },
    )


if __name__ == "__main__":
    coverage()
