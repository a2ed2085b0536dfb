"""The picture of a workflow as SVG: layers from top to bottom, the way Sugiyama laid out graphs, in a few small steps.

1. Edges that close a cycle are set aside; every state gets the layer of its longest way from the start.
2. An edge that passes a layer gets a bend there, so that lines go round boxes instead of under them.
3. Within a layer everything moves to the mean of its neighbours, up and down a few times.
4. Edges that close a cycle go up on the right-hand side.

Lines and letters take the colour of the text around the picture, so that it reads in light and in dark notebooks.
"""

from __future__ import annotations

import itertools
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from .picture import TAKEN, Drawing, Taken, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["to_svg"]

_HEIGHT: Final = 44.0
"""Of a box, in pixels, as everything here."""
_BETWEEN_LAYERS: Final = 46.0
_BETWEEN_BOXES: Final = 28.0
_MARGIN: Final = 16.0
_LETTER: Final = 7.6
_SMALL_LETTER: Final = 6.1
_SWEEPS: Final = 6

Point = tuple[float, float]


class _Layout(NamedTuple):
    """Where everything stands. Nodes beyond the states are bends."""

    layers: list[list[int]]
    chains: dict[int, list[int]]
    """Edge -> the nodes it goes through, both ends included; without those that close a cycle."""
    widths: list[float]
    x: list[float]
    y: list[float]


