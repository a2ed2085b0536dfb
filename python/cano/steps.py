"""What users write a workflow from: task results, the optional base classes `Task` and `Node`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from .errors import ConfigurationError
from .join import JoinConfig

S = TypeVar("S")
S2 = TypeVar("S2", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")


class TaskResult(Generic[S]):
    """What a task answers: where the run goes next.

    `TaskResult.Single(state)` moves to a state (returning the bare state means the same);
    `TaskResult.Split(tasks, join)` fans out to tasks chosen at run time and goes on at the join's state.

    Examples:
        >>> from cano import JoinConfig, JoinStrategy, TaskResult, Workflow
        >>> def plan(store):
        ...     checks = [lambda: "frame", lambda: "brakes"]
        ...     return TaskResult.Split(checks, JoinConfig(JoinStrategy.All, "report", store_partial_results=True))
        >>> def report(store):
        ...     print(store["split_results"].outputs())
        ...     return TaskResult.Single("done")
        >>> Workflow().register("plan", plan).register("report", report).add_exit_state("done").run("plan")
        ['frame', 'brakes']
        'done'
    """

    __slots__ = ("join", "state", "tasks")
    __match_args__ = ("state", "tasks", "join")

    state: S
    tasks: Any
    join: JoinConfig[S] | None

    def __init__(self) -> None:
        raise ConfigurationError("TaskResult is made with TaskResult.Single(state) or TaskResult.Split(tasks, join)")

    # Static, with a type of its own: of a class method on the bare class, checkers do not know what S is.
    @staticmethod
    def Single(state: S2) -> TaskResult[S2]:  # noqa: N802 - the contract's names
        """Go on at `state`."""
        result: TaskResult[S2] = object.__new__(TaskResult)
        result.state = state
        result.tasks = None
        result.join = None
        return result

    @staticmethod
    def Split(tasks: Any, join: JoinConfig[S2]) -> TaskResult[S2]:  # noqa: N802
        """Run `tasks` (an iterable, async iterable, or function of the store) as branches joined by `join`.

        Raises:
            ConfigurationError: `join` is no `JoinConfig`, or has no join state.
        """
        if not isinstance(join, JoinConfig):
            raise ConfigurationError(
                f"TaskResult.Split needs a JoinConfig as its second argument, but {type(join).__name__} came; "
                f"try TaskResult.Split(tasks, JoinConfig(JoinStrategy.All, next_state))"
            )
        result: TaskResult[S2] = object.__new__(TaskResult)
        result.state = join.join_state
        result.tasks = tasks
        result.join = join
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskResult):
            return NotImplemented
        return (self.state, self.tasks, self.join) == (other.state, other.tasks, other.join)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if self.join is None:
            return f"TaskResult.Single({self.state!r})"
        return f"TaskResult.Split({type(self.tasks).__name__}, {self.join!r})"


class Task(Generic[S]):
    """Base class for those who like one; any object with `run` is a task just as well.

    Attributes:
        name: what messages, events and pictures call it; `None` means the class's name.
        config: options of `Workflow.register` for this task (`retry`, `attempt_timeout`, `inline`, `next`), or `None`;
            options given at `register` win. A branch of a split has the first three, too; options given at
            `register_split` win, and those of a state whose task answers with `TaskResult.Split` do not. (The `config`
            of a callable object without `run` is its own affair.)
    """

    name: str | None = None
    config: Mapping[str, Any] | None = None

    def run(self, store: Any) -> Any:
        """Do the work and return the next state (or a `TaskResult`). May be `async`."""
        raise NotImplementedError(f"{type(self).__qualname__} must define run(self, store)")

    def __repr__(self) -> str:
        return _shown("Task", self)


class Node(Generic[S, V, R]):
    """A task in three phases: `prep(store)`, `exec(value)`, `post(store, value)`; each may be sync or async.

    Only `prep` and `post` see the store. Under a retry, a failure in any phase repeats the whole cycle, as in the Rust
    original up to 0.11 (where Node was last seen). Sync phases run on a worker thread, like any sync task.

    Examples:
        >>> from cano import Node, Workflow
        >>> class Shout(Node):
        ...     def prep(self, store):
        ...         return store["text"]
        ...     def exec(self, value):
        ...         return value.upper()
        ...     def post(self, store, value):
        ...         store["text"] = value
        ...         return "done"
        >>> workflow = Workflow().register("shout", Shout()).add_exit_state("done")
        >>> workflow.store["text"] = "cano"
        >>> workflow.run("shout"), workflow.store["text"]
        ('done', 'CANO')
    """

    name: str | None = None
    config: Mapping[str, Any] | None = None

    def prep(self, store: Any) -> Any:
        """Read what `exec` needs. The default gives `None`."""
        return None

    def exec(self, value: Any) -> Any:
        """Do the work on what `prep` gave. The default hands the value on."""
        return value

    def post(self, store: Any, value: Any) -> Any:
        """Write what `exec` gave and return the next state."""
        raise NotImplementedError(f"{type(self).__qualname__} must define post(self, store, value)")

    def __repr__(self) -> str:
        return _shown("Node", self)


def _shown(kind: str, task: Task[Any] | Node[Any, Any, Any]) -> str:
    name = type(task).__qualname__.replace("<locals>.", "")
    return f"<{kind} {name}>" if task.name is None else f"<{kind} {name} {task.name!r}>"


def node_run(node: Node[Any, Any, Any], inline: bool) -> Any:
    """Return the function that runs a node's cycle: one sync function if every phase is sync, else an async one."""
    from ._engine.calls import is_coroutine_function
    from ._engine.threads import call_in_thread

    phases = (node.prep, node.exec, node.post)
    is_async = [is_coroutine_function(phase) for phase in phases]

    async def call(which: int, *arguments: Any) -> Any:
        if is_async[which]:
            return await phases[which](*arguments)
        outcome = phases[which](*arguments) if inline else await call_in_thread(phases[which], *arguments)
        return await outcome if hasattr(outcome, "__await__") else outcome

    async def rest(which: int, awaitable: Any, store: Any) -> Any:
        """Go on, on the loop, from a plain phase that has answered with an awaitable."""
        value = await awaitable
        if which == 0:
            value = await call(1, value)
        return await call(2, store, value)

    if not any(is_async):

        def cycle(store: Any) -> Any:
            value = node.prep(store)
            if hasattr(value, "__await__"):
                return rest(0, value, store)
            value = node.exec(value)
            if hasattr(value, "__await__"):
                return rest(1, value, store)
            return node.post(store, value)

        return cycle

    async def async_cycle(store: Any) -> Any:
        return await rest(0, call(0, store), store)

    return async_cycle


def as_states(value: Any) -> Iterable[Any]:
    """Read a `next=` argument: one state, or a list, set or enum class of states (a tuple is one state)."""
    if isinstance(value, type) and hasattr(value, "__members__"):
        return list(value)  # type: ignore[call-overload, no-any-return]
    if isinstance(value, (list, set, frozenset)):
        return value
    return [value]
