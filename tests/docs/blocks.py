"""Finds the code blocks of a Markdown page and says how each is to be run.

A ```python block is a program: it runs in a namespace of its own. A ```text block right after it is what it prints;
`...` stands for anything, as in doctest. A comment before a block changes that:

- `<!-- continues -->`: it runs in the namespace of the block before it;
- `<!-- real time -->`: it runs on a loop with a real clock;
- `<!-- not run: reason -->`: it does not run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"(?:^<!-- (?P<comment>.+?) -->\n+)?^```python[^\n]*\n(?P<code>.*?)^```$"
    r"(?:\n\s*^```text[^\n]*\n(?P<prints>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One code block.

    Attributes:
        path: The page.
        line: The line of its first line of code, from 1.
        code: The code.
        prints: What it is said to print; `None` where the page does not say.
        continues: Whether it needs the names of the block before it.
        real_time: Whether its loop needs a real clock.
        skipped: Why it does not run, or an empty string.
    """

    path: Path
    line: int
    code: str
    prints: str | None
    continues: bool = False
    real_time: bool = False
    skipped: str = ""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return every page whose code is tested."""
    top = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    return [*(path for path in top if path.exists()), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(path: Path) -> list[Block]:
    """Return the Python blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        comment = match["comment"] or ""
        if comment and comment not in ("continues", "real time") and not comment.startswith("not run: "):
            raise ValueError(f"{path}: unknown comment before a code block: {comment!r}")
        found.append(
            Block(
                path,
                text.count("\n", 0, match.start("code")) + 1,
                match["code"],
                match["prints"],
                comment == "continues",
                comment == "real time",
                comment.removeprefix("not run: ") if comment.startswith("not run: ") else "",
            )
        )
    return found


def programs(path: Path) -> list[list[Block]]:
    """Return the programs of a page: each block that stands alone, with those that continue it."""
    found: list[list[Block]] = []
    for block in blocks_of(path):
        if block.skipped:
            continue
        if block.continues and found:
            found[-1].append(block)
        else:
            found.append([block])
    return found
