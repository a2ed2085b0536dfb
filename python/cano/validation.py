"""What is wrong with a workflow as a whole: every problem at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ._engine.failures import describe_state

if TYPE_CHECKING:
    from .workflow import Handler


def plan_problems(handlers: Mapping[Any, Handler], exits: Mapping[Any, None]) -> list[str]:
    """Return what no run could do: nothing registered, no way to end, joins that lead nowhere or cannot be met."""
    problems: list[str] = []
    if not handlers:
        problems.append("no handler: no state has a task or a split; register(state, task) at least one")
    if not exits:
        problems.append("no exit state, so no run could end; add_exit_state(state)")
    for state, handler in handlers.items():
        split = handler.split
        if split is None:
            continue
        name = f"split {split.name} of state {describe_state(state)}"
        join_state = split.join.join_state
        if join_state not in handlers and join_state not in exits:
            problems.append(
                f"{name} joins at {describe_state(join_state)}, which is neither registered nor an exit state"
            )
        total = len(split.over) if split.over_call is None and hasattr(split.over, "__len__") else None
        problems.extend(f"{name}: {problem}" for problem in split.join.problems(total))
    return problems


def declared_problems(handlers: Mapping[Any, Handler], exits: Mapping[Any, None]) -> list[str]:
    """Return the declared transitions that lead nowhere. A whole enum means "any", so its other members may be bare."""
    problems: list[str] = []
    for state, handler in handlers.items():
        declared = handler.declared or ()
        if handler.split is not None:
            join_state = handler.split.join.join_state
            if handler.declared is not None and join_state not in declared:
                problems.append(
                    f"split {handler.split.name} of state {describe_state(state)} joins at "
                    f"{describe_state(join_state)}, which its next= does not name"
                )
            continue
        if handler.any_of:
            continue
        problems.extend(
            f"state {describe_state(state)} declares a transition to {describe_state(follower)}, "
            f"which has no handler and is no exit state"
            for follower in declared
            if follower not in handlers and follower not in exits
        )
    return problems


def unreachable(handlers: Mapping[Any, Handler], exits: Mapping[Any, None], begin: Iterable[Any]) -> list[Any]:
    """Return the states no declared transition leads to, when every handler declares where it leads; else none."""
    reached: set[Any] = set()
    for state, handler in handlers.items():
        if handler.declared is None:
            return []
        if state not in exits:
            reached.update(follower for follower in handler.declared)
    known = set(begin)
    return [state for state in (*handlers, *exits) if state not in reached and state not in known]


def warn_unreachable(
    handlers: Mapping[Any, Handler], exits: Mapping[Any, None], initial: Any, *, stacklevel: int
) -> None:
    """Warn of states that no declared transition reaches; never of the initial state.

    Args:
        handlers: What is registered, by state.
        exits: The exit states.
        initial: The state the run begins with; `None` when `validate()` is called outside a run. Then a single
            unreached state may be the initial one, and nothing is said of it.
        stacklevel: How far up the user's own line is.
    """
    lost = list(dict.fromkeys(unreachable(handlers, exits, () if initial is None else (initial,))))
    if len(lost) <= (initial is None):
        return
    names = ", ".join(describe_state(state) for state in lost)
    if initial is None:
        message = f"no declared transition reaches these states, and a run can begin in only one of them: {names}"
    else:
        message = f"no declared transition reaches: {names}"
    warnings.warn(message, UserWarning, stacklevel=stacklevel)
