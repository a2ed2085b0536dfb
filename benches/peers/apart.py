"""Runs `benches.peers.alone` in a process of its own, and sees to it that none is left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benches.peers.processes import adopt_orphans, descendants, end_new

TIME_LIMIT = 120  # seconds for one library, starting included
STOPPING = 5  # seconds within which what a library has started has to end with it


def run(module: str, rounds: int, time_limit: float = TIME_LIMIT) -> dict[str, Any]:
    """What `alone` found out, or `{"reason": why}` if it could not."""
    try:
        adopt_orphans()
        before = set(descendants(os.getpid()))
    except (OSError, AttributeError) as error:
        return {"reason": f"no way to look after its processes here: {error}"}
    # A folder for everything that it writes: databases, sockets, logs. Its name is short, as a socket's has to be.
    with tempfile.TemporaryDirectory(prefix="cano-", ignore_cleanup_errors=True) as folder:
        out, log = Path(folder, "out.json"), Path(folder, "log")
        command = [sys.executable, "-m", "benches.peers.alone", module, "--out", str(out), "--rounds", str(rounds)]
        # A file and no pipe, which would stay open as long as any process that inherited it.
        with log.open("wb") as stream:
            try:
                code = subprocess.run(
                    [*command, "--spawned", repr(time.monotonic())],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    env={**os.environ, "TMPDIR": folder},
                    timeout=time_limit,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = None
            finally:
                left = end_new(before, STOPPING)
        if left:
            print(f"{module}: {left} processes did not end with it, and were ended", file=sys.stderr)
        if out.exists():
            found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
            return found
        if code is None:
            return {"reason": f"it did not end within {time_limit:g} s"}
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return {"reason": lines[-1] if lines else f"it ended with status {code}"}
