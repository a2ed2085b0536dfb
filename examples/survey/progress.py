"""A line that tells how far a survey is, while it runs."""

import sys
from typing import TextIO

from cano import RunEvent

_EVERY = 0.1
"""Seconds between two lines: more often nobody can read them, and an observer has to be quick."""


class Progress:
    """An observer: the workflow calls the methods it has, on the event loop's thread, as things happen.

    Args:
        out: Where the line goes; a terminal.
    """

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._total = 0
        self._measured = 0
        self._failed = 0
        self._shown_at = -_EVERY  # the first one at once

    def on_split_start(self, event: RunEvent) -> None:
        """Take note of the number of branches; those of the second split are among them."""
        self._total = self._total or event.value or 0

    def on_branch_success(self, event: RunEvent) -> None:
        """Count a file that was measured."""
        self._measured += 1
        self._show(event.at)

    def on_branch_failure(self, event: RunEvent) -> None:
        """Count a file that could not be."""
        self._failed += 1
        self._show(event.at)

    def on_join(self, event: RunEvent) -> None:
        """Make room for what is printed next."""
        self.clear()

    def _show(self, at: float) -> None:
        if at - self._shown_at < _EVERY:
            return
        self._shown_at = at
        done = self._measured + self._failed
        share = done / self._total if self._total else 0.0
        self._out.write(f"\rmeasuring {done:,} of {self._total:,} files ({share:.0%}), {self._failed} failed ")
        self._out.flush()

    def clear(self) -> None:
        """Take the line away."""
        self._out.write("\r\x1b[2K")
        self._out.flush()
