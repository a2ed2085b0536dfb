"""The loops a user may have: what must hold on each of them is marked `every_loop`."""

from __future__ import annotations

import asyncio
import bisect
import importlib.util
from collections.abc import Callable
from typing import Any

from cano.testing import VirtualTimeLoop

__all__ = ["any_loop", "now"]

Factory = Callable[[], asyncio.AbstractEventLoop]


def now() -> float:
    return asyncio.get_running_loop().time()


def in_debug_mode(loop_class: Any) -> Factory:
    """A factory of loops that stay in debug mode, whatever a runner sets."""

    class DebugLoop(loop_class):  # type: ignore[misc]
        def set_debug(self, enabled: bool) -> None:
            super().set_debug(True)

    def make() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = DebugLoop()
        loop.set_debug(True)
        loop.slow_callback_duration = 60  # a machine that is busy is no finding
        return loop

    return make


def any_loop(*, real_time: bool) -> dict[str, Factory]:
    """Each loop, in debug mode and out of it. Without uvloop, where it is not to be had, there are half as many."""
    plain: Any = asyncio.SelectorEventLoop if real_time else VirtualTimeLoop
    name = "asyncio" if real_time else "virtual"
    factories: dict[str, Factory] = {name: plain, f"{name}-debug": in_debug_mode(plain)}
    if importlib.util.find_spec("uvloop") is not None:
        loop_class = _uvloop_class() if real_time else _virtual(_uvloop_class())
        factories |= {"uvloop": loop_class, "uvloop-debug": in_debug_mode(loop_class)}
    return factories


def _uvloop_class() -> Any:
    import uvloop

    return uvloop.Loop


def _virtual(loop_class: Any) -> Any:
    """The loop with a clock that jumps to the next timer when a turn has passed in which nobody asked for another."""

    class VirtualLoop(loop_class):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._now = 0.0
            self._timers: list[asyncio.TimerHandle] = []
            self._asked = 0  # how often the loop was asked for a turn
            self._looks = False

        def time(self) -> float:
            return self._now

        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
            self._asked += 1
            return super().call_soon(callback, *args, context=context)

        def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
            return self.call_at(self._now + delay, callback, *args, context=context)

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            bisect.insort_right(self._timers, timer, key=asyncio.TimerHandle.when)
            if not self._looks:
                self._looks = True
                super().call_soon(self._look, self._asked)
            return timer

        def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
            self._timers = [other for other in self._timers if other is not timer]

        def _look(self, asked: int) -> None:
            if self._timers and asked == self._asked:
                self._now = max(self._now, self._timers[0].when())
                while self._timers and self._timers[0].when() <= self._now:
                    super().call_soon(self._timers.pop(0)._run)  # type: ignore[attr-defined]
            self._looks = bool(self._timers)
            if self._looks:
                super().call_soon(self._look, self._asked)

    return VirtualLoop
