"""When a failed attempt is made again (the mirror of ``rust/cano-engine/src/policy.rs``).

Pure: time and randomness are handed in, so that a decision can be repeated exactly.
"""

from __future__ import annotations

from typing import Final

__all__ = ["EXPONENTIAL", "FIXED", "NEVER", "NO_RETRY", "RetryPolicy"]

# Kinds of back-off.
NEVER: Final = 0
FIXED: Final = 1
EXPONENTIAL: Final = 2


class RetryPolicy:
    """How often a task is tried again, and how long to wait before.

    Attributes:
        kind: ``NEVER``, ``FIXED`` or ``EXPONENTIAL``.
        retries: Attempts after the first one.
        base: The delay before the first retry, in seconds (``FIXED``: before each).
        factor: What the delay is multiplied by from retry to retry.
        max_delay: No delay is longer than this, in seconds.
        jitter: The share of the delay that chance adds or takes away, in [0, 1].
        max_elapsed: Seconds since the first attempt began after which no attempt may start, or ``None``.
    """

    __slots__ = ("base", "factor", "jitter", "kind", "max_delay", "max_elapsed", "retries")

    def __init__(
        self,
        kind: int,
        *,
        retries: int = 0,
        base: float = 0.0,
        factor: float = 1.0,
        max_delay: float = 0.0,
        jitter: float = 0.0,
        max_elapsed: float | None = None,
    ) -> None:
        """Build a policy; the numbers were checked where the user wrote them."""
        self.kind = kind
        self.retries = retries
        self.base = base
        self.factor = factor
        self.max_delay = max_delay
        self.jitter = jitter
        self.max_elapsed = max_elapsed

    @classmethod
    def fixed(cls, retries: int, delay: float, max_elapsed: float | None = None) -> RetryPolicy:
        """Return a policy that waits ``delay`` seconds before each of ``retries`` retries."""
        return cls(FIXED, retries=retries, base=delay, max_elapsed=max_elapsed)

    @classmethod
    def exponential(
        cls,
        retries: int,
        *,
        base: float,
        factor: float,
        max_delay: float,
        jitter: float,
        max_elapsed: float | None = None,
    ) -> RetryPolicy:
        """Return a policy whose delays grow from ``base`` to ``max_delay`` seconds, with jitter."""
        return cls(
            EXPONENTIAL,
            retries=retries,
            base=base,
            factor=factor,
            max_delay=max_delay,
            jitter=jitter,
            max_elapsed=max_elapsed,
        )

    def delay(self, failed_attempts: int, elapsed: float, unit: float) -> float | None:
        """Return how long to wait before the next attempt.

        Args:
            failed_attempts: How many attempts have failed so far (1 before the first retry).
            elapsed: Seconds since the first attempt began.
            unit: The caller's randomness, in [-1, 1]; 0 means no jitter.

        Returns:
            Seconds, or ``None`` when no attempt is left: the retries are used up, or the next attempt would
            begin later than ``max_elapsed``.
        """
        if failed_attempts > self.retries or self.kind == NEVER:
            return None
        delay = self.base if self.kind == FIXED else self._exponential(failed_attempts - 1, unit)
        if self.max_elapsed is not None and elapsed + delay > self.max_elapsed:
            return None
        return delay

    def _exponential(self, retry: int, unit: float) -> float:
        base = self.base
        if base <= 0.0:
            return 0.0  # before the power: 0 times an overflow is no number
        try:
            grown = base * self.factor**retry
        except OverflowError:
            grown = self.max_delay
        delay = min(grown, self.max_delay) * (1.0 + self.jitter * unit)
        return min(max(delay, 0.0), self.max_delay)


NO_RETRY: Final = RetryPolicy(NEVER)
"""The policy that never tries again; one object for all, it has no state."""
