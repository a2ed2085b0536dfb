"""The run as a state machine over an interned plan.

The mirror of ``rust/cano-engine/src/machine.rs`` and ``plan.rs``. States are small ints, the indices of the
plan. An event goes in, one action comes out; what belongs to the action is in the machine's attributes,
because a tuple per transition would cost more than the transition.

Phases, and the events that are legal in each (all others raise `MachineError` and change nothing)::

    NEW         begin, stop
    RUNNING     finished, failed, fan_out, stop
    SPLITTING   joined, join_failed, stop
    BACKING_OFF retry_due, stop
    DONE        --

An exit state is looked for before a handler is, the initial state included.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from .error import MachineError
from .policy import NO_RETRY, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

__all__ = [
    "BACKING_OFF",
    "BACK_OFF",
    "DONE",
    "EXIT",
    "FAIL",
    "FAILED_JOIN",
    "FAILED_NO_HANDLER",
    "FAILED_STOPPED",
    "FAILED_TASK",
    "FAILED_TOO_MANY_TRANSITIONS",
    "FAILED_UNDECLARED",
    "KIND_EXIT",
    "KIND_MISSING",
    "KIND_SPLIT",
    "KIND_TASK",
    "NEW",
    "PATH_LIMIT",
    "PHASES",
    "RUNNING",
    "SPLIT",
    "SPLITTING",
    "TASK",
    "Plan",
    "RunMachine",
    "StatePlan",
]

# Kinds of states.
KIND_EXIT: Final = 0
KIND_TASK: Final = 1
KIND_SPLIT: Final = 2
KIND_MISSING: Final = 3
"""A state that is named somewhere and registered nowhere."""

# Actions.
EXIT: Final = 0
TASK: Final = 1
SPLIT: Final = 2
BACK_OFF: Final = 3
FAIL: Final = 4

# Phases.
NEW: Final = 0
RUNNING: Final = 1
SPLITTING: Final = 2
BACKING_OFF: Final = 3
DONE: Final = 4
PHASES: Final = ("NEW", "RUNNING", "SPLITTING", "BACKING_OFF", "DONE")

# Failures.
FAILED_NO_HANDLER: Final = 1
FAILED_TOO_MANY_TRANSITIONS: Final = 2
FAILED_UNDECLARED: Final = 3
FAILED_TASK: Final = 4
FAILED_JOIN: Final = 5
FAILED_STOPPED: Final = 6

PATH_LIMIT: Final = 1000
"""How many of the last states a run remembers for its errors."""


class StatePlan:
    """What the machine knows about one state.

    Attributes:
        kind: ``KIND_EXIT``, ``KIND_TASK``, ``KIND_SPLIT`` or ``KIND_MISSING``.
        next: The states that may follow, ``None`` where nothing is declared.
        join_state: Where a registered split goes on, -1 elsewhere.
        retry: The policy of the state's task. The retries of a split belong to its branches.
    """

    __slots__ = ("join_state", "kind", "next", "retry")

    def __init__(
        self,
        kind: int,
        *,
        next: Container[int] | None = None,
        join_state: int = -1,
        retry: RetryPolicy = NO_RETRY,
    ) -> None:
        """Build the plan of a state."""
        self.kind = kind
        self.next = next
        self.join_state = join_state
        self.retry = retry


class Plan:
    """The checked, interned form of a workflow; shared by its runs and never changed.

    Attributes:
        states: What is known of each state; a state is its index here.
        max_transitions: How often a run may go from one state to another, ``None`` for any number.
    """

    __slots__ = ("max_transitions", "states")

    def __init__(self, states: Sequence[StatePlan], max_transitions: int | None = None) -> None:
        """Build a plan."""
        self.states = states
        self.max_transitions = max_transitions


class RunMachine:
    """One run of a plan.

    Attributes (all to be read only):
        phase: The phase, one of the constants of this module.
        state: The state the last action is about; with ``FAILED_UNDECLARED`` the state that was left.
        next_state: With ``FAILED_UNDECLARED`` and ``FAILED_TOO_MANY_TRANSITIONS`` the state that was refused,
            else -1.
        attempt: Which attempt of the state's task runs or comes next, from 1.
        delay: With ``BACK_OFF``: seconds until then.
        failure: With ``FAIL``: why, one of the ``FAILED_`` constants; else 0.
        transitions: How often the run has gone from one state to another.
        path: The last `PATH_LIMIT` states entered, oldest first.
    """

    __slots__ = (
        "_join_state",
        "_left",
        "_states",
        "attempt",
        "delay",
        "failure",
        "next_state",
        "path",
        "phase",
        "plan",
        "state",
        "transitions",
    )

    def __init__(self, plan: Plan) -> None:
        """Make a run of ``plan`` that has not begun."""
        self.plan = plan
        self._states = plan.states
        self.phase = NEW
        self.state = -1
        self.next_state = -1
        self.attempt = 0
        self.delay = 0.0
        self.failure = 0
        self.transitions = 0
        # -1 never becomes 0 by counting down: no limit.
        self._left = -1 if plan.max_transitions is None else plan.max_transitions
        self._join_state = -1
        self.path: deque[int] = deque(maxlen=PATH_LIMIT)

    def begin(self, initial: int) -> int:
        """Enter the initial state; return the action: ``EXIT``, ``TASK``, ``SPLIT`` or ``FAIL``."""
        if self.phase != NEW:
            raise self._refuse("begin")
        self._check_state("begin", initial)
        return self._enter(initial)

    def finished(self, next_state: int) -> int:
        """Take in that the state's task has answered with the next state; return the action."""
        if self.phase != RUNNING:
            raise self._refuse("finished")
        self._check_state("finished", next_state)
        return self._advance(next_state)

    def failed(self, retryable: bool, elapsed: float, unit: float) -> int:
        """Take in that an attempt of the state's task has failed; return ``BACK_OFF`` or ``FAIL``.

        Args:
            retryable: Whether this failure may be tried again at all.
            elapsed: Seconds since the first attempt began.
            unit: Randomness for the jitter, in [-1, 1].
        """
        if self.phase != RUNNING:
            raise self._refuse("failed")
        delay = self._states[self.state].retry.delay(self.attempt, elapsed, unit) if retryable else None
        if delay is None:
            return self._fail(FAILED_TASK)
        self.phase = BACKING_OFF
        self.attempt += 1
        self.delay = delay
        return BACK_OFF

    def retry_due(self) -> int:
        """Take in that the back-off is over; return ``TASK``."""
        if self.phase != BACKING_OFF:
            raise self._refuse("retry_due")
        self.phase = RUNNING
        return TASK

    def fan_out(self, join_state: int) -> int:
        """Take in that the state's task has answered with a split; return ``SPLIT``."""
        if self.phase != RUNNING:
            raise self._refuse("fan_out")
        self._check_state("fan_out", join_state)
        self.phase = SPLITTING
        self._join_state = join_state
        return SPLIT

    def joined(self) -> int:
        """Take in that the split proceeds; return the action of its join state."""
        if self.phase != SPLITTING:
            raise self._refuse("joined")
        return self._advance(self._join_state)

    def join_failed(self) -> int:
        """Take in that the split has failed; return ``FAIL``: a join is not retried, its branches were."""
        if self.phase != SPLITTING:
            raise self._refuse("join_failed")
        return self._fail(FAILED_JOIN)

    def stop(self) -> int:
        """End the run from outside (cancelled, timed out, an error nobody may retry); return ``FAIL``."""
        if self.phase == DONE:
            raise self._refuse("stop")
        return self._fail(FAILED_STOPPED)

    def _advance(self, next_state: int) -> int:
        declared = self._states[self.state].next
        if declared is not None and next_state not in declared:
            self.next_state = next_state
            return self._fail(FAILED_UNDECLARED)
        if not self._left:
            self.next_state = next_state
            return self._fail(FAILED_TOO_MANY_TRANSITIONS)
        self._left -= 1
        self.transitions += 1
        return self._enter(next_state)

    def _enter(self, state: int) -> int:
        self.state = state
        self.path.append(state)
        plan = self._states[state]
        kind = plan.kind
        if kind == KIND_TASK:
            self.phase = RUNNING
            self.attempt = 1
            return TASK
        self.attempt = 0
        if kind == KIND_EXIT:
            self.phase = DONE
            return EXIT
        if kind == KIND_SPLIT:
            self.phase = SPLITTING
            self._join_state = plan.join_state
            return SPLIT
        return self._fail(FAILED_NO_HANDLER)

    def _fail(self, failure: int) -> int:
        self.phase = DONE
        self.failure = failure
        return FAIL

    def _check_state(self, event: str, state: int) -> None:
        if not 0 <= state < len(self._states):
            raise MachineError(event, f"expected a state of the plan, 0 to {len(self._states) - 1}, got {state}")

    def _refuse(self, event: str) -> MachineError:
        return MachineError(event, f"illegal in phase {PHASES[self.phase]} at state {self.state}")
