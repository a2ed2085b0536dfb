"""What `tests/load` writes beside the record, as facts for the page; `tests/load/figures.py` describes the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

WHAT = {
    "many_runs": "runs, one after the other, in one process",
    "branches": "branches of one split, one in a hundred failing or late",
    "runs_at_once": "runs at once",
    "timers": "branches asleep at once",
}


def entries(stored: Json) -> Iterator[Json]:
    """Return what is told of the server, and of scale: `{"class", "what", "date", "facts"}`."""
    for interpreter, sections in sorted(stored.items()):
        if "server" in sections:
            yield _server(interpreter, sections["server"])
        scale = [fact for name in WHAT if name in sections for fact in _scale(WHAT[name], sections[name])]
        if scale:
            date = max(sections[name]["date"] for name in WHAT if name in sections)
            yield {"class": "F23", "what": f"CPython {interpreter}", "date": date, "facts": scale}


def _server(interpreter: str, server: Json) -> Json:
    first, last = server["memory_mb"]
    return {
        "class": "load",
        "what": f"CPython {interpreter}, uvicorn {server['uvicorn']}, {server['connections']} connections for "
        f"{server['seconds']:g} s to each of three handlers that take turns; {first:g} MB after warming up, "
        f"{last:g} MB at the end",
        "date": server["date"],
        "facts": [
            f"{name}: {facts['requests']:,} requests, {facts['errors']} errors, "
            f"{facts['p50_ms']:g} ms at the median, {facts['p99_ms']:g} ms at the 99th percentile"
            for name, facts in server["handlers"].items()
        ],
    }


def _scale(what: str, section: Json) -> Iterator[str]:
    for engine in ("native", "python"):
        if engine in section:
            facts = section[engine]
            first, last = facts["memory_mb"][0], facts["memory_mb"][-1]
            stall = f", another task waited {facts['stall_ms']:g} ms at most" if facts["stall_ms"] else ""
            yield (
                f"{engine}: {facts['count']:,} {what}, {facts['rounds']} times: {facts['seconds']:g} s; "
                f"{first:g} MB at first, {last:g} MB at the end{stall}"
            )
