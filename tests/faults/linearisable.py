"""Whether a history of operations on one key could have happened one after the other (Wing and Gong; memo as Lowe).

An operation is `(began, ended, name, argument, answer)`. Two of which one ended before the other began have that order;
all others may have happened in either.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Operation(NamedTuple):
    began: int
    ended: int
    name: str
    argument: Any
    answer: Any


ABSENT = "absent"


def apply(state: Any, name: str, argument: Any) -> tuple[Any, Any]:
    """What the key holds after an operation, and what the operation answers."""
    if name == "get":
        return state, state
    if name == "put":
        return argument, None
    if name == "pop":
        return ABSENT, state
    if name == "setdefault":
        return (argument, argument) if state == ABSENT else (state, state)
    if name == "contains":
        return state, state != ABSENT
    assert name == "update"  # of what is there: adds, and answers the sum; of nothing: answers that
    return (ABSENT, ABSENT) if state == ABSENT else (state + argument, state + argument)


def linearisable(history: list[Operation]) -> bool:
    """Whether some order explains every answer."""
    operations = sorted(history)
    everything = (1 << len(operations)) - 1
    seen: set[tuple[int, Any]] = set()
    stack: list[tuple[int, Any]] = [(0, ABSENT)]
    while stack:
        done, state = stack.pop()
        if done == everything:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        # Next may be whatever began before the first of the others ended.
        first_end = None
        for number, operation in enumerate(operations):
            if done >> number & 1:
                continue
            if first_end is not None and operation.began > first_end:
                break
            first_end = operation.ended if first_end is None else min(first_end, operation.ended)
            after, answer = apply(state, operation.name, operation.argument)
            if answer == operation.answer:
                stack.append((done | 1 << number, after))
    return False
