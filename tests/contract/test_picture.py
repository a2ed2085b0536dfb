"""Pictures: what they say, and that no label breaks out of them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from cano import RunReport
from cano.picture import Drawing, DrawnState, taken_by, to_dot, to_html, to_mermaid

SVG = "{http://www.w3.org/2000/svg}"


def a_drawing() -> Drawing:
    """start -> fan -> (join) -> end, and back from the join's state to the start."""
    return Drawing(
        [
            DrawnState("START", "task", "load", "start"),
            DrawnState("FAN", "split", "All, bulkhead=4", "fan"),
            DrawnState("join", "join", "All"),
            DrawnState("CHECK", "task", "check", "check"),
            DrawnState("END", "exit", "", "end"),
        ],
        [(0, 1, ""), (1, 2, "3 branches"), (2, 3, ""), (3, 4, "ok"), (3, 0, "again")],
        0,
        "demo",
    )


def a_report(*path: str) -> RunReport[str]:
    return RunReport(path[-1], path, 1.0)


def test_the_path_goes_over_the_join() -> None:
    taken = taken_by(a_drawing(), a_report("start", "fan", "check", "end"))
    assert taken.states == {0, 1, 2, 3, 4}
    assert taken.edges == {0, 1, 2, 3}
    assert taken.undeclared == ()


def test_an_undeclared_transition_is_added() -> None:
    taken = taken_by(a_drawing(), a_report("start", "end"))
    assert taken.undeclared == ((0, 4),)
    assert taken.edges == frozenset()


def test_a_state_that_is_not_drawn_is_passed_over() -> None:
    assert taken_by(a_drawing(), a_report("elsewhere", "start", "fan")).edges == {0}


def test_a_cycle_is_coloured_once() -> None:
    again = taken_by(a_drawing(), a_report("start", "fan", "check", "start", "fan", "check", "end"))
    assert again.edges == {0, 1, 2, 3, 4}


def test_mermaid() -> None:
    assert to_mermaid(a_drawing()).splitlines() == [
        "flowchart TD",
        '    s0["START<br/><small>load</small>"]',
        '    s1[/"FAN<br/><small>All, bulkhead=4</small>"\\]',
        '    s2[\\"join<br/><small>All</small>"/]',
        '    s3["CHECK<br/><small>check</small>"]',
        '    s4(["END"])',
        '    start((" ")) --> s0',
        "    s0 --> s1",
        '    s1 -->|"3 branches"| s2',
        "    s2 --> s3",
        '    s3 -->|"ok"| s4',
        '    s3 -->|"again"| s0',
    ]


def test_mermaid_counts_its_links_as_it_draws_them() -> None:
    text = to_mermaid(a_drawing(), a_report("start", "fan", "check", "end"))
    assert "    class s0,s1,s2,s3,s4 taken" in text
    (styled,) = re.findall(r"linkStyle (\S+) ", text)
    links = [line for line in text.splitlines() if "-->" in line or "-.->" in line]
    coloured = [links[int(number)].split()[0] + links[int(number)].split()[-1] for number in styled.split(",")]
    assert coloured == ["s0s1", "s1s2", "s2s3", "s3s4"]


def test_dot() -> None:
    text = to_dot(a_drawing(), a_report("start", "end"))
    assert text.startswith('digraph "demo" {\n')
    assert text.endswith("}\n")
    assert '    s1 [label="FAN\\nAll, bulkhead=4", shape=trapezium];' in text
    assert "    start -> s0;" in text
    assert '    s3 -> s4 [label="ok"];' in text
    assert "    s0 -> s4 [style=dotted" in text


HOSTILE = [
    '"',
    "<b>&amp;</b>",
    "a\nb",
    "]:::x",
    "%%{init: {}}%%",
    "\\",
    "`",
    "#quot;",
    "end",
    "\x00\ud800",
    "x" * 500,
    "",
    "漢字 ✓",
]


