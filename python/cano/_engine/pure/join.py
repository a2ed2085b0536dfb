"""When a split is decided: counts of completed branches in, a verdict out.

The mirror of ``rust/cano-engine/src/join.rs``; both files state the same table (docs/concepts/split.md). The
rules are turned into three bounds when the number of branches is known, so that a completion costs an
increment and two compares:

======================  ============  =======================  ===========
strategy                ``ok_bound``  ``bad_bound``            ``end_bound``
======================  ============  =======================  ===========
All                     N             1                        --
All, not ``fail_fast``  N             --                       N
Any                     1             N                        --
Quorum, PartialResults  n             N - n + 1                --
Percentage              need          N - need + 1             --
PartialTimeout          --            --                       N
Custom                  0 (ASK)       0 (ASK)                  --
======================  ============  =======================  ===========

``--`` is a bound that no count reaches. While the number of branches is unknown (a lazy source), every bound
that contains N is such a bound too.
"""

from __future__ import annotations

from math import ceil
from sys import maxsize
from typing import Final

from .error import MachineError

__all__ = [
    "ALL",
    "ANY",
    "ASK",
    "CUSTOM",
    "FAIL",
    "PARTIAL_RESULTS",
    "PARTIAL_TIMEOUT",
    "PERCENTAGE",
    "PROCEED",
    "QUORUM",
    "UNBOUNDED",
    "WAIT",
    "Join",
    "JoinRule",
    "percentage_need",
]

# Strategies. Plain ints: an enum member costs a descriptor call at every look.
ALL: Final = 0
ANY: Final = 1
QUORUM: Final = 2
PERCENTAGE: Final = 3
PARTIAL_RESULTS: Final = 4
PARTIAL_TIMEOUT: Final = 5
CUSTOM: Final = 6

# Verdicts. WAIT is 0, so that a driver may write `if verdict:`.
WAIT: Final = 0
PROCEED: Final = 1
FAIL: Final = 2
ASK: Final = 3
"""Only for ``CUSTOM``: the driver must call the user's function and hand its answer to the machine."""

UNBOUNDED: Final = maxsize
"""A bound that no count reaches."""


class JoinRule:
    """What decides a split, as plain numbers.

    Attributes:
        strategy: One of the strategy constants of this module.
        need: The ``n`` of ``QUORUM`` and ``PARTIAL_RESULTS``; 0 elsewhere.
        share: The share of ``PERCENTAGE``, in (0, 1]; 0.0 elsewhere.
        fail_fast: Whether the first failure decides ``ALL``; the others do not look at it.
        min_successes: What ``PARTIAL_TIMEOUT`` wants at its end; the others do not look at it.
    """

    __slots__ = ("fail_fast", "min_successes", "need", "share", "strategy")

    def __init__(
        self,
        strategy: int,
        *,
        need: int = 0,
        share: float = 0.0,
        fail_fast: bool = True,
        min_successes: int = 0,
    ) -> None:
        """Build a rule; the numbers were checked where the user wrote them."""
        self.strategy = strategy
        self.need = need
        self.share = share
        self.fail_fast = fail_fast
        self.min_successes = min_successes


def percentage_need(share: float, total: int) -> int:
    """Return how many of ``total`` branches must succeed for a share.

    Args:
        share: The share, in (0, 1].
        total: The number of branches.

    Returns:
        The smallest count that is at least ``share * total``. Differences below 1e-9 are rounding of the
        product and ignored: 0.07 of 100 is 7, though ``0.07 * 100`` is a little more.
    """
    return max(0, ceil(share * total - 1e-9))


