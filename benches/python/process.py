"""What a process can say of its own memory."""

from __future__ import annotations

from pathlib import Path


def resident() -> int:
    """Bytes of this process in memory now."""
    return _status("VmRSS")


def peak() -> int:
    """The most bytes this process has had in memory since `forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Start counting the peak anew. (`getrusage` would not do: a child's peak there begins with its parent's.)"""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
