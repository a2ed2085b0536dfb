"""A library as `benches.peers.alone` is given one: what it starts, and how it ends, is told by CANO_FAKE."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager

from benches.peers import jobs as j

PACKAGE, NAME = None, "fake"
LEFT_OUT = {j.ANY: "it never does"}
HOW = os.environ["CANO_FAKE"]
BURNT = 0.05  # seconds of CPU time that a helper takes for each job
HELPER = f"""
import sys, time
for _ in sys.stdin:
    end = time.process_time() + {BURNT}
    while time.process_time() < end:
        pass
    print(flush=True)
"""


def start() -> subprocess.Popen[bytes]:
    # A daemon: nobody's child, in a session of its own, and not interested in anything.
    daemon = "trap '' TERM HUP; sleep 600 >/dev/null 2>&1 &"
    subprocess.run(["/bin/sh", "-c", daemon], start_new_session=True, check=True)
    return subprocess.Popen([sys.executable, "-c", HELPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@asynccontextmanager
async def session():
    if HOW == "missing":
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401
    if HOW == "refuses":
        raise RuntimeError("it does not want to")
    helper = start()
    calls = 0

    async def returns() -> int:
        nonlocal calls
        calls += 1
        if HOW == "dies later" and calls > 3:
            os._exit(1)
        if HOW == "hangs":
            await asyncio.Event().wait()
        helper.stdin.write(b"\n")
        helper.stdin.flush()
        helper.stdout.readline()
        return j.EXPECTED[j.FAN_OUT]

    async def wrong() -> int:
        return -1

    async def waits() -> int:
        return j.EXPECTED[j.FAN_OUT_WAIT]

    yield {j.FAN_OUT: waits, j.FAN_OUT_WAIT: returns} if HOW == "dies later" else {j.FAN_OUT: returns, j.SYNC: wrong}
    helper.stdin.close()
    helper.wait()
    helper.stdout.close()
