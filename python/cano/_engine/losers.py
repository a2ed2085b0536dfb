"""What the log says of cancelled branches: those that raised instead, and those that go on running."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from .scope import Scope

# After this many seconds a branch that has not ended since its cancellation is named in a warning.
LOSER_PATIENCE = 5.0


def _place(scope: Scope, name: str) -> str:
    from .failures import describe_state

    return f"split {name}" if scope.state is None else f"split {name} of state {describe_state(scope.state)}"


def report_losers(scope: Scope, name: str, errors: list[tuple[int, BaseException]]) -> None:
    """Log, in one line, which branches raised when the split was decided without them.

    Only types are named, never a message of the user's.
    """
    import logging

    kinds = Counter(type(error).__qualname__ for _, error in errors)
    told = ", ".join(f"{kind} x{count}" if count > 1 else kind for kind, count in kinds.items())
    branches = [index for index, _ in errors if index >= 0]
    logging.getLogger("cano").warning(
        "%s: %d raised after the decision, which changes nothing: %s%s",
        _place(scope, name),
        len(errors),
        told,
        f" (branches {_indices(branches)})" if branches else "",
    )


def not_cancelled(loop: asyncio.AbstractEventLoop, name: str, error: BaseException) -> None:
    """Tell a loop's exception handler that what a loser waits for raised when it was cancelled."""
    loop.call_exception_handler({"message": f"a loser of split {name} could not be cancelled", "exception": error})


def warn_of_losers(scope: Scope, name: str, live: list[Any]) -> None:
    """Log that branches go on running after their cancellation; the run waits for them."""
    import logging

    logging.getLogger("cano").warning(
        "%s: branches %s go on running %g s after they were cancelled; the run waits for them to end",
        _place(scope, name),
        _indices(live),
        LOSER_PATIENCE,
    )


def _indices(indices: list[Any]) -> str:
    shown = ", ".join(str(index) for index in sorted(indices)[:10])
    return f"{shown} and {len(indices) - 10} more" if len(indices) > 10 else shown
