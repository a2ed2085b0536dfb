"""The section of docs/performance.md about other libraries."""

from __future__ import annotations

from typing import Any

from benches.report.tables import number, table


def section(data: dict[str, Any]) -> str:
    """Tables of every job by library: CPU time, how many times ours, and who was skipped and why."""
    facts = data["facts"]
    interpreter = facts["interpreter"]
    intro = (
        f"Measured on {interpreter['implementation']} {interpreter['version']}, {facts['date']}, the same clock and the same "
        "order; each library used as its own documentation shows, in `benches/peers`, a file each. They have other aims "
        "than a few microseconds: checkpoints, a server, typed events, other machines. A figure says what a small job "
        "costs, and nothing of what else one gets for it."
    )
    lines = ["## Beside other libraries", "", intro]
    for job, title in data["jobs"].items():
        rows = [record for record in data["records"] if record["job"] == job]
        if not rows:
            continue
        ours = min(record["best"] for record in rows if record["peer"] == data["ours"])
        cells = [
            [record["peer"], record["version"] or "–", number(record["best"]), f"{number(record['best'] / ours)}×"]
            for record in sorted(rows, key=lambda record: record["best"])
        ]
        lines += ["", f"**{title}**", "", table(["", "version", f"µs per {rows[0]['unit']}", "beside ours"], cells)]
    if data["skipped"]:
        lines += ["", "Left out: " + "; ".join(f"{name} ({why})" for name, why in data["skipped"].items()) + "."]
    return "\n".join(lines)
