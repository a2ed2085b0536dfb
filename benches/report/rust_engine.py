"""The section of docs/performance.md about the Rust engine alone, beside the Rust original.

`python -m benches.report.rust_engine OUT` reads what `cargo bench` (criterion) has left and writes it to a file of its own.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benches.python.facts import facts
from benches.report.tables import number, table

ROOT = Path(__file__).parents[2]
CRITERION = ROOT / "benches/rust/target/criterion"
ORIGINAL = re.compile(r'^cano = "=([^"]+)"', re.MULTILINE)

TITLES = {"chain": "A chain of transitions", "split": "A split", "retry": "Retries", "store": "The store"}
SIDES = ("engine", "engine_spawned", "original")


def collect() -> dict[str, Any]:
    """What was measured: of each benchmark the median per element, in nanoseconds."""
    rows: dict[str, dict[str, float]] = {}
    for said in sorted(CRITERION.glob("*/*/new/benchmark.json")):
        what = json.loads(said.read_text(encoding="utf-8"))
        estimates = json.loads(said.with_name("estimates.json").read_text(encoding="utf-8"))
        elements = (what["throughput"] or {}).get("Elements", 1)
        words = what["function_id"].split("/")
        side = next((word for word in words if word in SIDES), None)
        if side is None:
            continue  # of the machines alone: the original has none
        rest = [word for word in words if word != side]
        rows.setdefault("/".join([what["group_id"], *rest]), {})[side] = (
            estimates["median"]["point_estimate"] / elements
        )
    manifest = (ROOT / "benches/rust/Cargo.toml").read_text(encoding="utf-8")
    found = ORIGINAL.search(manifest)
    return {"facts": facts(()), "original": found[1] if found else "?", "rows": rows}


def section(data: dict[str, Any]) -> str:
    """Tables of every job: nanoseconds per element, ours and the original's."""
    measured, native = data["facts"], data["facts"]["native"] or {}
    how = (
        f"The engine crate on Tokio, without Python, beside the Rust original (`cano` {data['original']}) with the same tasks in "
        f"one process: `make bench-rust`, {measured['date']}, rustc {native.get('rustc', '?')}, the same machine; criterion's "
        "median, by the clock on the wall, in nanoseconds per step, branch or call. *In place*: the branches are polled in the "
        "run's own task, as the engine does unless told otherwise; *spawned*: each is a task of Tokio's, as in the original."
    )
    lines = ["## The Rust engine alone", "", how]
    groups: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for name, sides in data["rows"].items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, []).append((rest.replace("_", " ").replace("/", ", "), sides))
    for group, rows in groups.items():
        lines += ["", f"**{TITLES.get(group, group)}**", "", _table(rows)]
    return "\n".join(lines)


def _table(rows: list[tuple[str, dict[str, float]]]) -> str:
    spawned = any("engine_spawned" in sides for _, sides in rows)
    head = ["", *(["in place", "spawned"] if spawned else ["engine"]), "original", "engine / original"]
    body = []
    for name, sides in rows:
        ours = [sides.get(side) for side in (SIDES[:2] if spawned else SIDES[:1])]
        engine, original = sides.get("engine"), sides.get("original")
        ratio = "–" if not (engine and original) else f"{engine / original:.2f}×"
        if ratio == "0.00×":
            ratio = "under 0.01×"
        body.append([name, *(number(ns) if ns else "–" for ns in (*ours, original)), ratio])
    return table(
        head,
        sorted(body, key=lambda row: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", row[0])]),
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(collect(), indent=1) + "\n", encoding="utf-8")