class Join:
    """Counts the branches of one split and says when they decide it.

    It keeps no phase: asking it again after a decision is the caller's mistake and is not noticed here
    (``SplitMachine`` does).

    Attributes:
        ok: Branches that succeeded.
        bad: Branches that failed for good.
        total: The number of branches, ``None`` until a lazy source is exhausted.
        ok_bound, bad_bound, end_bound: The table of this module; reaching one of them means that `verdict`
            is not WAIT.
    """

    __slots__ = ("bad", "bad_bound", "end_bound", "ok", "ok_bound", "rule", "total")

    def __init__(self, rule: JoinRule, total: int | None) -> None:
        """Start counting.

        Args:
            rule: What decides.
            total: The number of branches, ``None`` for a lazy source that cannot say.
        """
        self.rule = rule
        self.ok = 0
        self.bad = 0
        self.total: int | None = None
        self.ok_bound: int = UNBOUNDED
        self.bad_bound: int = UNBOUNDED
        self.end_bound: int = UNBOUNDED
        self._set_bounds(total)

    def _set_bounds(self, total: int | None) -> None:
        rule = self.rule
        strategy = rule.strategy
        ok_bound = bad_bound = end_bound = UNBOUNDED
        if strategy == ALL:
            if rule.fail_fast:
                bad_bound = 1
            elif total is not None:
                end_bound = total
            if total is not None:
                ok_bound = total
        elif strategy == ANY:
            ok_bound = 1
            if total is not None:
                bad_bound = total
        elif strategy in (QUORUM, PARTIAL_RESULTS):
            ok_bound = rule.need
            if total is not None:
                # More wanted than there are: 0, so that the join fails before a branch has ended.
                bad_bound = max(0, total - rule.need + 1)
        elif strategy == PERCENTAGE:
            if total is not None:
                ok_bound = percentage_need(rule.share, total)
                bad_bound = max(0, total - ok_bound + 1)
        elif strategy == PARTIAL_TIMEOUT:
            if total is not None:
                end_bound = total
        else:
            ok_bound = bad_bound = 0
        self.total = total
        self.ok_bound = ok_bound
        self.bad_bound = bad_bound
        self.end_bound = end_bound

    def verdict(self) -> int:
        """Return the verdict on the counts as they are."""
        if self.rule.strategy == CUSTOM:
            return ASK
        if self.ok >= self.ok_bound:
            return PROCEED
        if self.bad >= self.bad_bound:
            return FAIL
        if self.ok + self.bad >= self.end_bound:
            return self._at_the_end()
        return WAIT

    def _at_the_end(self) -> int:
        """Decide with what has ended: all branches, or for PARTIAL_TIMEOUT those before the deadline."""
        if self.rule.strategy != PARTIAL_TIMEOUT:
            return FAIL  # ALL without fail_fast, and not all of them succeeded
        return PROCEED if self.ok + self.bad > 0 and self.ok >= self.rule.min_successes else FAIL

    def opening(self) -> int:
        """Return the verdict before any branch has started: a split can be decided by its numbers alone."""
        if self.rule.strategy == CUSTOM and self.total != 0:
            return WAIT  # the function is asked after a completion, and there has been none
        return self.verdict()

    def succeeded(self) -> int:
        """Count a success and return the verdict."""
        self.ok += 1
        return self.verdict()

    def failed(self) -> int:
        """Count a final failure and return the verdict."""
        self.bad += 1
        return self.verdict()

    def source_ended(self, total: int) -> int:
        """Take in how many branches there are, now that the lazy source is exhausted, and return the verdict.

        Raises:
            MachineError: ``total`` is less than what has already ended.
        """
        if total < self.ok + self.bad:
            raise MachineError("source_ended", f"{self.ok + self.bad} branches have ended, so there are not {total}")
        self._set_bounds(total)
        return self.verdict()

    def deadline(self) -> int:
        """Return the verdict at the deadline: PARTIAL_TIMEOUT counts, the others have failed."""
        return self._at_the_end()

    def answer(self, verdict: int) -> int:
        """Return what the user's function decided (``CUSTOM``), made FAIL where it waits for nothing."""
        if verdict == WAIT and self.ok + self.bad == self.total:
            return FAIL
        return verdict

    def progress(self) -> tuple[int, int, int | None, int | None]:
        """Return (succeeded, failed, pending, total); the last two are ``None`` while N is not known."""
        total = self.total
        return self.ok, self.bad, None if total is None else total - self.ok - self.bad, total
