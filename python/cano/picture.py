"""Pictures of a workflow: Mermaid, Graphviz, and (in `_svg`) what a notebook shows.

They are drawn from a `Drawing`, which knows nothing of handlers and joins: states, edges between them, and texts. With
the report of a run, the states it entered and the transitions it made are coloured; a transition that nobody declared
is added with a dotted line.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .results import RunReport

__all__ = ["Drawing", "DrawnEdge", "DrawnState", "Taken", "taken_by", "to_dot", "to_html", "to_mermaid"]

TAKEN: Final = "#c2600a"
"""The colour of the path taken: it can be told from black and from white, also by those who see no red or green."""

_LONGEST: Final = 60


class DrawnState(NamedTuple):
    """A state in a picture.

    Attributes:
        label: Its name.
        kind: `"task"`, `"split"`, `"join"` or `"exit"`.
        detail: A second line, in smaller letters where that is possible: a task's name, a split's strategy.
        state: The state itself, by which a run's path is found; `None` for a node that is no state (a join between a
            split and its join state).
    """

    label: str
    kind: str = "task"
    detail: str = ""
    state: Any = None


class DrawnEdge(NamedTuple):
    """A transition in a picture: indices into the states, and what is written beside it."""

    source: int
    target: int
    label: str = ""


class Drawing(NamedTuple):
    """What is drawn.

    Attributes:
        states: The states.
        edges: The transitions between them; a plain tuple does too.
        initial: The index of the state a run begins with, if there is one that is known.
        title: The name of the workflow.
    """

    states: Sequence[DrawnState]
    edges: Sequence[DrawnEdge | tuple[int, int, str]]
    initial: int | None = None
    title: str = ""


class Taken(NamedTuple):
    """What a run took of a drawing: indices of states, indices of edges, and edges that are not in the drawing."""

    states: frozenset[int]
    edges: frozenset[int]
    undeclared: tuple[tuple[int, int], ...]


def taken_by(drawing: Drawing, report: RunReport[Any] | None) -> Taken:
    """Find the path of a run in a drawing. States that are not drawn are passed over."""
    if report is None:
        return Taken(frozenset(), frozenset(), ())
    index_of: dict[Any, int] = {}
    for index, drawn in enumerate(drawing.states):
        if drawn.state is not None:
            index_of.setdefault(drawn.state, index)
    between: dict[tuple[int, int], list[int]] = {}
    for number, (source, target, _) in enumerate(drawing.edges):
        between.setdefault((source, target), []).append(number)
    path = [index_of[state] for state in report.path if state in index_of]
    states, edges = set(path), set[int]()
    undeclared: dict[tuple[int, int], None] = {}
    for pair in dict.fromkeys(itertools.pairwise(path)):
        route = _route(drawing, between, *pair)
        if route is None:
            undeclared[pair] = None
            continue
        for step in route:
            edges.update(between[step])
            states.update(step)
    return Taken(frozenset(states), frozenset(edges), tuple(undeclared))


def _route(
    drawing: Drawing, between: dict[tuple[int, int], list[int]], source: int, target: int
) -> list[tuple[int, int]] | None:
    """How the picture gets from one state to the next: directly, or over a node that is no state."""
    if (source, target) in between:
        return [(source, target)]
    for first, middle in between:
        over = first == source and drawing.states[middle].state is None
        if over and (middle, target) in between:
            return [(source, middle), (middle, target)]
    return None


# --- Mermaid ---

# In a quoted label these would end it, start markup or a directive, or be read as an entity.
_MERMAID: Final = str.maketrans({char: f"#{ord(char)};" for char in '"#<>&`\\%{}|'})
_SHAPES: Final = {
    "task": ('["', '"]'),
    "split": ('[/"', '"\\]'),
    "join": ('[\\"', '"/]'),
    "exit": ('(["', '"])'),
}


def to_mermaid(drawing: Drawing, report: RunReport[Any] | None = None) -> str:
    """Draw as a Mermaid flowchart.

    Args:
        drawing: What is drawn.
        report: The run whose path is coloured.
    """
    taken = taken_by(drawing, report)
    lines = ["flowchart TD"]
    for index, drawn in enumerate(drawing.states):
        left, right = _SHAPES[drawn.kind]
        text = _mermaid(drawn.label)
        if drawn.detail:
            text += f"<br/><small>{_mermaid(drawn.detail)}</small>"
        lines.append(f"    s{index}{left}{text}{right}")
    number = 0
    if drawing.initial is not None:
        lines.append(f'    start((" ")) --> s{drawing.initial}')
        number = 1
    coloured = [number + edge for edge in sorted(taken.edges)]
    for source, target, label in drawing.edges:
        beside = f'|"{_mermaid(label)}"|' if label else ""
        lines.append(f"    s{source} -->{beside} s{target}")
    number += len(drawing.edges)
    for source, target in taken.undeclared:
        lines.append(f"    s{source} -.-> s{target}")
        coloured.append(number)
        number += 1
    if taken.states:
        lines.append(f"    classDef taken stroke:{TAKEN},stroke-width:3px")
        lines.append(f"    class {','.join(f's{index}' for index in sorted(taken.states))} taken")
    if coloured:
        lines.append(f"    linkStyle {','.join(map(str, coloured))} stroke:{TAKEN},stroke-width:3px")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    return printable(text).translate(_MERMAID) or " "


# --- Graphviz ---

_DOT: Final = {
    "task": "shape=box, style=rounded",
    "split": "shape=trapezium",
    "join": "shape=invtrapezium",
    "exit": "shape=box, style=rounded, peripheries=2",
}


def to_dot(drawing: Drawing, report: RunReport[Any] | None = None) -> str:
    """Draw for Graphviz (`dot -Tsvg`).

    Args:
        drawing: What is drawn.
        report: The run whose path is coloured.
    """
    taken = taken_by(drawing, report)
    mark = f'color="{TAKEN}", penwidth=2'
    lines = [f"digraph {_dot(drawing.title or 'workflow')} {{", '    node [fontname="sans-serif"];']
    for index, drawn in enumerate(drawing.states):
        label = _dot(drawn.label, drawn.detail)
        lines.append(f"    s{index} [label={label}, {_DOT[drawn.kind]}{', ' + mark if index in taken.states else ''}];")
    if drawing.initial is not None:
        lines.append("    start [shape=point, width=0.15];")
        lines.append(f"    start -> s{drawing.initial};")
    for number, (source, target, label) in enumerate(drawing.edges):
        facts = ([f"label={_dot(label)}"] if label else []) + ([mark] if number in taken.edges else [])
        lines.append(f"    s{source} -> s{target} [{', '.join(facts)}];" if facts else f"    s{source} -> s{target};")
    lines.extend(f"    s{source} -> s{target} [style=dotted, {mark}];" for source, target in taken.undeclared)
    return "\n".join([*lines, "}"]) + "\n"


def _dot(*texts: str) -> str:
    # Only a quoted string is safe: a label in <...> would be HTML, and a backslash starts an escape of dot's own.
    parts = [printable(text).replace("\\", "\\\\").replace('"', '\\"') for text in texts if text]
    return '"' + "\\n".join(parts) + '"'


# --- notebooks ---


def to_html(drawing: Drawing, report: RunReport[Any] | None = None) -> str:
    """Draw as an SVG inside a little HTML, for a notebook: no script, no font, nothing to load.

    Args:
        drawing: What is drawn.
        report: The run whose path is coloured.
    """
    from ._svg import to_svg

    return f'<div style="overflow-x: auto">{to_svg(drawing, taken_by(drawing, report))}</div>'


def printable(text: str) -> str:
    """One line of a label: no line breaks, no control characters, not endless."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= _LONGEST else f"{clean[: _LONGEST - 1]}…"
