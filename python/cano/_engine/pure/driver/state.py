"""What a split's driver knows, and the few questions to it that every floor asks."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from cano._engine.attempts import TaskAttempt, ThreadAttempt
from cano._engine.contract import Call, SplitPlan
from cano._engine.feed import Source
from cano._engine.pure.branch import Branch
from cano._engine.pure.policy import RetryPolicy
from cano._engine.pure.rules import retry_policy
from cano._engine.pure.split import SplitMachine
from cano._engine.pure.timers import Timer, Timers
from cano._engine.scope import Scope
from cano.policy import Retry

if TYPE_CHECKING:
    from cano._engine.outbox import Outbox

Attempt = Branch | ThreadAttempt | TaskAttempt


class Own(NamedTuple):
    """The options of a branch that has others than its split, from its task's `config`."""

    retry: Retry
    policy: RetryPolicy
    attempt_timeout: float | None


class State:
    """The state of one split of one run."""

    def __init__(
        self,
        plan: SplitPlan,
        store: Any,
        scope: Scope,
        outbox: Outbox | None = None,
    ) -> None:
        self.plan = plan
        self.loop = loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = loop.time
        self.timers = Timers(loop, self.end_turn)
        self.batch: list[Branch] = []  # yielded bare in this turn
        self._backlog: deque[Branch] = deque()  # yielded bare before, and not resumed within a slice
        self._slice_end = 0.0  # of the branches that are resumed in this turn of the loop
        self._slice_due = False  # something is scheduled that begins the next one
        self._store = store
        self._scope = scope
        self._join = plan.join
        self._retry = retry_policy(plan.retry)
        self._own: dict[int, Own] = {}  # of branches that have other options than the split
        self._entered = self.now()
        self._snapshot = contextvars.copy_context()
        self._real_tasks = scope.introspect or loop.get_task_factory() is not None
        self._outbox = outbox
        self._source = Source()
        self._feeder: asyncio.Task[None] | None = None
        self._room: asyncio.Future[bool] | None = None
        self._machine: SplitMachine
        self._opened = False
        self.released = False  # all that lives is a loser: it has been told, or is told at its next step
        self._losers: deque[Attempt] | None = None  # those that have not been told
        self._looks: deque[Attempt] = deque()  # to be looked at: something may have been lost
        self._looks_again = False  # afterwards, all of them
        # Attempts that are suspended or on a thread, by branch index: the strong references that keep them alive.
        self._live: dict[int, Attempt] = {}
        self._items: dict[int, tuple[Call, Any]] = {}  # of branches that back off or wait for a permit again
        self._attempts: dict[int, int] = {}  # only of branches that needed more than one
        self._begun: dict[int, float] = {}  # likewise
        self._values: list[Any] = []
        self._errors: dict[int, BaseException] = {}
        self._durations: list[float] = []
        self._pumping = False
        self._pump_scheduled = False
        self._jobs: list[Callable[[], None]] = []
        self._landed: deque[ThreadAttempt] = deque()
        self._landing = False
        self._hedge: Timer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._cancelled: asyncio.CancelledError | None = None
        self._fatal: BaseException | None = None
        self._fatal_raised = False
        self._failure: BaseException | None = None
        self._timed_out = False
        self._loser_errors: list[tuple[int, BaseException]] = []
        self._closed = False

    if TYPE_CHECKING:  # of floors above, for the attempts: they are made below those

        def end_turn(self) -> None: ...
        def landed(self, attempt: ThreadAttempt) -> Callable[[], None] | None: ...
        def look_again(self) -> None: ...
        def turns_are_due(self) -> bool: ...
        def _look_once_more(self) -> None: ...

    def _limit_of(self, index: int) -> float | None:
        """How long an attempt of a branch may take."""
        own = self._own.get(index)
        return self.plan.attempt_timeout if own is None else own.attempt_timeout

    def _settled(self) -> bool:
        return self._machine.is_decided() and not self._live and (self._feeder is None or self._feeder.done())

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done() and self._settled():
            waiter.set_result(None)

    def raises_fatal(self) -> bool:
        """Whether a KeyboardInterrupt or SystemExit of a branch must leave through the loop now, as from a Task.

        Not while the start loop is in the run's own stack: there the run itself raises it, after clean-up.
        """
        if self._pumping:
            return False
        self._fatal_raised = True
        return True

    def cancel_timer(self, timer: Timer) -> None:
        """Forget a timer."""
        self.timers.cancel(timer)
