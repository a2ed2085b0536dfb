"""What is alive in a process: counted by type, by reference, in bytes. For programs of their own, see programs.py."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

# Beside the package's own types: what an engine makes for a run, or a run may keep by mistake.
COUNTED = {
    "coroutine",
    "generator",
    "async_generator",
    "Context",
    "frame",
    "traceback",
    "Task",
    "_GatheringFuture",
    "Future",
    "Handle",
    "TimerHandle",
    "CancelledError",
    "TimeoutError",
    "Boom",
    "Thing",
}


class Watch:
    """Weak references to what a run made or was given, by name."""

    def __init__(self) -> None:
        self._refs: list[tuple[str, weakref.ref[Any]]] = []

    def __call__(self, name: str, thing: Any) -> Any:
        self._refs.append((name, weakref.ref(thing)))
        return thing

    def alive(self) -> list[str]:
        return [name for name, ref in self._refs if ref() is not None]

    def __len__(self) -> int:
        return len(self._refs)


def census() -> Counter[str]:
    """How many objects there are of the package's types and of those in `COUNTED`."""
    counts: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        module = kind.__module__
        if kind.__name__ in COUNTED or (isinstance(module, str) and module.split(".")[0] == "cano"):
            counts[f"{module}.{kind.__name__}"] += 1
    return counts


def grown(before: Counter[str], after: Counter[str], by: int = 1) -> dict[str, int]:
    """The types of which there are more now, at least by so many."""
    return {name: count - before[name] for name, count in after.items() if count - before[name] >= by}


def resident() -> int:
    """Bytes of memory the process has in use, as the system sees it; 0 where that is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * 4096


def peak() -> int:
    """The most it ever was, likewise."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def native_heap() -> int:
    """Bytes handed out by the C allocator, exactly: where Rust's objects are. 0 where it cannot tell."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return 0

    class Info(ctypes.Structure):
        _fields_ = [(f"field{n}", ctypes.c_size_t) for n in range(10)]

    ask.restype = Info
    info = ask()
    return int(info.field7 + info.field4)  # in use: in the arenas, and mapped


def references(things: list[Any]) -> list[int]:
    return [sys.getrefcount(thing) for thing in things]