def to_svg(drawing: Drawing, taken: Taken) -> str:
    """Draw. The same drawing gives the same text, always."""
    edges = [(source, target) for source, target, _ in drawing.edges] + list(taken.undeclared)
    layout = _lay_out(drawing, edges)
    parts: list[str] = []
    right = max((layout.x[node] + layout.widths[node] / 2 for layer in layout.layers for node in layer), default=0.0)
    lane = 0
    for number, (source, target) in enumerate(edges):
        is_taken = number in taken.edges or number >= len(drawing.edges)
        dotted = number >= len(drawing.edges)
        if number in layout.chains:
            points = _downward(layout, layout.chains[number])
        elif source == target:
            points = _upward(layout, source, target, layout.x[source] + layout.widths[source] / 2 + 18.0)
        else:
            lane += 1
            points = _upward(layout, source, target, right + 22.0 * lane)
        label = drawing.edges[number][2] if number < len(drawing.edges) else ""
        parts.append(_edge(points, label, is_taken, dotted))
    if drawing.initial is not None:
        x, y = layout.x[drawing.initial], layout.y[drawing.initial] - _HEIGHT / 2
        parts.append(f'<circle cx="{x:.1f}" cy="{y - 26:.1f}" r="5" fill="currentColor"/>')
        parts.append(_edge([(x, y - 21), (x, y)], "", False, False))
    parts.extend(
        _box(drawn.label, drawn.detail, drawn.kind, layout.x[i], layout.y[i], layout.widths[i], i in taken.states)
        for i, drawn in enumerate(drawing.states)
    )
    beside = max((_measure(label, _SMALL_LETTER) for _, _, label in drawing.edges), default=0.0)
    width = right + 22.0 * (lane + 1) + beside + _MARGIN
    height = max(layout.y, default=0.0) + _HEIGHT / 2 + _MARGIN
    title = escape(printable(drawing.title or "workflow"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="none" stroke="none">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


# --- layout ---


def _lay_out(drawing: Drawing, edges: Sequence[tuple[int, int]]) -> _Layout:
    count = len(drawing.states)
    closing = _closing(count, edges, drawing.initial)
    forward = {number: edge for number, edge in enumerate(edges) if number not in closing}
    layer_of = _layers(count, forward.values())
    widths = [
        max(40.0, _measure(drawn.label, _LETTER), _measure(drawn.detail, _SMALL_LETTER)) + 28.0
        for drawn in drawing.states
    ]
    layers: list[list[int]] = [[] for _ in range(max(layer_of, default=-1) + 1)]
    for node, layer in enumerate(layer_of):
        layers[layer].append(node)
    chains: dict[int, list[int]] = {}
    for number, (source, target) in forward.items():
        chain = [source]
        for layer in range(layer_of[source] + 1, layer_of[target]):
            chain.append(len(widths))
            layers[layer].append(len(widths))
            widths.append(0.0)
        chains[number] = [*chain, target]
    x = _across(layers, chains.values(), widths)
    top = _MARGIN + _HEIGHT / 2 + (34.0 if drawing.initial is not None else 0.0)
    y = [0.0] * len(widths)
    for depth, nodes in enumerate(layers):
        for node in nodes:
            y[node] = top + depth * (_HEIGHT + _BETWEEN_LAYERS)
    return _Layout(layers, chains, widths, x, y)


def _closing(count: int, edges: Sequence[tuple[int, int]], initial: int | None) -> set[int]:
    """The edges that close a cycle, found by walking depth first from the start (without recursion)."""
    out: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for number, (source, target) in enumerate(edges):
        out[source].append((number, target))
    found: set[int] = set()
    done = [False] * count
    on_way = [False] * count
    first = [] if initial is None else [initial]
    for root in (*first, *range(count)):
        if done[root]:
            continue
        way = [(root, iter(out[root]))]
        on_way[root] = done[root] = True
        while way:
            node, rest = way[-1]
            for number, target in rest:
                if on_way[target]:
                    found.add(number)
                elif not done[target]:
                    on_way[target] = done[target] = True
                    way.append((target, iter(out[target])))
                    break
            else:
                on_way[node] = False
                way.pop()
    return found


def _layers(count: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """Each node's longest way from a node without predecessors."""
    out: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for source, target in edges:
        out[source].append(target)
        waiting[target] += 1
    layer_of = [0] * count
    ready = [node for node in range(count) if not waiting[node]]
    for node in ready:  # grows while it is walked
        for target in out[node]:
            layer_of[target] = max(layer_of[target], layer_of[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return layer_of


def _across(layers: list[list[int]], chains: Iterable[list[int]], widths: list[float]) -> list[float]:
    """Order each layer, and find where its nodes stand from left to right."""
    above: list[list[int]] = [[] for _ in widths]
    below: list[list[int]] = [[] for _ in widths]
    for chain in chains:
        for upper, lower in itertools.pairwise(chain):
            below[upper].append(lower)
            above[lower].append(upper)
    x = [0.0] * len(widths)
    for nodes in layers:
        _spread(nodes, [float(place) for place in range(len(nodes))], x, widths)
    for sweep in range(_SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for nodes in layers if sweep % 2 == 0 else reversed(layers):
            wanted = {
                node: sum(x[other] for other in neighbours[node]) / len(neighbours[node])
                if neighbours[node]
                else x[node]
                for node in nodes
            }
            nodes.sort(key=wanted.__getitem__)
            _spread(nodes, [wanted[node] for node in nodes], x, widths)
    left = min((x[node] - widths[node] / 2 for nodes in layers for node in nodes), default=0.0)
    return [place - left + _MARGIN for place in x]


def _spread(nodes: list[int], wanted: list[float], x: list[float], widths: list[float]) -> None:
    """Put the nodes of a layer as near as may be to where they want to be, without touching."""
    edge = float("-inf")
    for node, place in zip(nodes, wanted, strict=True):
        x[node] = max(place, edge + widths[node] / 2 + _BETWEEN_BOXES)
        edge = x[node] + widths[node] / 2
    if nodes:  # pushed to the right only: take half of it back
        drift = sum(x[node] - place for node, place in zip(nodes, wanted, strict=True)) / len(nodes)
        for node in nodes:
            x[node] -= drift


def _downward(layout: _Layout, chain: list[int]) -> list[Point]:
    points = [(layout.x[chain[0]], layout.y[chain[0]] + _HEIGHT / 2)]
    points += [(layout.x[node], layout.y[node]) for node in chain[1:-1]]
    return [*points, (layout.x[chain[-1]], layout.y[chain[-1]] - _HEIGHT / 2)]


def _upward(layout: _Layout, source: int, target: int, lane: float) -> list[Point]:
    start = (layout.x[source] + layout.widths[source] / 2, layout.y[source] + 8.0)
    end = (layout.x[target] + layout.widths[target] / 2, layout.y[target] - 8.0)
    return [start, (lane, start[1]), (lane, end[1]), end]


# --- shapes ---


def _edge(points: list[Point], label: str, is_taken: bool, dotted: bool) -> str:
    colour = TAKEN if is_taken else "currentColor"
    style = f'stroke="{colour}" stroke-width="{2.2 if is_taken else 1.2}"' + (
        ' stroke-dasharray="3 4"' if dotted else ""
    )
    (x0, y0), (x1, y1) = points[-2], points[-1]
    if y0 == y1:
        side = 7.0 if x0 > x1 else -7.0
        head = f"{x1:.1f},{y1:.1f} {x1 + side:.1f},{y1 - 4:.1f} {x1 + side:.1f},{y1 + 4:.1f}"
    else:
        head = f"{x1:.1f},{y1:.1f} {x1 - 4:.1f},{y1 - 7:.1f} {x1 + 4:.1f},{y1 - 7:.1f}"
    text = ""
    if label:
        (ax, ay), (bx, by) = points[(len(points) - 1) // 2], points[(len(points) - 1) // 2 + 1]
        text = (
            f'<text x="{(ax + bx) / 2 + 5:.1f}" y="{(ay + by) / 2 + 4:.1f}" font-size="11" fill="{colour}">'
            f"{escape(printable(label))}</text>"
        )
    return f'<path d="{_path(points)}" {style}/><polygon points="{head}" fill="{colour}"/>{text}'


def _path(points: list[Point]) -> str:
    """A line through the points: smooth where it goes down, square where it goes round the outside."""
    (x0, y0), *rest = points
    text = f"M{x0:.1f} {y0:.1f}"
    for x1, y1 in rest:
        if x0 == x1 or y0 == y1:
            text += f"L{x1:.1f} {y1:.1f}"
        else:
            middle = (y0 + y1) / 2
            text += f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
        x0, y0 = x1, y1
    return text


def _box(label: str, detail: str, kind: str, x: float, y: float, width: float, is_taken: bool) -> str:
    left, top, right, bottom = x - width / 2, y - _HEIGHT / 2, x + width / 2, y + _HEIGHT / 2
    colour = TAKEN if is_taken else "currentColor"
    style = (
        f'stroke="{colour}" stroke-width="{2.2 if is_taken else 1.2}" fill="{colour}" '
        f'fill-opacity="{0.12 if is_taken else 0.04}"'
    )
    if kind in {"split", "join"}:
        up, down = (8.0, 0.0) if kind == "split" else (0.0, 8.0)
        upper = f"{left + up:.1f},{top:.1f} {right - up:.1f},{top:.1f}"
        corners = f"{upper} {right - down:.1f},{bottom:.1f} {left + down:.1f},{bottom:.1f}"
        shape = f'<polygon points="{corners}" {style}/>'
    else:
        shape = f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_HEIGHT:.0f}" rx="8" {style}/>'
        if kind == "exit":
            shape += (
                f'<rect x="{left + 3:.1f}" y="{top + 3:.1f}" width="{width - 6:.1f}" height="{_HEIGHT - 6:.0f}" rx="6" '
                f'stroke="{colour}" stroke-width="1"/>'
            )
    anchor = 'text-anchor="middle" fill="currentColor"'
    if not detail:
        return f'{shape}<text x="{x:.1f}" y="{y + 4.5:.1f}" {anchor}>{escape(printable(label))}</text>'
    small = f'font-size="11" fill-opacity="0.75" {anchor}'
    return (
        f'{shape}<text x="{x:.1f}" y="{y - 2:.1f}" {anchor}>{escape(printable(label))}</text>'
        f'<text x="{x:.1f}" y="{y + 13:.1f}" {small}>{escape(printable(detail))}</text>'
    )


def _measure(text: str, letter: float) -> float:
    """About how wide a text will be; nobody here knows the font."""
    from unicodedata import east_asian_width

    return sum(letter * (1.8 if east_asian_width(char) in {"W", "F"} else 1.0) for char in printable(text))
