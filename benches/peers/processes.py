"""The processes that a library starts: what they cost, and that none is left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


class TreeClock:
    """Seconds of CPU time of this process and of every process below it, as `time.process_time` has them of one.

    What looking costs is left out. A process that has ended counts what it had when last looked at, so that a clock
    never goes back; what it did since is missing, in favour of who started it.
    """

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._spent_looking = 0.0

    def __call__(self) -> float:
        now = time.process_time()
        own = now - self._spent_looking
        for pid in descendants(os.getpid()):
            try:
                self._seen[pid] = time.clock_gettime(_cpu_clock(pid))
            except OSError:  # it ended meanwhile
                continue
        self._spent_looking += time.process_time() - now
        return own + sum(self._seen.values())


def descendants(of: int) -> list[int]:
    """Every process below one, parents before their children; those that only wait to be reaped are no longer there."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may hold anything, parentheses too.
            state, parent = (
                (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
            )
        except OSError:  # it ended meanwhile
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.name))
    found = list(children.get(of, ()))
    for pid in found:
        found += children.get(pid, ())
    return found


def adopt_orphans() -> None:
    """Become the parent of what a process below leaves behind, so that it can be found, and ended, afterwards."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this system does not hand over orphans (PR_SET_CHILD_SUBREAPER)")


def end_new(before: set[int], patience: float) -> int:
    """End every process below this one that is not in `before`; how many did not end of their own accord in time."""
    deadline = time.monotonic() + patience
    while (left := _new(before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed = len(left)
    # Again and again: one that is ended may just have started another.
    while left:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
        left = _new(before)
    return killed


def _new(before: set[int]) -> list[int]:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    return [pid for pid in descendants(os.getpid()) if pid not in before]


def _cpu_clock(pid: int) -> int:
    # clock_getcpuclockid(3), which Python does not offer: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) in the kernel.
    return (~pid << 3) | 2
