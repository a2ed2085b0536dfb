"""What a timed split comes to, by the contract and in simulated time, written without a look at the engines.

Who begins when, and how often; who is told to stop, when and how many times; what is decided, with which rows, and when the
last branch has ended. What is decided by how many have ended is the table of `model`.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tests.properties.model import fails, proceeds
from tests.properties.timed_clock import Clock

if TYPE_CHECKING:
    from tests.properties.timed_splits import Attempt, TimedSplit


class Running:
    """An attempt that has begun and not ended."""

    def __init__(self, index: int, attempt: Attempt) -> None:
        self.index = index
        self.attempt = attempt
        self.told = 0
        self.cleaning_up = False
        self.step = 0  # an end that was foreseen before the attempt was told is void


class SplitModel:
    """One split. `reached` says what happened that does not happen every time."""

    def __init__(self, split: TimedSplit) -> None:
        self.split = split
        self.clock = Clock()
        self.total = split.total
        self.log: list[tuple[Any, ...]] = []
        self.reached: set[str] = set()
        self.verdict = ""
        self.drawn = 0
        self.attempts: Counter[int] = Counter()
        self.began: dict[int, float] = {}
        self.live: dict[int, Running] = {}
        self.retrying: set[int] = set()  # from an attempt's failure to the next one's begin
        self.due: list[int] = []  # those of them whose delay is over
        self.ok: list[int] = []
        self.bad: list[int] = []
        self.rows: list[tuple[Any, ...]] = []
        self.may_hedge = True  # nobody is ahead of the next branch, or who is has had the delay
        self.drawing = False
        self.in_hand = False  # an async source has given an item for which there was no room any more

    def run(self) -> tuple[Any, ...]:
        split = self.split
        if split.timeout is not None:
            self.clock.after(split.timeout, self.deadline)
        if split.stop is not None:
            self.clock.after(split.stop[1], self.stopped, split.stop[0])
        if split.source == "async function":
            self.clock.after(split.gaps[0], self.counted)
        self.judge()
        self.fill()
        self.at_once()
        while not self.is_over():
            self.clock.advance()
            self.at_once()
        if not self.verdict.startswith("stopped"):
            self.reached.add(f"{split.strategy if split.door != 'as_completed' else split.door}: {self.verdict}")
        self.reached |= {f"{split.door}, {split.source}", f"pauses by {split.pause}"}
        if split.introspect:
            self.reached.add("introspect")
        return self.outcome()

    def at_once(self) -> None:
        """What follows from anything that happens; of a split alone, nothing."""

    def is_over(self) -> bool:
        return bool(self.verdict) and not self.live

    def outcome(self) -> tuple[Any, ...]:
        told = self.verdict, in_order(self.log), self.clock.now
        if self.verdict.startswith("stopped"):
            return told
        total = self.drawn if self.total is None else self.total
        cancelled = sorted(set(range(total)) - {*self.ok, *self.bad})
        return *told, sorted(self.rows), self.ok, self.bad, cancelled, total

    def note(self, index: int, *facts: Any) -> None:
        self.log.append((self.clock.now, index, *facts))

    # --- the source ---

    def counted(self) -> None:
        """All items are there: N is known."""
        self.total = len(self.split.branches)
        self.judge()
        self.fill()

    def given(self) -> None:
        """An async source has given an item, or has ended."""
        self.drawing = False
        if self.drawn == len(self.split.branches):
            self.counted()
        else:
            self.in_hand = True
            self.fill()

    def has_room(self) -> bool:
        """Whether one more may run."""
        full = self.split.bulkhead is not None and len(self.live) >= self.split.bulkhead
        if full:
            self.reached.add("bulkhead is full")
        return not full

    def has_room_for_fresh(self) -> bool:
        """Whether one that has not run yet may."""
        return self.may_hedge

    def fill(self) -> None:
        """Begin all that may begin: first whose retry is due."""
        while not self.verdict and self.has_room():
            if self.due:
                self.begin(self.due.pop(0))
            elif self.in_hand and self.may_hedge:
                self.in_hand = False
                self.begin_fresh()
            elif self.in_hand or self.drawing or self.drawn == self.total or not self.has_room_for_fresh():
                return
            elif self.split.source == "async generator":
                self.drawing = True
                self.clock.after(self.split.gaps[self.drawn], self.given)
            elif self.split.source == "async function" and self.total is None:
                return
            elif self.split.source == "generator" and self.drawn == len(self.split.branches):
                self.total = self.drawn
                self.judge()
            else:
                self.begin_fresh()

    # --- branches ---

    def begin_fresh(self) -> None:
        index = self.drawn
        self.drawn += 1
        self.began[index] = self.clock.now
        if self.split.hedge_delay is not None:
            self.may_hedge = False
            self.clock.after(self.split.hedge_delay, self.hedge, index)
        self.begin(index)

    def hedge(self, index: int) -> None:
        if index == self.drawn - 1 and not self.may_hedge and not self.verdict:
            self.reached.add("hedge after the delay")
            self.may_hedge = True
            self.fill()

    def begin(self, index: int) -> None:
        self.retrying.discard(index)
        branch = self.split.branches[index]
        running = self.live[index] = Running(index, branch.attempts[self.attempts[index]])
        self.attempts[index] += 1
        self.note(index, "begins", self.attempts[index])
        self.ends_after(running.attempt.lasts, running)
        limit = branch.limit if self.split.limit is None else self.split.limit  # who registers has the last word
        if limit is not None:
            self.clock.after(limit, self.expires, running)

    def ends_after(self, delay: float, running: Running) -> None:
        self.clock.after(delay, self.ends, running, running.step)

    def expires(self, running: Running) -> None:
        if self.live.get(running.index) is running and not running.told:
            self.reached.add("own attempt_timeout" if self.split.limit is None else "the split's attempt_timeout")
            self.tell(running)

    def tell(self, running: Running) -> None:
        """Cancel it: it cleans up; or it takes that back, once, and goes on."""
        self.note(running.index, "is told")
        attempt = running.attempt
        running.told += 1
        running.step += 1
        running.cleaning_up = attempt.goes_on is None or running.told > 1
        if attempt.goes_on is not None and not running.cleaning_up:
            self.ends_after(attempt.goes_on, running)
        elif attempt.cleans_up:
            self.ends_after(attempt.cleans_up, running)
        else:
            self.ends(running, running.step)

    def ends(self, running: Running, step: int) -> None:
        index = running.index
        if self.live.get(index) is not running or step != running.step:
            return
        del self.live[index]
        self.note(index, "ends")
        if self.verdict:
            return
        error = None if running.attempt.succeeds else "ValueError"
        if running.cleaning_up:
            error = "AttemptTimeoutError"
        if error is None or not self.will_retry(index):
            self.settled(index, error)
        self.fill()

    def will_retry(self, index: int) -> bool:
        retry = self.split.retry
        if retry is None:
            return False
        if self.attempts[index] > retry.retries:
            self.reached.add("no retry left")
            return False
        delay = retry.delay_before(self.attempts[index])
        if retry.max_elapsed is not None and self.clock.now + delay - self.began[index] > retry.max_elapsed:
            self.reached.add("max_elapsed ends the retries")
            return False
        self.reached.add(f"{retry.kind} retry")
        self.retrying.add(index)
        self.clock.after(delay, self.is_due, index)
        return True

    def is_due(self, index: int) -> None:
        if not self.verdict:
            self.due.append(index)
            self.fill()

    def settled(self, index: int, error: str | None) -> None:
        """A branch has ended for good, undecided as the split is."""
        (self.ok if error is None else self.bad).append(index)
        self.rows.append((index, error, self.attempts[index], self.clock.now - self.began[index]))
        if error is not None and index == self.drawn - 1 and self.split.hedge_delay is not None:
            self.reached.add("hedge after a failure")
            self.may_hedge = True
        self.judge()

    # --- the join ---

    def judge(self) -> None:
        """Ask the table; as long as N is unknown, no number of ends is all of them."""
        if self.verdict:
            return
        split = self.split
        need: Any = {"all": "fail fast" if split.fail_fast else None, "percentage": Fraction(str(split.share))}.get(
            split.strategy, split.need
        )
        facts = split.strategy, need, len(self.ok), len(self.bad), math.inf if self.total is None else self.total
        if proceeds(*facts):
            self.decide("proceeds")
        elif fails(*facts):
            self.decide("fails")

    def deadline(self) -> None:
        if self.verdict:
            return
        self.reached.add("deadline")
        verdict = "times out"
        if self.split.strategy == "partial timeout":
            ended = len(self.ok) + len(self.bad)
            verdict = "proceeds" if ended and len(self.ok) >= self.split.need else "fails"
        self.decide(verdict)

    def stopped(self, who: str) -> None:
        """The run is ended from outside, perhaps while its losers clean up: that changes what comes of it, and not them."""
        self.reached.add(f"stopped by the {who}, {'decided' if self.verdict else 'undecided'}")
        verdict = f"stopped by the {who}"
        if self.verdict:
            self.verdict = verdict
        else:
            self.decide(verdict)

    def decide(self, verdict: str) -> None:
        """Tell who still runs. Who is cleaning up after its own limit has been told, unless it took that back."""
        self.verdict = verdict
        for running in list(self.live.values()):
            if running.cleaning_up:
                self.reached.add("decided while a branch cleans up after its limit")
                continue
            self.reached.add("told again, having taken it back" if running.told else "loser")
            self.tell(running)
        if self.live:
            self.reached.add("losers clean up")
        if self.drawing:
            self.reached.add("decided while the source is asked")
        if self.retrying:
            self.reached.add("decided while a branch waits for its retry")
        self.retrying.clear()
        self.due.clear()


def in_order(log: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """By time and branch: which of two branches that begin or are told at one instant is first is no part of this."""
    return sorted(log, key=lambda entry: entry[:2])
