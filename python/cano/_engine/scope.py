"""Where a split or an attempt happens: which run, which state, who listens. Shared by both engines."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cano.observe import Dispatcher

_uniform = random.Random().uniform


def unit() -> float:
    """Return the randomness of a jitter, in [-1, 1]."""
    return _uniform(-1.0, 1.0)


class Scope:
    """Facts about the place in a run, for events and errors.

    Attributes:
        state: The state that is being run, `None` outside a workflow.
        introspect: Whether branches are real asyncio tasks.
    """

    __slots__ = ("_began", "_dispatcher", "_now", "_path", "introspect", "state", "wants")

    def __init__(
        self,
        state: Hashable | None = None,
        path: Callable[[], tuple[Any, ...]] = tuple,
        dispatcher: Dispatcher | None = None,
        now: Callable[[], float] | None = None,
        began: float = 0.0,
        introspect: bool = False,
    ) -> None:
        self.state = state
        self.introspect = introspect
        self.wants: frozenset[str] = frozenset() if dispatcher is None else dispatcher.wants
        self._path = path
        self._dispatcher = dispatcher
        self._now = now
        self._began = began

    def path(self) -> tuple[Any, ...]:
        """Return the states entered so far (the last 1,000)."""
        return self._path()

    def emits(self, kind: str) -> bool:
        """Whether anybody listens to this kind of event."""
        return kind in self.wants

    def emit(self, kind: str, **facts: Any) -> None:
        """Tell the observers."""
        dispatcher, now = self._dispatcher, self._now
        if dispatcher is not None and now is not None:
            dispatcher.emit(kind, at=now() - self._began, state=self.state, **facts)

    def unit(self) -> float:
        """Return the randomness of a jitter, in [-1, 1]."""
        return unit()
