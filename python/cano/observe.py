"""Events: what a run tells its observers.

| kind | when | `value` | `error` |
|---|---|---|---|
| `workflow_start` | a run begins | the initial state | |
| `workflow_end` | a run ended; always the last event | the exit state, or `None` | what the run raised |
| `state_enter` | a state is entered, exit states included | | |
| `state_exit` | a state is left | seconds spent in it | what ended it, if it failed |
| `task_start` | an attempt of a state's task begins | | |
| `task_success` | it returned | the next state | |
| `task_failure` | it failed, and no retry is left | | the last attempt's exception |
| `retry` | an attempt failed, another follows | the delay in seconds | the failed attempt's exception |
| `split_start` | a split is entered | N, or `None` while a lazy source hides it | |
| `branch_start` | an attempt of a branch begins | | |
| `branch_success` | a branch ended with a result | the branch's output | |
| `branch_failure` | a branch failed after its retries | | its last exception |
| `branch_cancelled` | a live branch was cancelled (not one in back-off, nor one never started) | | |
| `join` | a split is decided and its losers have ended | the `SplitResult` | what the join raises |
| `timeout` | an attempt, a split or the run passed its limit | the limit in seconds | |
| `cancelled` | the run is cancelled | the reason or message, or `None` | |

Observers are called on the thread of the run's event loop, one after the other, in the order they were added,
so they have to be quick. They never change a run: whatever an observer raises is caught, be it an `Exception`
or not, and logged once per observer and run on the logger `cano`, with the class of the error and the line it
came from but without its text, which may quote a value. `KeyboardInterrupt` and `SystemExit` alone go
through, as from any code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeAlias, final

from ._checks import is_async
from ._frozen import Frozen, fill
from ._naming import type_name
from .errors import ConfigurationError

__all__ = ["KINDS", "Dispatcher", "RunEvent", "check_observer"]

KINDS: Final[tuple[str, ...]] = (
    "workflow_start",
    "workflow_end",
    "state_enter",
    "state_exit",
    "task_start",
    "task_success",
    "task_failure",
    "retry",
    "split_start",
    "branch_start",
    "branch_success",
    "branch_failure",
    "branch_cancelled",
    "join",
    "timeout",
    "cancelled",
)
"""Every kind of event; an observer's method is named `on_` and the kind."""


@final
class RunEvent(Frozen):
    """One thing that happened in a run. Fields that do not apply are `None`.

    Args:
        kind: What happened: the observer's method without `on_`.
        run_id: Which run; the same in all its events, and different from any other run in this process.
        state: The state the run was in.
        task: The name of the task or split.
        branch: The index of the branch.
        attempt: The number of the attempt, 1 for the first.
        at: Seconds since the run began.
        value: What the table at the head of this module says.
        error: What was raised.
    """

    __slots__ = ("at", "attempt", "branch", "error", "kind", "run_id", "state", "task", "value")
    __match_args__ = ("kind", "run_id", "state", "task", "branch", "attempt", "at", "value", "error")

    kind: str
    run_id: str
    state: Any
    task: str | None
    branch: int | None
    attempt: int | None
    at: float
    value: Any
    error: BaseException | None

    def __init__(
        self,
        kind: str,
        run_id: str,
        state: Any = None,
        task: str | None = None,
        branch: int | None = None,
        attempt: int | None = None,
        at: float = 0.0,
        value: Any = None,
        error: BaseException | None = None,
    ) -> None:
        fill(self, "kind", kind)
        fill(self, "run_id", run_id)
        fill(self, "state", state)
        fill(self, "task", task)
        fill(self, "branch", branch)
        fill(self, "attempt", attempt)
        fill(self, "at", at)
        fill(self, "value", value)
        fill(self, "error", error)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return cls.__match_args__

    def __repr__(self) -> str:
        # Without value: an output may be huge, or nothing that belongs into a log.
        parts = [f"{self.at:.6f} s", self.kind]
        for name in ("state", "task", "branch", "attempt"):
            fact = getattr(self, name)
            if fact is not None:
                parts.append(f"{name}={fact}")
        if self.error is not None:
            parts.append(f"error={type_name(type(self.error))}")
        return f"<RunEvent {' '.join(parts)}>"


