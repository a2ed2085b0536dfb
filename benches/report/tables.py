"""The tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from benches.report.aims import (
    AIMS,
    COST,
    GATHER,
    MEMORY_AT_MOST,
    MICROSECONDS,
    NATIVE,
    PURE,
    STALL_AT_MOST_MS,
    Aim,
)
from benches.report.results import Figure, Results

MIB = 2**20


def table(head: list[str], rows: Iterable[list[str]], left: int = 1) -> str:
    """A Markdown table; all columns but the first `left` ones are set to the right."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def machine(all_results: list[Results]) -> str:
    """Where, when and with what it was measured."""
    found = all_results[0].facts["machine"]
    lines = [
        f"- Machine: {found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['system']}.",
    ]
    for results in all_results:
        facts, native = results.facts, results.facts["native"]
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
        optimised = "with" if facts["interpreter"]["optimised"] else "without"
        lines.append(
            f"- {results.label} ({facts['interpreter']['compiler']}, built {optimised} `--enable-optimizations`): "
            f"{facts['date']}, {results.method['passes']} passes in {facts['seconds']} s, "
            f"load average {facts['machine']['load_before']} before. {versions}; native engine: rustc {native['rustc']}, "
            f"PyO3 {native['pyo3']}, profile {native['profile']}."
        )
    if max(results.facts["machine"]["load_before"] for results in all_results) > 0.5:
        lines.append(
            "- **The machine was not idle**: other processes ran meanwhile. CPU time leaves their turns out, but not what they "
            "take of caches and memory, and the longest waits below include their turns."
        )
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits at least, and thousands apart."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def _range(figure: Figure | None, unit: str = "×") -> str:
    if figure is None:
        return "–"
    text = f"{number(figure.median)}{unit}"
    return text if figure.low == figure.high else f"{text} ({number(figure.low)}–{number(figure.high)})"


def _aimed_at(aim: Aim) -> str:
    sign = "≤ " if aim.kind in {COST, MICROSECONDS} else "≥ "
    unit = " µs" if aim.kind == MICROSECONDS else "×"
    return sign + " / ".join(dict.fromkeys(f"{at:g}" for at in aim.at)) + unit


def _verdict(holds: bool | None) -> str:
    return "–" if holds is None else "holds" if holds else "**misses**"


def aims(all_results: list[Results]) -> str:
    """Every row that there is an aim for, by group."""
    parts = []
    for group, found in groupby(AIMS, key=lambda aim: aim.group):
        rows = list(found)
        measured = [results for results in all_results if any(results.measured(aim) for aim in rows)]
        cells = []
        for aim in rows:
            if all(results.measured(aim) is None for results in measured):
                continue
            line = [aim.what, _aimed_at(aim)]
            for results in measured:
                unit = " µs" if aim.kind == MICROSECONDS else "×"
                line += [_range(results.measured(aim), unit), _verdict(results.holds(aim))]
            cells.append(line)
        if cells:
            parts.append(f"**{group}**\n\n{table(_head(measured), cells)}")
    measured = [results for results in all_results if results.points("memory") or results.points("fairness")]
    cells = [*_memory_aims(measured), *_stall_aims(measured)]
    parts.append(f"**Memory and fairness**\n\n{table(_head(measured), cells)}")
    return "\n\n".join(parts)


def _head(all_results: list[Results]) -> list[str]:
    return ["", "aimed at"] + [cell for results in all_results for cell in (results.label, "")]


def _memory_aims(all_results: list[Results]) -> Iterable[list[str]]:
    for case in ("one future for all", "sleeping"):
        largest = max((p["n"] for r in all_results for p in r.points("memory", case=case)), default=0)
        line = [f"memory per suspended branch, {case}, N = {largest:,}; beside gather", f"≤ {MEMORY_AT_MOST}×"]
        for results in all_results:
            ratio = results.memory_ratio(case, largest, NATIVE, GATHER)
            line += ["–", "–"] if ratio is None else [f"{ratio:.2f}×", _verdict(ratio <= MEMORY_AT_MOST)]
        yield line


def _stall_aims(all_results: list[Results]) -> Iterable[list[str]]:
    seen = [(p["case"], p["n"], p["who"]) for r in all_results for p in r.points("fairness") if p["who"] != GATHER]
    for case, n, who in dict.fromkeys(seen):
        suffix = "" if who == NATIVE else ", bulkhead of 1,000"
        line = [f"longest wait of another task: {case}{suffix}, N = {n:,}", f"≤ {STALL_AT_MOST_MS:g} ms"]
        for results in all_results:
            points = results.points("fairness", case=case, n=n, who=who)
            longest = points[0]["longest_ms"] if points else None
            line += ["–", "–"] if longest is None else [f"{longest:.1f} ms", _verdict(longest <= STALL_AT_MOST_MS)]
        yield line


