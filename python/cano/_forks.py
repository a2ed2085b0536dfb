"""What a forked child can use, locks and modules: it has none of the threads that would have left or finished them."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from contextlib import suppress
from typing import Any

# What cano imports at first use, somewhere in a run. Another thread may be half-way through one of them when a process
# forks, and the child would wait for ever for it to go on.
IMPORTED_LATER = (
    "asyncio.base_tasks",
    "cano._engine.alarm",
    "cano._engine.attempts",
    "cano._engine.calls",
    "cano._engine.drain",
    "cano._engine.dynamic",
    "cano._engine.failures",
    "cano._engine.feed",
    "cano._engine.keeping",
    "cano._engine.losers",
    "cano._engine.native",
    "cano._engine.outbox",
    "cano._engine.pure.branch",
    "cano._engine.pure.driver",
    "cano._engine.pure.join",
    "cano._engine.pure.run",
    "cano._engine.scope",
    "cano._engine.threads",
    "cano._engine.turns",
    "cano._svg",
    "cano.cancel",
    "cano.drawing",
    "cano.errors",
    "cano.observe",
    "cano.options",
    "cano.picture",
    "cano.recorder",
    "cano.results",
    "cano.steps",
    "cano.store",
    "difflib",
    "inspect",
    "logging",
    "pickle",
    "types",
    "typing",
    "unicodedata",
    "uuid",
)

_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()


def new_lock() -> threading.RLock:
    """Make a re-entrant lock that is free in a forked child, unless the thread that forked holds it."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _free() -> None:
    for each in list(_locks):
        lock: Any = each
        if not lock._is_owned():
            lock._at_fork_reinit()


def _finish_imports() -> None:
    """Import what is imported later: whoever is at it has finished when that returns."""
    if threading.active_count() == 1:  # nobody else is at it
        return
    for name in IMPORTED_LATER:
        with suppress(Exception):  # there is no native engine, say
            importlib.import_module(name)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_finish_imports, after_in_child=_free)
