"""A string that must be found nowhere but in the values that hold it, and everything that cano says, to look for it in."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Put together here, so that the line of source that a traceback shows does not hold it.
CANARY = "-".join(("canary", "4c1f", "bird"))  # noqa: FLY002


class Secret:
    """A value that would tell, however it is shown."""

    def __repr__(self) -> str:
        return f"<Secret {CANARY}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


def secrets() -> list[Any]:
    """The canary in many clothes: what a user may well store, pass or return."""
    return [CANARY, CANARY.encode(), Secret(), [CANARY], {CANARY: CANARY}, (Secret(), 1), {"nested": [Secret()]}]


class Said:
    """Everything that cano says: log lines, errors as people see them, reprs, pictures."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, where: str, text: object) -> None:
        self.texts.append((where, str(text)))

    def error(self, error: BaseException) -> None:
        """An error, its whole chain and its group, as a traceback prints them, and its facts."""
        name = type(error).__name__
        self.add(f"traceback of {name}", "".join(traceback.format_exception(error)))
        for one in walk(error):
            self.add(f"str of {type(one).__name__}", one)
            self.add(f"repr of {type(one).__name__}", repr(one))
            for key, fact in vars(one).items():
                self.add(f"{type(one).__name__}.{key}", repr(fact))

    def told(self) -> list[str]:
        """Where the canary was found."""
        return [f"{where}: {text}" for where, text in self.texts if CANARY in text]


def walk(error: BaseException | None) -> Iterator[BaseException]:
    """An error with its causes, contexts and group members."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


@contextmanager
def listening(said: Said) -> Iterator[None]:
    """Take in every log line of every logger, as a formatter writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s %(args)s"))
    root = logging.getLogger()
    level, cano = root.level, logging.getLogger("cano").level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("cano").setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        logging.getLogger("cano").setLevel(cano)
        for line in stream.getvalue().splitlines():
            said.add("log", line)
