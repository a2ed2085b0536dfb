"""The section of docs/performance.md about other libraries."""

from __future__ import annotations

from typing import Any

from benches.report.tables import number, table

APART = "†"
STARTS = (
    "A fresh process, with the CPU time of all that it starts; what keeps something on disk begins with an empty folder, "
    "and has to set up its database first."
)


def section(data: dict[str, Any]) -> str:
    """Tables of every job by library: CPU time, how many times ours, what starting costs, and who was skipped and why."""
    facts = data["facts"]
    interpreter = facts["interpreter"]
    intro = (
        f"Measured on {interpreter['implementation']} {interpreter['version']}, {facts['date']}, the same clock and the same "
        "order; each library used as its own documentation shows, in `benches/peers`, a file each. They have other aims "
        "than a few microseconds: checkpoints, a server, typed events, other machines. A figure says what a small job "
        "costs, and nothing of what else one gets for it."
    )
    lines = ["## Beside other libraries", "", intro]
    if apart := [record for record in data["records"] if record.get("apart")]:
        lines += ["", _how_apart(apart)]
    for job, title in data["jobs"].items():
        rows = [record for record in data["records"] if record["job"] == job]
        if rows:
            lines += ["", f"**{title}**", "", _job(rows, data["ours"])]
    if data.get("starts"):
        lines += ["", "**From starting the interpreter to the end of the first job**", "", STARTS, "", _starts(data)]
    if data["skipped"]:
        lines += ["", "Left out: " + "; ".join(f"{name} ({why})" for name, why in data["skipped"].items()) + "."]
    return "\n".join(lines)


def _how_apart(records: list[dict[str, Any]]) -> str:
    names = sorted({record["peer"] for record in records})
    turns = [record["turns"] for record in records]
    named = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return (
        f"{APART} {named}: the same jobs, of the same size, in a process of its own each, started before the clock. The "
        "figure is the CPU time of that process and of all that it started, to the result; what a server puts in order "
        f"afterwards is not counted. Being slow, they did a job only {_between(min(turns), max(turns))} times."
    )


def _job(rows: list[dict[str, Any]], ours: str) -> str:
    best = min(record["best"] for record in rows if record["peer"] == ours)
    cells = [
        [
            f"{record['peer']} {APART}" if record.get("apart") else record["peer"],
            record["version"] or "–",
            number(record["best"]),
            f"{number(record['best'] / best)}×",
            number(record["wall"] / 1e3) if "wall" in record else "–",
        ]
        for record in sorted(rows, key=lambda record: record["best"])
    ]
    return table(["", "version", f"µs per {rows[0]['unit']}", "beside ours", "ms by the wall clock"], cells)


def _starts(data: dict[str, Any]) -> str:
    cells = [
        [
            start["peer"],
            start["job"],
            number(start["cpu"] / 1e3),
            number(start["wall"] / 1e3),
            str(start["processes"]),
            str(start["runs"]),
        ]
        for start in sorted(data["starts"], key=lambda start: start["cpu"])
    ]
    head = ["", "first job", "ms of CPU time", "ms by the wall clock", "processes", "best of"]
    return table(head, cells, left=2)


def _between(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"