def hostile(text: str) -> Drawing:
    states = [DrawnState(text, kind, text, kind) for kind in ("task", "split", "join", "exit")]
    return Drawing(states, [(0, 1, text), (1, 2, text), (2, 3, text)], 0, text)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_label_breaks_out_of_mermaid(text: str) -> None:
    label = r"(?:[^\"#<>&`\\%{}|\n]|#\d+;)+"
    node = rf"    s\d[\[\(/\\]+\"{label}(?:<br/><small>{label}</small>)?\"[\]\)/\\]+"
    link = rf"    s\d -->(?:\|\"{label}\"\|)? s\d"
    for line in to_mermaid(hostile(text)).splitlines()[1:]:
        assert line == '    start((" ")) --> s0' or re.fullmatch(f"{node}|{link}", line), line


@pytest.mark.parametrize("text", HOSTILE)
def test_no_label_breaks_out_of_dot(text: str) -> None:
    quoted = r'"(?:[^"\\\n]|\\\\|\\"|\\n)*"'
    bare = re.sub(quoted, "Q", to_dot(hostile(text)))
    assert re.fullmatch(r"[\w\s\[\]{}=,;.>-]*", bare), bare


@pytest.mark.parametrize("text", HOSTILE)
def test_no_label_breaks_out_of_svg(text: str) -> None:
    root = ET.fromstring(to_html(hostile(text)))
    assert {element.tag for element in root.iter()} <= {
        "div",
        *(SVG + tag for tag in ("svg", "title", "path", "polygon", "circle", "text", "rect")),
    }


def boxes(drawing: Drawing) -> list[tuple[float, float, float, float]]:
    """The outlines of the states, in order: left, top, right, bottom."""
    found = []
    for element in ET.fromstring(to_html(drawing)).iter():
        if element.tag == SVG + "rect" and element.get("rx") == "8":
            x, y, width, height = (float(element.get(name, "nan")) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def tasks(count: int, *edges: tuple[int, int]) -> Drawing:
    return Drawing([DrawnState(f"S{i}") for i in range(count)], [(a, b, "") for a, b in edges], 0)


@pytest.mark.parametrize(
    "drawing",
    [
        tasks(1),
        tasks(5, (0, 1), (1, 2), (2, 3), (3, 4)),
        tasks(6, *[(0, i) for i in range(1, 6)]),
        tasks(6, *[(i, j) for i in range(6) for j in range(6)]),
        tasks(4, (0, 1), (1, 0), (2, 3), (3, 2), (1, 1)),
        tasks(9, *[(i, j) for i in (0, 1, 2) for j in (3, 4, 5)], *[(j, k) for j in (3, 4, 5) for k in (6, 7, 8)]),
    ],
)
def test_boxes_do_not_overlap_and_stay_in_the_picture(drawing: Drawing) -> None:
    outlines = boxes(drawing)
    assert len(outlines) == len(drawing.states)
    for i, (left, top, right, bottom) in enumerate(outlines):
        for other_left, other_top, other_right, other_bottom in outlines[:i]:
            assert right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
    svg = ET.fromstring(to_html(drawing)).find(SVG + "svg")
    assert svg is not None
    width, height = float(svg.get("width", "0")), float(svg.get("height", "0"))
    assert all(left >= 0 and top >= 0 and right <= width and bottom <= height for left, top, right, bottom in outlines)


def test_a_chain_goes_down() -> None:
    outlines = boxes(tasks(5, (0, 1), (1, 2), (2, 3), (3, 4)))
    assert all(upper[3] < lower[1] for upper, lower in pairwise(outlines))


def test_long_chains_and_empty_drawings_are_drawn() -> None:
    assert len(boxes(tasks(3000, *pairwise(range(3000))))) == 3000
    assert "svg" in to_html(Drawing([], []))
    assert to_mermaid(Drawing([], [])) == "flowchart TD\n"


def test_the_same_drawing_gives_the_same_text() -> None:
    for draw in (to_mermaid, to_dot, to_html):
        report = a_report("start", "fan", "check", "end")
        assert draw(a_drawing(), report) == draw(a_drawing(), report)
