"""The seam between the Python API and an engine: what an engine is given, and what it must offer.

The API layer (`workflow`, `fan`) turns what a user wrote into the plain descriptions below, once, when the plan is
made. An engine sees only these: callables already examined (`Call`), states already numbered, numbers already
checked. Both engines implement `Engine`; nothing else of an engine is used by the API.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cano.cancel import CancelToken
    from cano.join import JoinConfig
    from cano.observe import Dispatcher
    from cano.policy import Retry
    from cano.results import SplitResult

    from .outbox import Outbox

# How a callable is invoked (`Call.kind`).
COROUTINE = 0  # calling it gives a coroutine: called in place, stepped on the loop's thread
THREAD = 1  # plain function: runs on a worker thread
INLINE = 2  # plain function the user declared cheap: runs in place

# What it is given (`Call.arity`).
NOTHING = 0
STORE = 1
ITEM = 2
ITEM_STORE = 3

# What a state is (`StatePlan.kind`); the numbers are those of `rust/cano-engine/src/plan.rs`.
EXIT = 0
TASK = 1
SPLIT = 2
MISSING = 3  # named (a join state, a declared transition) but nobody registered it


class Call:
    """A user's callable together with what was found out about it at registration."""

    __slots__ = ("arity", "function", "kind", "name", "own")

    def __init__(self, function: Callable[..., Any], kind: int, arity: int, name: str) -> None:
        self.function = function
        self.kind = kind
        self.arity = arity
        self.name = name
        self.own: tuple[Retry, float | None] | None = None  # a branch's retry and attempt timeout, not its split's

    def __repr__(self) -> str:
        return f"<Call {self.name}>"


class TaskPlan:
    """A state's task: how to call it and under which policy."""

    __slots__ = ("attempt_timeout", "call", "inline", "name", "retry")

    def __init__(
        self, call: Call, name: str, retry: Retry, attempt_timeout: float | None, *, inline: bool = False
    ) -> None:
        self.inline = inline  # of the branches, if the task fans out; its own is in `call`
        self.call = call
        self.name = name
        self.retry = retry
        self.attempt_timeout = attempt_timeout


class SplitPlan:
    """A split: where its branches come from, how each is called, how they are joined.

    `call` is the one function of a split over data (each branch gets an item); without it every item drawn from
    `over` is a task of its own, examined when it is drawn. `over_call` says how to call `over` when it is a
    function of the store. `given` names the options of the split that win over those in the `config` of a branch's task.
    """

    __slots__ = (
        "attempt_timeout",
        "call",
        "given",
        "inline",
        "join",
        "name",
        "over",
        "over_call",
        "retry",
        "spent",
    )

    def __init__(
        self,
        call: Call | None,
        over: Any,
        over_call: Call | None,
        join: JoinConfig[Any],
        name: str,
        retry: Retry,
        attempt_timeout: float | None,
        inline: bool,
        given: frozenset[str] = frozenset(),
    ) -> None:
        self.given = given
        self.call = call
        self.over = over
        self.over_call = over_call
        self.join = join
        self.name = name
        self.retry = retry
        self.attempt_timeout = attempt_timeout
        self.inline = inline
        self.spent = False  # a one-shot iterator has served its run


class StatePlan:
    """One state of a plan."""

    __slots__ = ("kind", "next", "split", "state", "task")

    def __init__(self, state: Hashable, kind: int) -> None:
        self.state = state
        self.kind = kind
        self.task: TaskPlan | None = None
        self.split: SplitPlan | None = None
        self.next: frozenset[int] | None = None  # declared transitions; None: any


class Plan:
    """A checked workflow with its states numbered: what an engine runs."""

    __slots__ = ("compiled", "index_of", "introspect", "keeps", "max_transitions", "name", "states")

    def __init__(self, name: str | None, max_transitions: int | None, introspect: bool) -> None:
        self.name = name
        self.max_transitions = max_transitions
        self.introspect = introspect
        self.keeps = False  # a split of it puts its result into the store
        self.states: list[StatePlan] = []
        self.index_of: dict[Hashable, int] = {}
        self.compiled: Any = None  # an engine's own form of the plan

    def intern(self, state: Hashable) -> int:
        """Return the number of a state, giving it one (kind MISSING) if it has none yet."""
        index = self.index_of.get(state)
        if index is None:
            index = self.index_of[state] = len(self.states)
            self.states.append(StatePlan(state, MISSING))
        return index


class Engine(ABC):
    """What both engines offer to the API layer."""

    name: str

    @abstractmethod
    def new_store(self) -> Any:
        """Return an empty MemoryStore of this engine."""

    @abstractmethod
    def run(
        self,
        plan: Plan,
        initial: int,
        store: Any,
        timeout: float | None,
        cancel: CancelToken | None,
        dispatcher: Dispatcher | None,
    ) -> Awaitable[Any]:
        """Run a plan from a state; awaiting gives the exit state reached."""

    @abstractmethod
    def fan_out(self, split: SplitPlan, outbox: Outbox | None = None) -> Awaitable[SplitResult[Any]]:
        """Run one split without a workflow. With an outbox, results go there, and only the end is awaited."""

    @abstractmethod
    def pause_type(self) -> type[Any]:
        """Return the class of `cano.sleep`'s awaitables: `(delay, result)`, on the timers of the branch's engine."""
