"""The loops a user may have: what must hold on each of them is marked `every_loop`."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any

from cano.testing import VirtualTimeLoop

__all__ = ["any_loop", "now", "waited"]

# uvloop's clock cannot jump, but it can run faster: what is a second of a scenario takes it 10 ms.
FASTER = 100

Factory = Callable[[], asyncio.AbstractEventLoop]


def now() -> float:
    return asyncio.get_running_loop().time()


def waited(began: float, seconds: float) -> bool:
    """Whether so much time has passed: exactly so much in virtual time, no less where it is real."""
    passed = now() - began
    return passed == seconds if isinstance(asyncio.get_running_loop(), VirtualTimeLoop) else passed >= seconds - 0.1


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
        loop_class = _uvloop_class() if real_time else _faster(_uvloop_class())
        factories |= {"uvloop": loop_class, "uvloop-debug": in_debug_mode(loop_class)}
    return factories


def _uvloop_class() -> Any:
    import uvloop

    return uvloop.Loop


def _faster(loop_class: Any) -> Any:
    class FasterLoop(loop_class):  # type: ignore[misc]
        def time(self) -> float:
            return float(super().time()) * FASTER

        def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
            return super().call_later(delay / FASTER, callback, *args, context=context)

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            return self.call_later(when - self.time(), callback, *args, context=context)

    return FasterLoop
