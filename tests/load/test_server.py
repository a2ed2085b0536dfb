"""A real ASGI server under load: no error, no growth, and latencies beside the same handler written by hand.

`CANO_LOAD_SECONDS` says for how long (in the soak as long as a random test, or 600 s; otherwise 3 s); in the soak with 200
connections, otherwise 40.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.load import figures

uvicorn = pytest.importorskip("uvicorn")

HERE = Path(__file__).parent
SOAK = os.environ.get("CANO_SOAK") == "1"
SECONDS = float(os.environ.get("CANO_LOAD_SECONDS", os.environ.get("CANO_FUZZ_SECONDS", "600") if SOAK else "3"))
CONNECTIONS = 200 if SOAK else 40
TRIES = 3
PATHS = ("/asyncio", "/native", "/python")

pytestmark = [pytest.mark.fault("load"), pytest.mark.timeout(TRIES * (SECONDS + 300))]


def program(name: str, *arguments: object) -> subprocess.Popen[str]:
    root = str(HERE.parents[1])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "faulthandler", str(HERE / name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def flat(samples: list[tuple[float, int]]) -> tuple[float, float]:
    """The memory after warm-up and at the end, in megabytes: medians of a quarter of the looks each."""
    looks = [memory for _, memory in samples]
    early, late = looks[len(looks) // 4 : len(looks) // 2], looks[len(looks) * 3 // 4 :]
    return statistics.median(early) / 1e6, statistics.median(late) / 1e6


def serve() -> dict[str, Any]:
    """What the client tells of a server that it has had under load, and that then ended well."""
    server = program("server.py")
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        phase = min(5.0, SECONDS / 9)
        client = program("client.py", port, CONNECTIONS, SECONDS, phase, *PATHS)
        told, complaint = client.communicate(timeout=SECONDS + 200)
        assert (client.returncode, complaint) == (0, "")
    finally:
        server.send_signal(signal.SIGTERM)
        _, complaint = server.communicate(timeout=60)
    assert (complaint, server.returncode in (0, -signal.SIGTERM)) == ("", True)
    result: dict[str, Any] = json.loads(told)
    for path in PATHS:
        facts = result["handlers"][path.strip("/")]
        assert (facts["errors"], facts.pop("first_errors")) == (0, []), path
        assert facts["requests"] > 10 * SECONDS
    return result


@pytest.mark.skipif(sys.platform == "win32", reason="the server is ended by a signal")
def test_a_server_under_load(request: Any, tried: Any) -> None:
    slow: list[str] = []
    for _ in range(TRIES):
        result = serve()
        handlers = result["handlers"]
        # A queue of requests is as long for each handler; one that takes twice the time would show, and each time.
        allowed = 2 * handlers["asyncio"]["p50_ms"] + 5
        slow = [engine for engine in ("native", "python") if handlers[engine]["p50_ms"] >= allowed]
        if not slow:
            break
    assert slow == [], handlers
    before, after = flat(result["memory"])
    assert after < before * (1.03 if SOAK else 1.1) + 2, f"{before:.1f} MB, then {after:.1f} MB"
    facts = {
        "seconds": SECONDS,
        "connections": CONNECTIONS,
        "uvicorn": uvicorn.__version__,
        "handlers": handlers,
        "memory_mb": [round(before, 1), round(after, 1)],
    }
    figures.put(request.config, "server", facts)
    tried(requests=sum(facts["requests"] for facts in handlers.values()), errors=0)
