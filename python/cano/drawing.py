"""What a picture shows of a workflow: its states, the transitions that are declared, splits and their joins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._engine.failures import describe_state
from .picture import Drawing, DrawnEdge, DrawnState
from .validation import unreachable

if TYPE_CHECKING:
    from .results import RunReport
    from .workflow import Handler


def drawing_of(
    handlers: Mapping[Any, Handler],
    exits: Mapping[Any, None],
    *,
    title: str = "",
    report: RunReport[Any] | None = None,
) -> Drawing:
    """Lay a workflow out as states and edges; it need not be valid, or have any state at all.

    A split is two nodes, the state that fans out and a join that is no state; a task that declared nothing has no
    edges, because nobody knows where it leads. States that are only named (a join state that nobody registered, a
    declared follower) are drawn too, so that what is missing can be seen. A whole enum as declaration means "any of
    them": it leads to those that are registered or exit states.

    Args:
        handlers: What is registered, by state.
        exits: The exit states.
        title: The workflow's name.
        report: The run whose first state is drawn as the beginning. Without one, the beginning is known if every
            transition is declared and exactly one state is reached by none.
    """
    states: list[DrawnState] = []
    edges: list[DrawnEdge] = []
    index_of: dict[Any, int] = {}

    def index(state: Any) -> int:
        if state not in index_of:
            index_of[state] = len(states)
            states.append(DrawnState(describe_state(state), "task", "not registered", state))
        return index_of[state]

    for state, handler in handlers.items():
        index_of[state] = len(states)
        states.append(_drawn(state, handler, state in exits))
    for state in exits:
        if state not in index_of:
            index_of[state] = len(states)
            states.append(DrawnState(describe_state(state), "exit", "", state))
    for state, handler in handlers.items():
        if state in exits:
            continue  # a run ends here before the handler is looked up
        if handler.split is not None:
            join = len(states)
            states.append(DrawnState(_strategy(handler.split.join), "join"))
            edges.append(DrawnEdge(index(state), join, _branches(handler.split)))
            edges.append(DrawnEdge(join, index(handler.split.join.join_state)))
            continue
        edges.extend(
            DrawnEdge(index(state), index(follower))
            for follower in handler.declared or ()
            if not handler.any_of or follower in handlers or follower in exits
        )
    return Drawing(states, edges, _initial(handlers, exits, index_of, report), title)


def _drawn(state: Any, handler: Handler, is_exit: bool) -> DrawnState:
    label = describe_state(state)
    if is_exit:
        return DrawnState(label, "exit", "", state)
    split = handler.split
    kind = "task" if split is None else "split"
    name = (handler.task.name if handler.task is not None else "") if split is None else split.name
    return DrawnState(label, kind, "" if name == label else name, state)


def _strategy(join: Any) -> str:
    return repr(join.strategy).removeprefix("JoinStrategy.")


def _branches(split: Any) -> str:
    if split.over_call is not None or not hasattr(split.over, "__len__"):
        return ""
    count = len(split.over)
    return "1 branch" if count == 1 else f"{count} branches"


def _initial(
    handlers: Mapping[Any, Handler],
    exits: Mapping[Any, None],
    index_of: Mapping[Any, int],
    report: RunReport[Any] | None,
) -> int | None:
    if report is not None:
        return index_of.get(report.path[0]) if report.path else None
    alone = [state for state in unreachable(handlers, exits, ()) if state in handlers]
    return index_of[alone[0]] if len(alone) == 1 else None
