"""How long the event loop is kept from other work, whatever else the machine does."""

from __future__ import annotations

import asyncio
import time


class Probe:
    """Asks the loop for its turn again and again, and notes the longest wait.

    Attributes:
        worst: The longest that the loop was kept, in seconds of this thread's own processor time.
        turns: How often the loop's turn has come.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        self.turns = 0
        self._task: asyncio.Task[None] | None = None

    async def _run(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.worst = max(self.worst, now - before)
            self.turns += 1
            before = now

    async def __aenter__(self) -> Probe:
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        await asyncio.sleep(0)  # the last wait ends here, and is the one in which results are made
        self._task.cancel()
        await asyncio.wait([self._task])
