"""`Workflow`: what users build and run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _checks
from ._engine import resolve
from ._engine.calls import examine_task
from ._engine.contract import EXIT, SPLIT, TASK, Plan, TaskPlan
from ._engine.dynamic import split_over_data, split_over_tasks
from ._engine.failures import describe_state, no_handler
from ._engine.keeping import check_store
from .errors import ConfigurationError
from .join import JoinConfig
from .options import UNSET, Options, Unset, declared_by_annotation, optional_text
from .policy import Retry
from .steps import as_states
from .validation import declared_problems, plan_problems, warn_unreachable

if TYPE_CHECKING:
    import typing_extensions

    from .cancel import CancelToken
    from .observe import RunEvent
    from .results import RunReport

    # The default is for `Workflow(store).register(...)`, where nothing tells a checker the state type: without one the
    # whole chain is an error under mypy. `Workflow[State](store)` has it checked. (typing.TypeVar learns it in 3.13.)
    S = typing_extensions.TypeVar("S", bound=Hashable, default=Any)
else:
    S = TypeVar("S", bound=Hashable)
F = TypeVar("F", bound=Callable[..., Any])
Seconds = float | timedelta


class Handler:
    """What is registered for a state, as the user wrote it, already examined."""

    __slots__ = ("any_of", "declared", "split", "task")

    def __init__(self) -> None:
        self.task: TaskPlan | None = None
        self.split: Any = None
        self.declared: tuple[Any, ...] | None = None  # states that may follow; None: nothing was declared
        self.any_of = False  # declared by naming a whole enum


class Workflow(Generic[S]):
    """A workflow: states, a task or a split for each, and the exit states at which a run ends.

    Args:
        store: What tasks share. The caller keeps it and reads results from it. Default: a fresh `MemoryStore`.
        name: What messages and pictures call the workflow.
        engine: `"native"`, `"python"`, or `None`: native where it is available, unless the environment variable
            `CANO_ENGINE` says otherwise.
        max_transitions: How often a run may go from one state to the next, at most. Default: unbounded.
        introspect: Make every branch a real `asyncio.Task` (in `all_tasks()`, in call graphs), at the price of one.

    Raises:
        EngineUnavailableError: The engine asked for is not installed here.
        ConfigurationError: An argument makes no sense; the message says what was expected.

    Every method that changes the workflow also returns it, so calls can be chained or written as statements. One
    workflow runs any number of times, also at once. The idea and the names come from the Rust library Cano.

    Examples:
        >>> from cano import JoinConfig, JoinStrategy, Workflow
        >>> async def check(part, store):
        ...     return f"{part} of {store['what']}"
        >>> def report(store):
        ...     store["report"] = store["split_results"].outputs()
        ...     return "done"
        >>> join = JoinConfig(JoinStrategy.All, "report", store_partial_results=True)
        >>> workflow = Workflow().register_map("check", check, ["frame", "brakes"], join)
        >>> workflow = workflow.register("report", report).add_exit_state("done")
        >>> workflow.store["what"] = "a bicycle"
        >>> workflow.run("check")
        'done'
        >>> workflow.store["report"]
        ['frame of a bicycle', 'brakes of a bicycle']
    """

    def __init__(
        self,
        store: Any = None,
        *,
        name: str | None = None,
        engine: str | None = None,
        max_transitions: int | None = None,
        introspect: bool = False,
    ) -> None:
        self._engine = resolve(engine)
        self._store = self._engine.new_store() if store is None else store
        self._name = optional_text(name, "name")
        self._max_transitions = (
            None if max_transitions is None else _checks.count(max_transitions, "max_transitions", 1)
        )
        self._introspect = _checks.boolean(introspect, "introspect")
        self._handlers: dict[Any, Handler] = {}
        self._exits: dict[Any, None] = {}  # a dict for its order
        self._observers: list[object] = []
        self._version = object()  # another one after each change
        self._plan: Plan | None = None

    # --- building -------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Any:
        """The store that runs share, unless a run is given its own."""
        return self._store

    @property
    def name(self) -> str | None:
        """The workflow's name."""
        return self._name

    @property
    def engine(self) -> str:
        """Which engine runs it: `"native"` or `"python"`."""
        return self._engine.name

    def register(
        self,
        state: S,
        task: Any,
        *,
        retry: Retry | None | Unset = UNSET,
        attempt_timeout: Seconds | None | Unset = UNSET,
        inline: bool | Unset = UNSET,
        name: str | None | Unset = UNSET,
        next: Any = UNSET,
        replace: bool = False,
    ) -> Workflow[S]:
        """Register the task of a state.

        Args:
            state: Any hashable value but `None`.
            task: A callable or an object with `run`; sync or async; it takes nothing or the store, and returns the
                next state or a `TaskResult`.
            retry: When a failed attempt is made again. Default: never.
            attempt_timeout: How long one attempt may take, in seconds.
            inline: Run a sync task in place instead of on a worker thread.
            name: What messages, events and pictures call it.
            next: The states that may follow: one, or a list, set or enum class. Then they are checked, drawn and
                enforced. Default: what the task's return annotation says, if it names states.
            replace: Take the place of what is registered already.

        Returns:
            The workflow itself.

        Raises:
            ConfigurationError: `task` is no task, an option makes no sense, or the state is registered already.
        """
        options = Options.of(task, retry, attempt_timeout, inline, name, next)
        handler = Handler()
        call = examine_task(task, inline=options.inline, name=options.name)
        handler.task = TaskPlan(call, call.name, options.retry, options.attempt_timeout, inline=options.inline)
        handler.declared, handler.any_of = _declared(options.next, task)
        return self._add(state, handler, replace)

    def register_split(
        self,
        state: S,
        tasks: Any,
        join: JoinConfig[S],
        *,
        retry: Retry | None | Unset = UNSET,
        attempt_timeout: Seconds | None | Unset = UNSET,
        inline: bool | Unset = UNSET,
        name: str | None | Unset = UNSET,
        next: Any = UNSET,
        replace: bool = False,
    ) -> Workflow[S]:
        """Register a split: the state fans out to `tasks`, one branch each, and goes on at the join's state.

        Args:
            state: Any hashable value but `None`.
            tasks: An iterable of tasks (a list is copied), an async iterable, or a function of the store (sync or
                async) that returns one. Anything but a list is drawn lazily: a branch beyond the bulkhead does not
                exist yet.
            join: How the branches are joined, and where the run goes then.
            retry, attempt_timeout, inline: As in `register`, for each branch. Where they are not given, a branch has
                what the `config` of its own task says.
            name: What messages, events and pictures call the split.
            next: As in `register`; a split always goes on at its join state, so this can only repeat it.
            replace: Take the place of what is registered already.

        Returns:
            The workflow itself.

        Raises:
            ConfigurationError: As in `register`; also if `join` is no `JoinConfig`.
        """
        options = Options.of(None, retry, attempt_timeout, inline, name, next)
        return self._add_split(
            state,
            split_over_tasks(
                tasks,
                _join(join),
                name=options.name,
                retry=options.retry,
                attempt_timeout=options.attempt_timeout,
                inline=options.inline,
                given=options.given,
            ),
            options,
            replace,
        )

    def register_map(
        self,
        state: S,
        fn: Any,
        over: Any,
        join: JoinConfig[S],
        *,
        retry: Retry | None | Unset = UNSET,
        attempt_timeout: Seconds | None | Unset = UNSET,
        inline: bool | Unset = UNSET,
        name: str | None | Unset = UNSET,
        next: Any = UNSET,
        replace: bool = False,
    ) -> Workflow[S]:
        """Register a split over data: one branch `fn(item)` or `fn(item, store)` for each item of `over`.

        Args:
            state: Any hashable value but `None`.
            fn: A callable or an object with `run`, sync or async. What it returns is the branch's output.
            over: An iterable, an async iterable, or a function of the store (sync or async) that returns one. Items
                are drawn lazily, one when a branch may start.
            join: How the branches are joined, and where the run goes then.
            retry, attempt_timeout, inline, name, next, replace: As in `register_split`.

        Returns:
            The workflow itself.

        Raises:
            ConfigurationError: As in `register_split`.
        """
        options = Options.of(fn, retry, attempt_timeout, inline, name, next)
        return self._add_split(
            state,
            split_over_data(
                fn,
                over,
                _join(join),
                name=options.name,
                retry=options.retry,
                attempt_timeout=options.attempt_timeout,
                inline=options.inline,
            ),
            options,
            replace,
        )

    def state(self, state: S, **options: Any) -> Callable[[F], F]:
        """Register the decorated function as the task of a state: `register`, written as a decorator."""

        def decorate(task: F) -> F:
            self.register(state, task, **options)
            return task

        return decorate

    def split(self, state: S, *, join: JoinConfig[S], over: Any = UNSET, **options: Any) -> Callable[[F], F]:
        """Register a split, written as a decorator.

        With `over` the decorated function is called on each item (`register_map`); without it, it is called with the
        store and gives the tasks (`register_split`).
        """

        def decorate(function: F) -> F:
            if isinstance(over, Unset):
                self.register_split(state, function, join, **options)
            else:
                self.register_map(state, function, over, join, **options)
            return function

        return decorate

    def add_exit_state(self, state: S) -> Workflow[S]:
        """Declare a state at which runs end. It is checked before a handler is looked up."""
        self._exits[_checked_state(state)] = None
        self._has_changed()
        return self

    def add_exit_states(self, states: Iterable[S]) -> Workflow[S]:
        """Declare several exit states."""
        if isinstance(states, str) or not hasattr(states, "__iter__"):
            raise ConfigurationError(
                f"add_exit_states takes an iterable of states, but {type(states).__qualname__} came; "
                f"for one state there is add_exit_state"
            )
        for state in [_checked_state(state) for state in states]:  # all or none
            self.add_exit_state(state)
        return self

    def add_observer(self, observer: object) -> Workflow[S]:
        """Have an observer told of what runs do (see `cano.observe` for the events).

        Args:
            observer: An object with any of the methods `on_workflow_start`, `on_branch_failure`, and so on, each
                called with one `RunEvent` on the loop's thread. It changes nothing, whatever it raises.

        Raises:
            ConfigurationError: It has none of them.
        """
        from .observe import check_observer

        check_observer(observer)
        self._observers.append(observer)
        return self

    def _add_split(self, state: S, split: Any, options: Options, replace: bool) -> Workflow[S]:
        handler = Handler()
        handler.split = split
        if options.name is None:
            split.name = describe_state(state) if split.call is None else split.name
        if isinstance(options.next, Unset):
            handler.declared = (split.join.join_state,)
        else:
            handler.declared, handler.any_of = _declared(options.next, None)
        return self._add(state, handler, replace)

    def _add(self, state: S, handler: Handler, replace: bool) -> Workflow[S]:
        _checked_state(state)
        if replace:
            self._handlers[state] = handler
        elif self._handlers.setdefault(state, handler) is not handler:  # in one go: of two threads one is told
            raise ConfigurationError(
                f"state {describe_state(state)} is registered already; use replace=True to take its place"
            )
        self._has_changed()
        return self

    def _has_changed(self) -> None:
        # In this order: see `_planned`.
        self._version = object()
        self._plan = None

    # --- checking -------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Check the workflow as a whole; runs do it themselves before their first transition.

        Raises:
            ConfigurationError: With every problem at once in `problems`.

        Warns:
            UserWarning: No declared transition reaches a state (only when every handler declares its transitions).
        """
        handlers, exits = self._as_it_is()
        _check(handlers, exits)
        warn_unreachable(handlers, exits, None, stacklevel=3)

    def _as_it_is(self) -> tuple[dict[S, Handler], dict[S, None]]:
        """What is registered at this moment: another thread may register more at the next."""
        return dict(self._handlers), dict(self._exits)

    def _planned(self, initial: Any) -> Plan:
        """Check and plan before the first run, and before the first one after a change."""
        version = self._version
        handlers, exits = self._as_it_is()
        _check(handlers, exits)
        warn_unreachable(handlers, exits, initial, stacklevel=5)
        plan = self._plan = self._make_plan(handlers, exits)
        if self._version is not version:  # changed meanwhile, by another thread: that is for the next run
            self._plan = None
        return plan

    def _make_plan(self, handlers: dict[S, Handler], exits: dict[S, None]) -> Plan:
        plan = Plan(self._name, self._max_transitions, self._introspect)
        for state, handler in handlers.items():
            entry = plan.states[plan.intern(state)]
            entry.task, entry.split = handler.task, handler.split
            if handler.split is not None and handler.split.join.store_partial_results:
                plan.keeps = True
            entry.kind = TASK if handler.task is not None else SPLIT
        for state in exits:
            plan.states[plan.intern(state)].kind = EXIT
        for state, handler in handlers.items():
            if handler.split is not None:
                plan.intern(handler.split.join.join_state)
            if handler.declared is not None:
                declared = frozenset(plan.intern(follower) for follower in handler.declared)
                plan.states[plan.index_of[state]].next = declared
        return plan

    # --- running --------------------------------------------------------------------------------------------------

    async def orchestrate(
        self,
        initial: S,
        *,
        store: Any = None,
        timeout: Seconds | None = None,
        cancel: CancelToken | None = None,
    ) -> S:
        """Run from a state until an exit state is reached.

        Args:
            initial: The state to begin in. If it is an exit state, the run ends there at once.
            store: A store of this run's own. Default: the workflow's.
            timeout: How long the run may take, in seconds.
            cancel: A token that ends the run from anywhere.

        Returns:
            The exit state reached.

        Raises:
            ConfigurationError: The workflow cannot work (see `validate`).
            TaskError, JoinError, SplitTimeoutError, AttemptTimeoutError: A state failed.
            WorkflowError: A task's answer is no state of this workflow, or too many transitions were made.
            WorkflowTimeoutError: `timeout` passed.
            RunCancelledError: `cancel` was set.

        On cancellation every branch is cancelled and awaited before `CancelledError` goes on, its message kept.
        """
        return await self._start(initial, store, timeout, cancel, None)  # type: ignore[no-any-return]

    def run(
        self,
        initial: S,
        *,
        store: Any = None,
        timeout: Seconds | None = None,
        cancel: CancelToken | None = None,
    ) -> S:
        """Run from code that has no event loop: `orchestrate` on a loop of its own.

        Raises:
            ConfigurationError: There is a running event loop in this thread; await `orchestrate` instead.
        """
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise ConfigurationError(
                "run() is for code without an event loop, but one is running in this thread; "
                "write: await workflow.orchestrate(...)"
            )
        return asyncio.run(self.orchestrate(initial, store=store, timeout=timeout, cancel=cancel))

    async def execute(
        self,
        initial: S,
        *,
        store: Any = None,
        timeout: Seconds | None = None,
        cancel: CancelToken | None = None,
    ) -> RunReport[S]:
        """Run like `orchestrate`, and report what happened: the path, the time in each state, every split's result."""
        from .recorder import Recorder

        recorder: Recorder[S] = Recorder()
        state = await self._start(initial, store, timeout, cancel, recorder)
        return recorder.report(state)

    async def stream(
        self,
        initial: S,
        *,
        store: Any = None,
        timeout: Seconds | None = None,
        cancel: CancelToken | None = None,
    ) -> AsyncGenerator[RunEvent, None]:
        """Run, and yield each event as it happens; what the run raises is raised after the last one.

        Leaving the loop early cancels the run and waits until it has ended. (Python calls an abandoned generator's
        clean-up late; `contextlib.aclosing` makes it prompt.)
        """
        from .recorder import EventQueue

        queue = EventQueue(self._start, initial, store, timeout, cancel)
        try:
            while (event := await queue.take()) is not None:
                yield event
        finally:
            await queue.close()

    def _start(
        self,
        initial: S,
        store: Any,
        timeout: Seconds | None,
        cancel: CancelToken | None,
        observer: object | None,
    ) -> Any:
        plan = self._plan
        if plan is None or initial is None:
            plan = self._planned(_checked_state(initial))
        try:
            index = plan.index_of[initial]
        except TypeError:
            _checked_state(initial)
            raise
        except KeyError:
            raise no_handler(initial) from None
        dispatcher = None
        if self._observers or observer is not None:
            dispatcher = self._dispatcher(observer)
        if timeout is not None:
            timeout = _checks.seconds(timeout, "timeout")
        if cancel is not None:
            _check_token(cancel)
        if store is None:
            store = self._store
        if plan.keeps:
            check_store(store)
        return self._engine.run(plan, index, store, timeout, cancel, dispatcher)

    def _dispatcher(self, observer: object | None) -> Any:
        import uuid

        from .observe import Dispatcher

        observers = list(self._observers)
        if observer is not None:
            observers.append(observer)
        return Dispatcher(observers, uuid.uuid4().hex)

    # --- looking at it --------------------------------------------------------------------------------------------

    def to_mermaid(self, report: RunReport[S] | None = None) -> str:
        """Draw the declared states, transitions, splits and joins as a Mermaid flowchart.

        Args:
            report: Colour the path this run took; what it took without a declaration is added, dotted.

        Raises:
            ConfigurationError: `report` is no `RunReport`.
        """
        from .picture import to_mermaid

        return to_mermaid(self._drawing(report), report)

    def to_dot(self, report: RunReport[S] | None = None) -> str:
        """Draw the workflow for Graphviz; otherwise like `to_mermaid`."""
        from .picture import to_dot

        return to_dot(self._drawing(report), report)

    def _repr_html_(self) -> str:
        from .picture import to_html

        return to_html(self._drawing(None))

    def _drawing(self, report: RunReport[S] | None) -> Any:
        from .drawing import drawing_of
        from .results import RunReport

        if report is not None and not isinstance(report, RunReport):
            raise ConfigurationError(
                f"the path taken is drawn from a RunReport, but {type(report).__qualname__} came; "
                f"try report = await workflow.execute(...)"
            )
        return drawing_of(*self._as_it_is(), title=self._name or "", report=report)

    def __repr__(self) -> str:
        name = f" {self._name}" if self._name else ""
        registered, declared = self._as_it_is()
        states = ", ".join(describe_state(state) for state in list(registered)[:5])
        more = f" and {len(registered) - 5} more" if len(registered) > 5 else ""
        exits = ", ".join(describe_state(state) for state in declared) or "none"
        return f"<Workflow{name} on the {self._engine.name} engine; states: {states or 'none'}{more}; exits: {exits}>"


