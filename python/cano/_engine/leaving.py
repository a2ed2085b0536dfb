"""What the native engine does when the interpreter ends, and in a forked child: `rust/cano-py/src/leaving.rs`.

Registered when cano is imported, before most exit functions of others: Python calls the last one first, so they still find the
engine as it was.
"""

from __future__ import annotations

import atexit
import os
import sys


def leave() -> None:
    """See to it that no other thread is inside native code when the interpreter ends."""
    core = sys.modules.get("cano._core")
    if core is not None:
        core.leave()


def forked() -> None:
    """Forget the threads of the parent: a forked child has none of them."""
    core = sys.modules.get("cano._core")
    if core is not None:
        core.forked()


def register() -> None:
    """Have both called when it is time."""
    if sys.version_info < (3, 14):  # later ones let threads wait that come too late, and do not unwind them
        atexit.register(leave)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=forked)
