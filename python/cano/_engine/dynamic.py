"""Making the plan of a split: at registration, and at run time for a task that answers `TaskResult.Split`."""

from __future__ import annotations

from typing import Any

from cano.errors import ConfigurationError
from cano.join import JoinConfig
from cano.policy import Retry
from cano.steps import TaskResult

from .calls import check_branch, examine_map, examine_task
from .contract import Call, SplitPlan, TaskPlan
from .keeping import check_store


def examine_source(over: Any, *, with_store: bool = True) -> Call | None:
    """Return how to call a source that is a function; `None` for one that is drawn from as it is."""
    # Asked of its type, as `iter` does: a class whose objects are iterable is a function that returns one.
    kind = type(over)
    if kind is range or kind is list or kind is tuple:  # by far the most
        return None
    if hasattr(kind, "__iter__") or hasattr(kind, "__aiter__"):
        return None
    if isinstance(over, (str, bytes)) or not callable(over):
        raise ConfigurationError(
            f"branches come from an iterable, an async iterable, or a function that returns one, "
            f"but {type(over).__qualname__} came"
        )
    call = examine_task(over, inline=True, what="a source of branches")
    if call.arity and not with_store:
        raise ConfigurationError(
            f"the source {call.name} asks for a store, but there is none outside a workflow; "
            f"bind what it needs with functools.partial"
        )
    return call


def split_over_tasks(
    tasks: Any,
    join: JoinConfig[Any],
    *,
    name: str | None,
    retry: Retry,
    attempt_timeout: float | None,
    inline: bool,
    given: frozenset[str] = frozenset(),
) -> SplitPlan:
    """Return the plan of a split whose branches are tasks; a list of them is checked and copied here."""
    if isinstance(tasks, (str, bytes)):
        raise ConfigurationError(
            f"branches come from an iterable of tasks, an async one, or a function that returns one, "
            f"but {type(tasks).__qualname__} came"
        )
    over_call = examine_source(tasks)
    if over_call is None and isinstance(tasks, (list, tuple, set, frozenset)):
        tasks = tuple(tasks)
        for task in tasks:
            check_branch(task)
    return SplitPlan(None, tasks, over_call, join, name or "split", retry, attempt_timeout, inline, given)


def split_over_data(
    function: Any,
    over: Any,
    join: JoinConfig[Any],
    *,
    name: str | None,
    retry: Retry,
    attempt_timeout: float | None,
    inline: bool,
    with_store: bool = True,
) -> SplitPlan:
    """Return the plan of a split over data: `function` on each item of `over`."""
    call = examine_map(function, inline=inline, name=name, with_store=with_store)
    source = examine_source(over, with_store=with_store)
    return SplitPlan(call, over, source, join, name or call.name, retry, attempt_timeout, inline)


def split_of(result: TaskResult[Any], task: TaskPlan, store: Any) -> SplitPlan:
    """Return the plan of the split a task answered with.

    Its branches have the options of that task's state, where their own tasks say nothing else.

    Raises:
        ConfigurationError: The split can never be joined, what it is to draw from is no source, or its result could not be
            put into the store.
    """
    join = result.join
    assert join is not None
    if join.store_partial_results:
        check_store(store)
    plan = split_over_tasks(
        result.tasks,
        join,
        name=task.name,
        retry=task.retry,
        attempt_timeout=task.attempt_timeout,
        inline=task.inline,
    )
    problems = join.problems(len(plan.over) if isinstance(plan.over, tuple) else None)
    if problems:
        raise ConfigurationError([f"the split that task {task.name} answered with: {p}" for p in problems])
    return plan
