"""The pictures of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable

from benches.report.aims import AIMS, FASTER, GATHER, NATIVE, PURE, STALL_AT_MOST_MS, Aim
from benches.report.results import Results
from benches.report.svg import LogAxis, Svg

BOUNDED = "cano, native, bulkhead of 1,000, lazy source"
COLOURS = {NATIVE: "c0", BOUNDED: "c2", PURE: "c1", GATHER: "c4"}


def cost_per_branch(all_results: list[Results]) -> Svg:
    """CPU time per branch over the number of branches, a panel per interpreter and kind of branch."""
    all_results = [results for results in all_results if results.points("scale")]
    panels = [(results, case) for case in ("no-op", "sleep") for results in all_results]
    columns = len(all_results)
    svg = Svg(90 + 400 * columns, 60 + 270 * 2, "CPU time per branch over the number of branches")
    svg.legend(20, 24, [(COLOURS[who], who) for who in (NATIVE, BOUNDED, PURE, GATHER)])
    values = [
        p["cpu"] / p["n"] * 1e6 for r in all_results for p in r.points("scale") if p["case"] in {"no-op", "sleep"}
    ]
    for index, (results, case) in enumerate(panels):
        left, top = 60 + 400 * (index % columns), 66 + 270 * (index // columns)
        across = LogAxis(100, 1_000_000, left, left + 330)
        up = LogAxis(min(values), max(values), top + 190, top)
        kind = "return at once" if case == "no-op" else "sleep for 1 ms"
        svg.text(left, top - 10, f"branches that {kind}, {results.label}", "head")
        for value in up.decades():
            svg.line(left, up(value), left + 330, up(value))
            svg.text(left - 6, up(value) + 4, f"{value:g} µs", "soft", "end")
        for value in across.decades():
            svg.text(across(value), top + 208, f"{value:,.0f}", "soft", "middle")
        for who, css in COLOURS.items():
            points = sorted((p["n"], p["cpu"] / p["n"] * 1e6) for p in results.points("scale", case=case, who=who))
            if points:
                svg.curve([(across(n), up(cost)) for n, cost in points], css)
    return svg


def ratios(all_results: list[Results]) -> Svg:
    """How many times faster, a bar per row and interpreter, and a mark at what is aimed at."""
    rows = [aim for aim in AIMS if aim.kind == FASTER and aim.loop == "asyncio" and aim.question != "parallel"]
    all_results = [results for results in all_results if results.points("scale")] or all_results
    rows = [aim for aim in rows if any(results.measured(aim) for results in all_results)]
    height = 14 * len(all_results) + 12
    svg = Svg(960, 70 + height * len(rows), "How many times faster, beside what is aimed at")
    names = [(f"c{index}", results.label) for index, results in enumerate(all_results)]
    svg.legend(20, 24, names)
    svg.text(940, 24, "times faster (log scale); a stroke marks what is aimed at", "soft", "end")
    found = [figure.median for aim in rows for results in all_results if (figure := results.measured(aim))]
    axis = LogAxis(1, max(*found, 100), 470, 890)
    for value in axis.decades():
        svg.line(axis(value), 40, axis(value), svg.height - 12)
        svg.text(axis(value), 52, f"{value:g}×", "soft", "middle")
    for row, aim in enumerate(rows):
        top = 62 + height * row
        svg.text(460, top + height / 2, _plain(aim), anchor="end")
        for index, results in enumerate(all_results):
            figure, y = results.measured(aim), top + 14 * index
            if figure is None:
                continue
            end = axis(max(figure.median, 1.0))
            svg.bar(470, y, end - 470, 11, f"c{index}")
            mark = axis(results.aimed_at(aim))
            svg.text((max(end, mark) if mark < end + 45 else end) + 6, y + 10, f"{figure.median:.3g}×", "soft")
            svg.line(mark, y - 1, mark, y + 12, "aim")
    return svg


def _plain(aim: Aim) -> str:
    """A row's name where no heading says what it belongs to."""
    what = aim.what.replace("`", "").replace("; beside gather with a Semaphore", "").replace("branches: ", "")
    what = what.replace("; beside gather with asyncio.timeout", "").replace("; beside gather with asyncio.sleep", "")
    prefix = {"fan_out": "fan_out, ", "sync_calls": "sync callables, ", "store": "store, "}.get(aim.question, "")
    return prefix + what.replace("N = 10,000; beside", "beside")


def memory(all_results: list[Results]) -> Svg:
    """Bytes per suspended branch, at the largest number that was measured."""
    rows = []
    for results in all_results:
        points = results.points("memory")
        largest = max((point["n"] for point in points), default=0)
        rows += [(results, point) for point in points if point["n"] == largest]
    svg = Svg(820, 50 + 26 * len(rows), "Memory per suspended branch")
    svg.text(20, 24, "bytes per suspended branch", "head")
    svg.legend(250, 24, [(COLOURS[who], who) for who in (NATIVE, PURE, GATHER)])
    scale = 380 / max((point["bytes_per_branch"] for _, point in rows), default=1)
    for row, (results, point) in enumerate(rows):
        y = 42 + 26 * row
        svg.text(330, y + 13, f"{results.label}, {point['case']}, {_short(point['who'])}", anchor="end")
        width = point["bytes_per_branch"] * scale
        svg.bar(340, y, width, 18, COLOURS[point["who"]])
        svg.text(346 + width, y + 13, f"{point['bytes_per_branch']:,.0f}", "soft")
    return svg


def _short(who: str) -> str:
    return {NATIVE: "native", PURE: "pure", BOUNDED: "bulkhead", GATHER: "gather"}.get(who, who)


def stalls(results: Results) -> Svg:
    """How long a ticker waited for its turns: a small histogram per shape, the height logarithmic."""
    points = results.points("fairness")
    svg = Svg(960, 64 + 66 * len(points), f"How long another task waits for its turn, {results.label}")
    svg.text(20, 24, f"How long another task of the loop waits for its turn, {results.label}", "head")
    svg.text(940, 24, "number of turns (log scale) by how long they took to come", "soft", "end")
    if not points:
        return svg
    edges = points[0]["edges_ms"]
    labels = [f"≤ {edge:g}" for edge in edges] + [f"> {edges[-1]:g} ms"]
    most = max(max(point["bars"]) for point in points)
    for row, point in enumerate(points):
        bottom = 98 + 66 * row
        svg.text(330, bottom - 22, f"{point['case']}, N = {point['n']:,}, {_short(point['who'])}", anchor="end")
        longest = f"longest {point['longest_ms']:.1f} ms, {point['longest_cpu_ms']:.1f} ms computing"
        svg.text(330, bottom - 6, longest, "soft", "end")
        up: Callable[[float], float] = LogAxis(1, max(most, 10), 0, 44)
        for index, count in enumerate(point["bars"]):
            x = 345 + 54 * index
            late = index >= len(edges) or edges[index] > STALL_AT_MOST_MS
            if count:
                height = 3 + up(count)
                svg.bar(x, bottom - height, 48, height, "c3" if late else COLOURS[point["who"]])
            svg.line(x, bottom, x + 48, bottom)
            if row == 0:
                svg.text(x + 24, 46, labels[index], "soft", "middle")
    return svg
