"""How long from `python` to the end of the first run? CPU time of a fresh process, beside the bare interpreter's."""

from __future__ import annotations

import os
import sys
from typing import Any

from benches.python.harness import Budget

RUN = """
import asyncio, {module}
async def f(): return "end"
async def main():
    {body}
asyncio.run(main())
"""
OURS = 'await cano.Workflow(engine="{engine}").register("a", f).add_exit_state("end").orchestrate("a")'
PROGRAMS = {
    "python -c pass": "pass",
    "import asyncio": "import asyncio",
    "import cano": "import cano",
    "asyncio.run of a gather of one": RUN.format(module="asyncio", body="await asyncio.gather(f())"),
    "first run, native": RUN.format(module="cano", body=OURS.format(engine="native")),
    "first run, pure Python": RUN.format(module="cano", body=OURS.format(engine="python")),
    "import anyio": "import anyio",
    "import aiometer": "import aiometer",
}


def points(budget: Budget) -> list[dict[str, Any]]:
    return [{"case": "cold start", "rounds": 20 // min(budget.shrink, 5)}]


async def measure(point: dict[str, Any]) -> dict[str, Any]:
    readings: dict[str, list[float]] = {}
    skipped: dict[str, str] = {}
    for round_ in range(point["rounds"] + 1):
        for name, program in PROGRAMS.items():
            if name in skipped:
                continue
            taken = cpu_of(program)
            if taken is None:
                skipped[name] = "not installed"
            elif round_:
                readings.setdefault(name, []).append(taken * 1e3)
    return {**point, "unit": "ms", "best": {name: min(values) for name, values in readings.items()}, "skipped": skipped}


def cpu_of(program: str) -> float | None:
    """Seconds of CPU time that a fresh interpreter takes for a program; `None` if it fails."""
    command = [sys.executable, "-I", "-c", program]
    out = os.open(os.devnull, os.O_WRONLY)
    try:
        pid = os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)],
        )
        _, status, usage = os.wait4(pid, 0)
    finally:
        os.close(out)
    return usage.ru_utime + usage.ru_stime if status == 0 else None
