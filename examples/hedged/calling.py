"""Calling the server, with and without hedging: two splits, one inside the other."""

import statistics
from dataclasses import dataclass

import aiohttp

from cano import JoinStrategy, fan_out

TIMEOUT = 5.0
"""Seconds that a call may take; nothing here comes near it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a series of calls took.

    Args:
        p50: Half of the calls were answered within so many seconds; 95 and 99 of 100 within `p95` and `p99`.
        calls: How many calls were made.
        requests: How many requests the server saw for them.
    """

    p50: float
    p95: float
    p99: float
    calls: int
    requests: int

    @property
    def extra(self) -> float:
        """How many more requests than calls there were, as a share of the calls."""
        return self.requests / self.calls - 1


class Client:
    """Calls the server through one `aiohttp` session.

    Args:
        session: The session; its owner closes it.
        url: Where the server is.
        calls: How many calls a series has.
        at_once: How many of them are under way at once.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, calls: int, at_once: int) -> None:
        self._session = session
        self._url = url
        self._calls = calls
        self._at_once = at_once

    async def plain(self, _number: int = 0) -> str:
        """Make one call: one request, and whatever time it takes."""
        async with self._session.get(f"{self._url}/answer") as response:
            response.raise_for_status()
            return await response.text()

    async def hedged(self, hedge_delay: float) -> str:
        """Make one call: if the first request is not answered within `hedge_delay`, send a second one beside it.

        The first answer wins. The other request is cancelled, which closes its connection, and has ended before this
        returns: nothing is left running behind the caller's back.
        """
        split = await fan_out(self.plain, (1, 2), strategy=JoinStrategy.Any, hedge_delay=hedge_delay, timeout=TIMEOUT)
        return split.outputs()[0]

    async def series(self, hedge_delay: float | None = None) -> Figures:
        """Make a series of calls, and measure them."""

        async def call(number: int) -> str:
            return await (self.plain(number) if hedge_delay is None else self.hedged(hedge_delay))

        before = await self._count()
        # Every call is a branch. With a bulkhead the next one exists when one of those before it has ended.
        split = await fan_out(call, range(self._calls), bulkhead=self._at_once, attempt_timeout=TIMEOUT)
        requests = await self._count() - before

        # A branch's duration is the time from its start to its end: waiting for the bulkhead is not in it.
        percentiles = statistics.quantiles((row.duration for row in split.successes), n=100, method="inclusive")
        return Figures(percentiles[49], percentiles[94], percentiles[98], self._calls, requests)

    async def _count(self) -> int:
        async with self._session.get(f"{self._url}/count") as response:
            return int(await response.text())
