"""`import cano` stays light: quick, without threads, without anybody else's package."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

STANDARD = (
    "collections.abc", "contextlib", "contextvars", "datetime", "enum", "functools", "heapq", "itertools", "math", "operator",
    "queue", "threading", "types", "typing", "weakref",
)  # fmt: skip
"""What of the standard library cano may need at once. All else that it imports is counted as its own."""

ALLOWED = 0.75
"""How much `import cano` may add, as a share of what an interpreter takes that imports only these: here it is under a half.

A share, since both are the same kind of work: a machine that is slow or busy takes longer for both.
"""

PROBE = """
import sys

import pytest
before = set(sys.modules)
import cano
loaded = sorted(set(sys.modules) - before)
import json, threading
print(json.dumps({
    "roots": sorted({name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)),
    "loaded": loaded,
    "threads": [thread.name for thread in threading.enumerate()],
    "tasks": len(__import__("os").listdir("/proc/self/task")) if sys.platform == "linux" else 1,
}))
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter of this environment, apart from the variables of this one."""
    return subprocess.run([sys.executable, "-I", *arguments], check=True, capture_output=True, text=True)


def seconds(code: str) -> float:
    """The processor time of a process that runs the code: what other processes do meanwhile hardly shows in it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python("-c", code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_import_loads_and_starts_nothing_else() -> None:
    found = json.loads(python("-W", "error", "-c", PROBE).stdout)

    assert found["roots"] == ["cano"]
    assert found["threads"] == ["MainThread"]
    assert found["tasks"] == 1
    # The event loop is what costs most, and a program may never need it.
    assert not [
        name for name in found["loaded"] if name.split(".")[0] in {"asyncio", "ssl", "socket", "multiprocessing"}
    ]


@pytest.mark.timeout(600)
def test_import_time_is_within_its_budget() -> None:
    # In turns, so that a busy minute of the machine hits both; the best of each is what the code itself takes. More
    # turns only while that is over budget: noise goes away, a slow import does not.
    without: list[float] = []
    full: list[float] = []
    for _turn in range(5):
        for _ in range(10):
            without.append(seconds(f"import {', '.join(STANDARD)}"))
            full.append(seconds("import cano"))
        added = min(full) / min(without) - 1
        if added <= ALLOWED:
            break
    assert added <= ALLOWED, f"import cano adds {added:.0%} to the {min(without) * 1000:.1f} ms of what it needs"