def score(all_results: list[Results]) -> str:
    """One sentence per interpreter: how many rows hold."""
    lines = []
    for results in all_results:
        verdicts = [verdict for aim in AIMS if (verdict := results.holds(aim)) is not None]
        lines.append(f"{sum(verdicts)} of {len(verdicts)} ratios on {results.label}")
    return "; ".join(lines)


def costs(results: Results, question: str, loop: str = "asyncio") -> str:
    """Every case of a question: microseconds of CPU time per unit, by contender."""
    records = [r for r in results.timed if r["question"] == question and r["loop"] == loop and r["contenders"]]
    cases = list(dict.fromkeys(record["case"] for record in records))
    who = list(dict.fromkeys(name for record in records for name in record["contenders"]))
    if not cases:
        return "Not measured here: " + "; ".join(f"{name}: {why}" for name, why in results.skipped().items())
    unit = records[0]["unit"]
    rows = []
    for case in cases:
        figures = [results.cost(question, case, name, loop) for name in who]
        rows.append([case, *("–" if figure is None else f"{figure.median:.3g}" for figure in figures)])
    return table([f"µs per {unit}", *who], rows)


def scale(results: Results) -> str:
    """Wall and CPU time and the peak of memory, by size."""
    rows = []
    for point in results.points("scale"):
        per = point["cpu"] / point["n"] * 1e6
        rows.append(
            [
                point["case"],
                f"{point['n']:,}",
                point["who"],
                f"{point['wall']:.3g} s",
                f"{point['cpu']:.3g} s",
                f"{per:.3g} µs",
                f"{point['peak_bytes'] / MIB:,.1f} MiB",
            ]
        )
    return table(["", "N", "with", "wall", "CPU", "CPU per unit", "peak of memory"], rows)


def memory(results: Results) -> str:
    """Bytes per suspended branch."""
    rows = [
        [point["case"], f"{point['n']:,}", *(f"{_bytes(results, point, who):,.0f}" for who in (NATIVE, PURE, GATHER))]
        for point in results.points("memory", who=NATIVE)
    ]
    return table(["waiting on", "N", NATIVE, PURE, GATHER], rows)


def _bytes(results: Results, point: dict[str, object], who: str) -> float:
    found = results.points("memory", case=point["case"], n=point["n"], who=who)
    return float(found[0]["bytes_per_branch"]) if found else float("nan")


def stalls(results: Results) -> str:
    """How long a ticker waited while each shape ran."""
    rows = [
        [
            f"{point['case']}, N = {point['n']:,}",
            point["who"],
            f"{point['seconds']:.3g} s",
            f"{point['turns']:,}",
            f"{point['longest_ms']:.2f} ms",
            f"{point['longest_cpu_ms']:.2f} ms",
            str(point["above_10_ms"]),
        ]
        for point in results.points("fairness")
    ]
    return table(["while it runs", "with", "it took", "turns", "longest wait", "computing", "above 10 ms"], rows, 2)


def cold_start(results: Results) -> str:
    """Milliseconds of CPU time of a fresh process."""
    points = results.points("cold_start")
    if not points:
        return "Not measured."
    best = points[0]["best"]
    bare = best["python -c pass"]
    rows = [[name, f"{value:.1f}", f"{value - bare:+.1f}"] for name, value in best.items()]
    rows += [[name, "–", why] for name, why in points[0]["skipped"].items()]
    return table(["", "ms of CPU time", "beside the bare interpreter"], rows)


def instructions(stored: dict[str, dict[str, dict[str, float]]]) -> str:
    """What the guard counted: a table per interpreter and build."""
    parts = []
    for build, paths in stored.items():
        rows = []
        for name, counted in paths.items():
            total, native, gather = (counted.get(key) for key in ("instructions", "native", "asyncio.gather"))
            assert total is not None
            assert native is not None
            beside = ["–", "–"] if gather is None else [f"{gather:,.0f}", f"{gather / total:.1f}×"]
            rows.append([name, f"{total:,.0f}", f"{native:,.0f}", *beside])
        head = ["instructions per unit", "all", "the native engine's own", "under asyncio.gather", "fewer"]
        parts.append(f"**{build}**\n\n{table(head, rows)}")
    return "\n\n".join(parts)
