"""A few shapes of SVG, written by hand: nothing to install, and a text file that a review can read.

A picture brings its own background and takes the reader's light or dark scheme, so that it can be read on either.
"""

from __future__ import annotations

import math
from html import escape

# Light and dark shades of one colour each: native, pure, with a bulkhead, late, asyncio.
COLOURS = {
    "c0": ("#0b62d6", "#66a8ff"),
    "c1": ("#00806a", "#3fcfae"),
    "c2": ("#8a4bd0", "#c39bff"),
    "c3": ("#b4560f", "#ffa25c"),
    "c4": ("#6b7280", "#9aa3b2"),
}


def _shades(dark: bool) -> str:
    text, page, soft, grid = (
        ("#e6e9ef", "#171a21", "#a2abb9", "#343a46") if dark else ("#1f2430", "#ffffff", "#5b6472", "#d9dde3")
    )
    rules = [f"text {{ fill: {text}; }}", f".page {{ fill: {page}; }}", f"text.soft {{ fill: {soft}; }}"]
    rules += [f".grid {{ stroke: {grid}; }}", f".aim {{ stroke: {text}; }}"]
    for css, shades in COLOURS.items():
        rules.append(f".fill.{css} {{ fill: {shades[dark]}; }} .line.{css} {{ stroke: {shades[dark]}; }}")
    return " ".join(rules)


STYLE = f"""
  text {{ font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }}
  .head {{ font-weight: 600; font-size: 13px; }} .aim, .line {{ stroke-width: 2; }} .line {{ fill: none; }}
  {_shades(False)}
  @media (prefers-color-scheme: dark) {{ {_shades(True)} }}
"""


class Svg:
    """A picture of a given size in pixels, with a title that a screen reader tells."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height = width, height
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape(title)}</title><style>{STYLE}</style>",
            f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
        ]

    def text(self, x: float, y: float, text: str, css: str = "", anchor: str = "start") -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> None:
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>')

    def bar(self, x: float, y: float, width: float, height: float, css: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" '
            f'class="fill {css}"/>'
        )

    def curve(self, points: list[tuple[float, float]], css: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" class="line {css}"/>')
        for x, y in points:
            self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="fill {css}"/>')

    def legend(self, x: float, y: float, names: list[tuple[str, str]]) -> None:
        """Names with a square of their colour, in a row; `names` are (css class, name)."""
        for css, name in names:
            self.bar(x, y - 9, 10, 10, css)
            self.text(x + 15, y, name)
            x += 15 + 6.6 * len(name) + 18

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>"]) + "\n"


class LogAxis:
    """Maps values on a logarithmic scale to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return self.start + share * (self.end - self.start)

    def decades(self) -> list[float]:
        """The powers of ten on the scale."""
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1)]
