"""An ASGI server whose handler asks two slow backends, the second only when the first is late: `python server.py`.

The same handler three times: `/native` and `/python` run a workflow with a hedged split, `/asyncio` is what one would write
by hand. `/memory` answers with the bytes the process has in use. The first line on standard output is the port.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from tests.leaks.census import resident

from cano import JoinConfig, JoinStrategy, MemoryStore, Workflow

HEDGE = 0.005
FAST = 0.001
SLOW = 0.03


class S(enum.Enum):
    PREPARE = "prepare"
    ASK = "ask"
    ANSWER = "answer"
    DONE = "done"


async def backend(number: int, request: int) -> str:
    """Answers at once, mostly: every tenth request finds the first one busy."""
    await asyncio.sleep(SLOW if number == 0 and request % 10 == 0 else FAST)
    return f"answer {request}"


def hedged(engine: str) -> Callable[[int], Awaitable[str]]:
    async def prepare(store: MemoryStore) -> S:
        store.put("asked", store.get("request", int))
        return S.ASK

    async def ask(number: int, store: MemoryStore) -> str:
        return await backend(number, store.get("asked", int))

    async def answer(store: MemoryStore) -> S:
        (text,) = store.get("split_results").outputs()
        store.put("answer", text)
        return S.DONE

    join = JoinConfig(JoinStrategy.Any, S.ANSWER, hedge_delay=HEDGE, timeout=30, store_partial_results=True)
    workflow: Workflow[S] = Workflow(engine=engine)
    workflow.register(S.PREPARE, prepare).register_map(S.ASK, ask, (0, 1), join)
    workflow.register(S.ANSWER, answer).add_exit_state(S.DONE)

    async def handle(request: int) -> str:
        store = MemoryStore()
        store.put("request", request)
        await workflow.orchestrate(S.PREPARE, store=store)
        return store.get("answer", str)

    return handle


async def by_hand(request: int) -> str:
    async with asyncio.timeout(30):
        first = asyncio.create_task(backend(0, request))
        done, _ = await asyncio.wait({first}, timeout=HEDGE)
        if not done:
            second = asyncio.create_task(backend(1, request))
            done, pending = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return done.pop().result()


async def memory(_: int) -> str:
    return str(resident())


HANDLERS = {"/asyncio": by_hand, "/native": hedged("native"), "/python": hedged("python"), "/memory": memory}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = (await HANDLERS[scope["path"]](int(scope["query_string"] or 0))).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)  # the test fails for a line on standard error
    listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", ws="none", http="h11", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])
