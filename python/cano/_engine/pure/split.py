"""The split as a state machine: who may start, and what a completion means.

The mirror of ``rust/cano-engine/src/split.rs``. No clock, no tasks: the driver reports events and does what
the answers say. The machine is the only place that knows the bulkhead, the retry queue, hedging and the
decision; it holds indices and counts, the driver holds the values.

Phases, and the events that are legal in each (all others raise `MachineError` and change nothing)::

    NEW       opening, stop
    OPEN      succeeded, failed, backing_off, retry_due, hedge_due, withdraw, source_ended, sized, deadline, stop
    ASKING    answer, stop
    PROCEEDED, FAILED, STOPPED
              dropped, withdraw, stop

    NEW --opening--> OPEN | ASKING | PROCEEDED | FAILED
    OPEN --a completion, source_ended, sized, deadline--> OPEN | ASKING | PROCEEDED | FAILED
    ASKING --answer--> OPEN | PROCEEDED | FAILED
    any --stop--> STOPPED

``next_start`` and ``next_again`` ask, they are no events: outside OPEN nothing may start and they answer -1.

Of every branch exactly one thing is true, at every moment::

    ok + bad + live + retrying + unstarted == N        while undecided (N: what was drawn, if it is not known)
    ok + bad + cancelled == N                             afterwards
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .error import MachineError
from .join import ASK, FAIL, PROCEED, UNBOUNDED, WAIT, Join, JoinRule

__all__ = ["ASKING", "FAILED", "NEW", "OPEN", "PHASES", "PROCEEDED", "STOPPED", "SplitMachine"]

# Phases; everything from PROCEEDED on is final.
NEW: Final = 0
OPEN: Final = 1
ASKING: Final = 2
PROCEEDED: Final = 3
FAILED: Final = 4
STOPPED: Final = 5
PHASES: Final = ("NEW", "OPEN", "ASKING", "PROCEEDED", "FAILED", "STOPPED")


class SplitMachine:
    """One split of one run.

    Attributes (all to be read only):
        phase: The phase, one of the constants of this module.
        join: The counts and the rule.
        drawn: Branches that came into being so far; the next fresh index.
        live: Branches that hold a permit now.
        retrying: Branches that wait for their next attempt; they hold no permit.
        ok_order, bad_order: Indices of the branches that succeeded and failed, in order of completion.
        timed_out: Whether the deadline decided.
    """

    __slots__ = (
        "_again",
        "_bulkhead",
        "_fresh_end",
        "_hedged",
        "_permits",
        "bad_order",
        "drawn",
        "join",
        "live",
        "ok_order",
        "phase",
        "retrying",
        "timed_out",
    )

    def __init__(
        self, rule: JoinRule, total: int | None = None, bulkhead: int | None = None, hedged: bool = False
    ) -> None:
        """Make a machine in phase NEW.

        Args:
            rule: What decides the split.
            total: The number of branches, ``None`` for a lazy source that cannot say.
            bulkhead: How many branches may be live at once, ``None`` for any number.
            hedged: Whether each branch after the first waits until the one before has failed or is slow.
        """
        self.phase = NEW
        self.join = Join(rule, total)
        self.drawn = 0
        self.live = 0
        self.retrying = 0
        self.ok_order: list[int] = []
        self.bad_order: list[int] = []
        self.timed_out = False
        self._bulkhead = UNBOUNDED if bulkhead is None else bulkhead
        # No permits outside OPEN: one compare says "the bulkhead is full" and "nothing may start any more".
        self._permits = 0
        self._hedged = hedged
        # Fresh indices end here: at N, or with hedging at the next branch whose turn has not come.
        self._fresh_end = 0
        self._again: deque[int] = deque()

    # ---- what may start ----

    def next_again(self) -> int:
        """Return the index of a branch whose retry is due and take a permit for it, or -1.

        To be called before `next_start`: a branch that has begun goes before one that has not.
        """
        if self._again and self.live < self._permits:
            self.live += 1
            self.retrying -= 1
            return self._again.popleft()
        return -1

    def next_start(self) -> int:
        """Return the index of a branch that is to begin and take a permit for it, or -1.

        -1 means that nothing may begin now: no permit is free, a retry goes first, the hedge delay has not
        passed, every branch has begun, or the split is decided.
        """
        index = self.drawn
        if index >= self._fresh_end or self.live >= self._permits or self._again:
            return -1
        self.drawn = index + 1
        self.live += 1
        if self._hedged:
            self._fresh_end = index + 1
        return index

    # ---- events ----

    def opening(self) -> int:
        """Open the split and return the verdict on its numbers alone (a split of nothing is decided here)."""
        if self.phase != NEW:
            raise self._refuse("opening")
        self.phase = OPEN
        self._let_start()
        return self._conclude(self.join.opening())

    def succeeded(self, index: int) -> int:
        """Take in that a live branch has answered; return the verdict."""
        if self.phase != OPEN or not 0 <= index < self.drawn or not self.live:
            raise self._refuse("succeeded", index)
        self.live -= 1
        self.ok_order.append(index)
        # Join.succeeded, written out: this is the hot path.
        join = self.join
        join.ok = ok = join.ok + 1
        if ok < join.ok_bound and ok + join.bad < join.end_bound:
            return WAIT
        return self._conclude(join.verdict())

    def failed(self, index: int) -> int:
        """Take in that a live branch has failed for good; return the verdict.

        With hedging the failure of the newest branch gives the next one its start.
        """
        if self.phase != OPEN or not 0 <= index < self.drawn or not self.live:
            raise self._refuse("failed", index)
        self.live -= 1
        self.bad_order.append(index)
        if self._hedged and index == self.drawn - 1:
            self._let_start()
        return self._conclude(self.join.failed())

    def backing_off(self, index: int) -> None:
        """Take in that a live branch has failed and will be tried again: its permit is free until then."""
        if self.phase != OPEN or not 0 <= index < self.drawn or not self.live:
            raise self._refuse("backing_off", index)
        self.live -= 1
        self.retrying += 1

    def retry_due(self, index: int) -> None:
        """Take in that a branch's back-off is over: it queues for a permit, before those not begun."""
        if self.phase != OPEN or not 0 <= index < self.drawn or self.retrying <= len(self._again):
            raise self._refuse("retry_due", index)
        self._again.append(index)

    def hedge_due(self) -> None:
        """Take in that the newest branch has not answered within the hedge delay: the next one may start."""
        if self.phase != OPEN or not self._hedged:
            raise self._refuse("hedge_due")
        self._let_start()

    def withdraw(self, index: int) -> None:
        """Take back the newest fresh branch: its item does not exist (yet), or came after the decision.

        Legal until the driver has reported anything else about it. In OPEN the index is handed out again.
        """
        if self.phase in (NEW, ASKING) or index != self.drawn - 1 or not self.live:
            raise self._refuse("withdraw", index)
        # The end of the fresh indices is past this one still, also with hedging: it was handed out.
        self.drawn = index
        self.live -= 1

    def source_ended(self) -> int:
        """Take in that the source is exhausted: N is what was drawn. Returns the verdict.

        The driver learns it when it draws for a fresh index; it must `withdraw` that one first.
        """
        if self.phase != OPEN:
            raise self._refuse("source_ended")
        verdict = self.join.source_ended(self.drawn)
        self._fresh_end = self.drawn
        return self._conclude(verdict)

    def sized(self, total: int) -> int:
        """Take in how many branches an undecided split has, before its source is exhausted; return the verdict."""
        if self.phase != OPEN or self.join.total is not None or total < self.drawn:
            raise self._refuse("sized")
        join = self.join
        verdict = join.source_ended(total)
        # Not `_let_start`: with hedging, to learn N is no reason to begin the next branch.
        self._fresh_end = min(self._fresh_end, total)
        # A function is asked after completions, and N alone is none (unless there is nothing to wait for).
        return self._conclude(WAIT if verdict == ASK and total > join.ok + join.bad else verdict)

    def deadline(self) -> int:
        """Take in that the split's time is over; return the verdict, PROCEED or FAIL."""
        if self.phase != OPEN:
            raise self._refuse("deadline")
        self.timed_out = True
        return self._conclude(self.join.deadline())

    def answer(self, verdict: int) -> int:
        """Take in what the user's function answered to ASK; return the verdict.

        WAIT with nothing pending is FAIL. A function that may have stopped the run: look at `phase` first.

        Raises:
            MachineError: Nothing was asked, or the answer is not WAIT, PROCEED or FAIL.
        """
        if self.phase != ASKING:
            raise self._refuse("answer")
        if verdict not in (WAIT, PROCEED, FAIL):
            raise MachineError("answer", f"expected WAIT, PROCEED or FAIL, got {verdict!r}")
        self.phase = OPEN
        return self._conclude(self.join.answer(verdict))

    def stop(self) -> None:
        """End the split without a verdict (the run was cancelled, or the source failed). Legal always."""
        self._close(STOPPED)

    def dropped(self, index: int) -> None:
        """Take in that a branch which was live at the decision has ended. What it brought does not count."""
        if self.phase < PROCEEDED or not 0 <= index < self.drawn or not self.live:
            raise self._refuse("dropped", index)
        self.live -= 1

    # ---- what a driver may look at ----

    @property
    def total(self) -> int | None:
        """N; ``None`` while a lazy source is neither exhausted nor the split over (then: what was drawn)."""
        total = self.join.total
        return self.drawn if total is None and self.phase >= PROCEEDED else total

    @property
    def cancelled(self) -> int:
        """How many branches neither succeeded nor failed; 0 before the split is over."""
        if self.phase < PROCEEDED:
            return 0
        total = self.join.total
        return (self.drawn if total is None else total) - self.join.ok - self.join.bad

    def is_decided(self) -> bool:
        """Return whether the split is over: proceeded, failed or stopped."""
        return self.phase >= PROCEEDED

    def is_settled(self) -> bool:
        """Return whether the split is over and nothing of it is still live, so that the run may move on."""
        return self.phase >= PROCEEDED and not self.live

    def may_start(self) -> bool:
        """Return whether `next_again` or `next_start` would hand out a branch now."""
        return self.live < self._permits and (bool(self._again) or self.drawn < self._fresh_end)

    def has_retries_due(self) -> bool:
        """Return whether branches whose back-off is over wait for a permit."""
        return bool(self._again)

    # ---- inside ----

    def _let_start(self) -> None:
        """Move the end of the fresh indices: by one branch with hedging, to N without."""
        total = self.join.total
        end = UNBOUNDED if total is None else total
        self._fresh_end = min(end, self.drawn + 1) if self._hedged else end

    def _conclude(self, verdict: int) -> int:
        if verdict == PROCEED:
            self._close(PROCEEDED)
        elif verdict == FAIL:
            self._close(FAILED)
        elif verdict == ASK:
            self.phase = ASKING
            self._permits = 0
        elif not self._permits:
            self._permits = self._bulkhead
        return verdict

    def _close(self, phase: int) -> None:
        self.phase = phase
        self._permits = 0
        self.retrying = 0  # nobody waits for a next attempt any more: these are cancelled
        self._again.clear()

    def _refuse(self, event: str, index: int | None = None) -> MachineError:
        branch = "" if index is None else f" of branch {index}"
        return MachineError(
            event,
            f"illegal{branch} in phase {PHASES[self.phase]} with {self.drawn} drawn, {self.live} live and "
            f"{self.retrying} backing off",
        )
