"""What does a `put` and a `get` cost, beside a dict behind a `threading.Lock`?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from benches.python.harness import Budget, Case
from benches.python.questions.common import NATIVE, PURE

from cano import Workflow


class LockedDict:
    """What one writes by hand where more than one thread has to do with it."""

    __slots__ = ("_lock", "_values")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}

    def put(self, key: str, value: Any) -> None:
        with self._lock:
            self._values[key] = value

    def get(self, key: str) -> Any:
        with self._lock:
            return self._values[key]


def cases(budget: Budget) -> Iterator[Case]:
    n = 20_000 // budget.shrink

    def with_methods(store: Any) -> Any:
        def job() -> None:
            for value in range(n):
                store.put("key", value)
                store.get("key")

        return job

    def bare() -> None:
        lock, values = threading.Lock(), {}
        for value in range(n):
            with lock:
                values["key"] = value
            with lock:
                values["key"]

    contenders = {
        NATIVE: with_methods(Workflow[str](engine="native").store),
        PURE: with_methods(Workflow[str](engine="python").store),
        "dict and Lock in a class": with_methods(LockedDict()),
        "dict and Lock written out": bare,
    }
    yield Case("put and get", n, "pair", contenders)
