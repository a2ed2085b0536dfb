"""A loop whose clock jumps to the next timer when nothing else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from cano._engine.threads import outstanding


class Jump(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        while not ready and outstanding():  # time stands still while a worker thread works
            ready = super().select(0.001)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            return super().select(5)
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = Jump()
        super().__init__(self._jump)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jump.now
