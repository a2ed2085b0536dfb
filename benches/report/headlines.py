"""The sentences of docs/performance.md that hold figures: made from the results, so that none is ever copied."""

from __future__ import annotations

from benches.report.aims import GATHER, NATIVE
from benches.report.results import Results


def headline(all_results: list[Results]) -> str:
    """What the engine does for branches that cost next to nothing."""
    parts = []
    for results in all_results:
        ratio = results.ratio("noop", "n=10000", NATIVE, GATHER)
        ours, theirs = (results.cost("noop", "n=10000", who) for who in (NATIVE, GATHER))
        yields = results.ratio("yields", "n=10000", NATIVE, GATHER)
        if ratio and ours and theirs and yields:
            parts.append(
                f"on {results.label} a branch that returns at once costs {ours.median:.2f} µs where `asyncio.gather` "
                f"takes {theirs.median:.2f} µs ({ratio.median:.0f}×), and one that gives the loop a turn is "
                f"{yields.median:.1f}× cheaper"
            )
    return "10,000 branches: " + "; ".join(parts) + "."


def honest(all_results: list[Results]) -> str:
    """What it does for branches that work."""
    parts = []
    for results in all_results:
        gained = results.ratio("honest", "branches that work for 200 µs", NATIVE, GATHER)
        if gained:
            share = (1 - 1 / gained.median) * 100
            low, high = ((1 - 1 / value) * 100 for value in (gained.low, gained.high))
            did = "gains" if share >= 0 else "loses"
            passes = f"{low:.1f} to {high:.1f} % gained over the passes"
            parts.append(f"{did} {abs(share):.1f} % on {results.label} ({passes})")
    return "; ".join(parts)


def flat(all_results: list[Results]) -> str:
    """How the cost per branch changes from the smallest to the largest number."""
    parts = []
    for results in all_results:
        for case in ("no-op", "sleep"):
            for who in (NATIVE, GATHER):
                points = sorted(results.points("scale", case=case, who=who), key=lambda point: point["n"])
                if len(points) < 2:
                    continue
                first, last = (point["cpu"] / point["n"] * 1e6 for point in (points[0], points[-1]))
                parts.append(
                    f"- {results.label}, {case}, {who}: {first:.2f} µs at N = {points[0]['n']:,}, {last:.2f} µs at "
                    f"N = {points[-1]['n']:,} ({last / first:.2f}×)."
                )
    return "\n".join(parts)


def slower(all_results: list[Results]) -> str:
    """Where doing without the engine is cheaper."""
    questions = (
        ("chain", "async states", "while loop by hand", NATIVE, "A transition beside a `while` loop written by hand"),
        ("one_run", "one state", "await f()", NATIVE, "A run of one state beside a bare `await f()`"),
        (
            "honest",
            "fan_out where a plain loop would do",
            "[await f(i) for i in items]",
            "cano.fan_out, native",
            "`fan_out` of branches that never suspend beside `[await f(i) for i in items]`",
        ),
        ("noop", "n=1", GATHER, "cano.fan_out, native", "`fan_out` of a single branch beside gather of one"),
        (
            "honest",
            "introspect=True: real tasks, sleep(0)",
            GATHER,
            "cano, native, introspect=True",
            "`introspect=True`, where every branch is a real task, beside gather",
        ),
        ("sync_calls", "inline=True", "a list comprehension", NATIVE, "`inline=True` beside a list comprehension"),
    )
    lines = []
    for question, case, beside, ours, what in questions:
        found = []
        if all(
            (ratio := results.ratio(question, case, beside, ours)) is None or ratio.median <= 1
            for results in all_results
        ):
            continue
        for results in all_results:
            ratio = results.ratio(question, case, beside, ours)
            cost = results.cost(question, case, ours)
            if ratio and cost:
                found.append(f"{ratio.median:.2g} times the cost on {results.label} ({cost.median:.3g} µs)")
        if found:
            lines.append(f"- {what}: {'; '.join(found)}.")
    return "\n".join(lines)
