"""Finding the files of a tree."""

import os
from pathlib import Path

# What is in a tree but no part of it: caches, installed packages, and (by its dot) whatever is hidden.
_SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})


def python_files(folder: Path) -> list[Path]:
    """Return the Python files below a folder, sorted. Links to folders are not followed, so no loop is possible."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED and not name.startswith(".")]
        found.extend(Path(parent, name) for name in files if name.endswith(".py"))
    return sorted(found)
