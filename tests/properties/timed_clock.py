"""Simulated time for the models: nothing waits, and no event loop runs."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

# A loop takes timers that are closer than its clock can tell apart for due at once.
ONE_INSTANT = 5e-9


class TiedError(Exception):
    """Two things fall on one instant by chance, and which comes first nobody promises."""


class Clock:
    """Time that goes from one thing to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.numbers = itertools.count()

    def after(self, delay: float, then: Callable[..., None], *facts: Any) -> None:
        heapq.heappush(self.agenda, (self.now + delay, next(self.numbers), then, facts))

    def advance(self) -> None:
        when, _, then, facts = heapq.heappop(self.agenda)
        if when - self.now < ONE_INSTANT:
            raise TiedError
        self.now = when
        then(*facts)
