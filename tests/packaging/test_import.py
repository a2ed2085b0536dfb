"""`import cano` stays light: quick, without threads, without anybody else's package."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

BUDGET = 0.030
"""Seconds that `import cano` may add to a bare interpreter."""

PROBE = """
import sys
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


def test_import_time_is_within_its_budget() -> None:
    # In turns, so that a busy minute of the machine hits both; the best of each is what the code itself takes. More
    # turns only while that is over budget: noise goes away, a slow import does not.
    bare: list[float] = []
    full: list[float] = []
    for _turn in range(4):
        for _ in range(10):
            bare.append(seconds("pass"))
            full.append(seconds("import cano"))
        added = min(full) - min(bare)
        if added <= BUDGET:
            break
    assert added <= BUDGET, f"import cano adds {added * 1000:.1f} ms to one that starts in {min(bare) * 1000:.1f} ms"
