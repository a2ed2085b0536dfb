"""Measuring one file: what a branch of the survey does. Nothing here knows that it runs in a workflow."""

import ast
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LARGEST = 10
"""How many of its largest functions are kept of a file: no more are ever reported."""

# Where statements are inside statements. Functions, classes and imports are statements, so expressions, which are most
# of a tree, need not be walked.
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


@dataclass(frozen=True, slots=True, order=True)
class Function:
    """A function and its length in lines (first, because functions are compared by it)."""

    lines: int
    name: str
    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Measure:
    """What was found in one file."""

    path: Path
    lines: int
    classes: int
    functions: int
    largest: tuple[Function, ...]
    imported: frozenset[str]


def measure(path: Path) -> Measure:
    """Read, parse and measure a file.

    Raises:
        OSError: It cannot be read; perhaps it can a moment later.
        SyntaxError: It is no Python source of this version, or its encoding is none.
        ValueError: It contains null bytes.
    """
    source = path.read_bytes()
    # Bytes, not text: the parser knows how a file declares its encoding.
    tree = ast.parse(source, filename=str(path))
    classes = 0
    functions: list[Function] = []
    imported: set[str] = set()
    for prefix, node in _statements(tree):
        match node:
            case ast.ClassDef():
                classes += 1
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                functions.append(Function(length, prefix + node.name, path, node.lineno))
            case ast.Import():
                imported.update(alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                imported.add(module.partition(".")[0])
            case _:
                pass
    return Measure(
        path,
        lines=len(source.splitlines()),
        classes=classes,
        functions=len(functions),
        largest=tuple(heapq.nlargest(LARGEST, functions)),
        imported=frozenset(imported),
    )


def _statements(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield every statement, with the dotted name of the class or function it is in (and a dot)."""
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:  # a stack, not recursion: generated code is nested deeper than Python calls may be
        prefix, node = stack.pop()
        yield prefix, node
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            prefix = f"{prefix}{node.name}."
        for block in _BLOCKS:
            inside: list[ast.AST] = getattr(node, block, [])
            stack.extend((prefix, child) for child in inside)