Handler: TypeAlias = Callable[[RunEvent], object]


def check_observer(observer: object) -> None:
    """Check what is given to `Workflow.add_observer`.

    Raises:
        ConfigurationError: It has no `on_…` method that is ever called, one has a misspelt name, or
            one is an `async def`.
    """
    shown = type_name(observer) if isinstance(observer, type) else type_name(type(observer))
    if isinstance(observer, type):
        raise ConfigurationError(f"an observer is an object, not a class; add {shown}() instead of {shown}")
    found = False
    problems: list[str] = []
    for kind in KINDS:
        method = getattr(observer, f"on_{kind}", None)
        if method is None:
            continue
        found = True
        if not callable(method):
            problems.append(f"{shown}.on_{kind} must be a method; got {type_name(type(method))}")
        elif is_async(method):
            problems.append(
                f"{shown}.on_{kind} must be a plain method; got an async one. "
                "Observers are called in place: hand the event to a queue, and await elsewhere"
            )
    for name in dir(type(observer)):
        if name.startswith("on_") and name[3:] not in KINDS:
            close = _closest(name[3:])
            if close is not None:
                problems.append(f"{shown}.{name} is never called; did you mean on_{close}?")
    if not found and not problems:
        methods = ", ".join(f"on_{kind}" for kind in KINDS)
        problems.append(f"an observer needs at least one of these methods, and {shown} has none: {methods}")
    if problems:
        raise ConfigurationError(problems)


def _closest(name: str) -> str | None:
    import difflib

    close = difflib.get_close_matches(name, KINDS, 1, 0.8)
    return close[0] if close else None


class Dispatcher:
    """Calls the observers of one run.

    Args:
        observers: Checked observers, in the order they are to be called; read once, so adding or removing one
            does not change a run that has begun.
        run_id: What goes into every event.
    """

    __slots__ = ("_handlers", "_logged", "run_id", "wants")

    wants: frozenset[str]
    """The kinds that anybody handles. An engine asks here before it computes anything for an event."""

    def __init__(self, observers: Iterable[object], run_id: str) -> None:
        self.run_id = run_id
        self._logged: set[int] = set()
        handlers: dict[str, list[Handler]] = {}
        for observer in observers:
            for kind in KINDS:
                method = getattr(observer, f"on_{kind}", None)
                if method is not None:
                    handlers.setdefault(kind, []).append(method)
        self._handlers = handlers
        self.wants = frozenset(handlers)

    def emit(
        self,
        kind: str,
        *,
        at: float,
        state: Any = None,
        task: str | None = None,
        branch: int | None = None,
        attempt: int | None = None,
        value: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """Tell everybody who wants to know.

        Raises:
            KeyboardInterrupt: An observer raised it; so with `SystemExit`. Nothing else comes out of here.
        """
        handlers = self._handlers.get(kind)
        if handlers is None:
            return
        event = RunEvent(kind, self.run_id, state, task, branch, attempt, at, value, error)
        for handler in handlers:
            try:
                answer = handler(event)
                if answer is not None and hasattr(answer, "__await__"):
                    self._awaitable(kind, handler, answer)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as raised:  # noqa: BLE001
                self._report(kind, handler, f"raised {type_name(type(raised))}{_place(raised)}")

    def _awaitable(self, kind: str, handler: Handler, answer: Any) -> None:
        close = getattr(answer, "close", None)
        if close is not None:
            close()  # or Python warns that it was never awaited
        self._report(kind, handler, "returned an awaitable, which is not awaited")

    def _report(self, kind: str, handler: Handler, what: str) -> None:
        """Log a misbehaving observer, once in this run."""
        owner = getattr(handler, "__self__", handler)
        if id(owner) in self._logged:
            return
        self._logged.add(id(owner))
        import logging

        with suppress(Exception):  # a log handler that raises is no reason to change the run either
            logging.getLogger("cano").warning(
                "observer %s.on_%s %s; the run goes on, and further errors of this observer are not logged",
                type_name(type(owner)),
                kind,
                what,
            )


def _place(error: BaseException) -> str:
    """The line an error came from."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
