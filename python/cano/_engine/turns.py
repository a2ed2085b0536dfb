"""A consumer that always finds something ready leaves the loop to others now and then, as the engines do."""

from __future__ import annotations

import asyncio

# How long a consumer goes on before others have their turn, in seconds: a time slice of the engines.
SLICE = 0.002
# After so many it looks at the clock, which costs as much as taking one; and gives way after so many looks, whatever the
# clock says: it may stand still.
LOOK = 32
LOOKS = 64


class Turns:
    """Counts what is taken without waiting in between; used on the loop's thread only."""

    __slots__ = ("_loop", "_since", "_taken")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._since = 0.0
        self._taken = 0

    def begin(self) -> None:
        """The consumer has waited: everybody had their turn."""
        self._taken = 0

    def is_over(self) -> bool:
        """Count one more that is about to be taken; whether the loop should have its turn before."""
        taken = self._taken
        self._taken = taken + 1
        if taken % LOOK:
            return False
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        if not taken:
            self._since = now
        elif now >= self._since + SLICE or taken == LOOK * LOOKS:
            self._taken = 0
            return True
        return False
