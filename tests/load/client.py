"""Keep-alive connections that ask as fast as they are answered: `python client.py PORT CONNECTIONS SECONDS PHASE PATH...`.

All connections ask for the same path at one time; the paths take turns, a phase of so many seconds each, so that whatever
else the machine does meets all of them. Prints, as JSON: per path how many were answered, the latencies at the 50th and
99th percentile in milliseconds, and what went wrong; and what the server's memory was, again and again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from array import array
from typing import Any

WARM_UP = 0.1  # of the time: not measured
LOOKS = 60  # at the server's memory
# However slow the machine is, it goes on until there is so much to judge by: requests per path and second, and looks.
LEAST = 12
AWAKE = 2.0  # seconds between two looks at most: uvicorn closes a connection that is silent for five


class Load:
    def __init__(self, port: int, connections: int, seconds: float, phase: float, paths: list[str]) -> None:
        self.port = port
        self.connections = connections
        self.paths = paths
        self.phase = phase
        self.began = time.monotonic()
        self.ends = self.began + seconds
        self.measures_from = self.began + WARM_UP * seconds
        self.seconds = seconds
        self.numbers = itertools.count(1)
        self.latencies = {path: array("d") for path in paths}
        self.errors: dict[str, list[str]] = {path: [] for path in paths}
        self.memory: list[tuple[float, int]] = []

    def is_short(self) -> bool:
        """Whether there is too little to judge by yet, and nothing has gone wrong."""
        few = len(self.memory) < LEAST or any(len(found) <= LEAST * self.seconds for found in self.latencies.values())
        return few and not any(self.errors.values())

    async def ask(self, reader: Any, writer: Any, path: str, number: int) -> str:
        writer.write(f"GET {path}?{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = head.split(" ", 2)[1]
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = (await reader.readexactly(length)).decode()
        if status != "200":
            raise ValueError(f"{status}: {body}")
        return str(body)

    async def connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while (began := time.monotonic()) < self.ends or self.is_short():
            path = self.paths[int((began - self.began) / self.phase) % len(self.paths)]
            number = next(self.numbers)
            try:
                body = await self.ask(reader, writer, path, number)
                if body != f"answer {number}":
                    raise ValueError(f"{number} was answered {body}")
            except Exception as error:
                self.errors[path].append(repr(error))
                return
            if began >= self.measures_from:
                self.latencies[path].append(time.monotonic() - began)
        writer.close()
        await writer.wait_closed()

    async def look(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while time.monotonic() < self.ends or self.is_short():
            self.memory.append((time.monotonic() - self.began, int(await self.ask(reader, writer, "/memory", 0))))
            await asyncio.sleep(min(self.seconds / LOOKS, AWAKE))
        writer.close()
        await writer.wait_closed()

    async def run(self) -> dict[str, Any]:
        await asyncio.gather(self.look(), *(self.connection() for _ in range(self.connections)))
        handlers = {}
        for path in self.paths:
            found = sorted(self.latencies[path])
            handlers[path.strip("/")] = {
                "requests": len(found),
                "p50_ms": round(1000 * found[len(found) // 2], 2) if found else None,
                "p99_ms": round(1000 * found[len(found) * 99 // 100], 2) if found else None,
                "errors": len(self.errors[path]),
                "first_errors": self.errors[path][:3],
            }
        return {"handlers": handlers, "memory": self.memory}


if __name__ == "__main__":
    port, connections, seconds, phase, *paths = sys.argv[1:]
    load = Load(int(port), int(connections), float(seconds), float(phase), paths)
    print(json.dumps(asyncio.run(load.run())))