def _check(handlers: dict[Any, Handler], exits: dict[Any, None]) -> None:
    problems = plan_problems(handlers, exits) + declared_problems(handlers, exits)
    if problems:
        raise ConfigurationError(problems)


def _checked_state(state: Any) -> Any:
    if state is None:
        raise ConfigurationError("None is no state; a state is any other hashable value, usually an enum member")
    try:
        hash(state)
    except TypeError:
        raise ConfigurationError(
            f"a state must be hashable, but {type(state).__qualname__} came; use an enum member, a string or a tuple"
        ) from None
    return state


def _join(join: Any) -> JoinConfig[Any]:
    if not isinstance(join, JoinConfig):
        raise ConfigurationError(
            f"a split needs a JoinConfig, but {type(join).__qualname__} came; "
            f"try JoinConfig(JoinStrategy.All, next_state)"
        )
    return join


def _declared(declared: Any, task: Any) -> tuple[tuple[Any, ...] | None, bool]:
    if isinstance(declared, Unset):
        return declared_by_annotation(task)
    if declared is None:
        return None, False
    states = tuple(_checked_state(state) for state in as_states(declared))
    return states, isinstance(declared, type) and hasattr(declared, "__members__")


def _check_token(cancel: Any) -> None:
    from .cancel import CancelToken

    if not isinstance(cancel, CancelToken):
        raise ConfigurationError(f"cancel must be a CancelToken, but {type(cancel).__qualname__} came")
