"""What a forked child can use, locks and modules: it has none of the threads that would have left or finished them."""

from __future__ import annotations

import importlib
import logging
import os
import sys
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

PATIENCE = 1.0
"""Seconds that a fork waits for others' imports."""

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
    """Import what is imported later: whoever is at it has finished when that returns.

    Not in the thread that forks: it may hold what an import needs, by another's hook that ran before this one. Then the fork
    is late, and the child has its chance, as it had before.
    """
    if threading.active_count() == 1 or all(map(_is_imported, IMPORTED_LATER)):  # nobody is at it
        return
    with suppress(RuntimeError):  # no thread can be started
        importer = threading.Thread(target=_import_all, name="cano-imports", daemon=True)
        importer.start()
        importer.join(PATIENCE)


def _is_imported(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def _import_all() -> None:
    for name in IMPORTED_LATER:
        with suppress(Exception):  # there is no native engine, say
            importlib.import_module(name)


# Its hook takes its lock, which imports need. Registered before ours, it runs after it.
_REGISTERED_BEFORE = logging


def register() -> None:
    """Have every fork wait for imports; called once."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_finish_imports)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)
