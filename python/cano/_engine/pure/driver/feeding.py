"""What `feed` (`_engine/feed.py`) needs of a split whose source is asynchronous."""

from __future__ import annotations

import asyncio
from typing import Any

from cano._engine.attempts import ERROR, FATAL
from cano._engine.calls import examine_branch

from .start import Start


class Feeding(Start):
    """Is fed."""

    async def room(self) -> bool:
        """Wait until a fresh branch may start; false when the split is decided."""
        if self._machine.is_decided():
            return False
        if self._has_room():
            return True
        room: asyncio.Future[bool] = self.loop.create_future()
        self._room = room
        return await room

    def _has_room(self) -> bool:
        """Whether a fresh branch may start: retries that are due go first."""
        machine = self._machine
        if not machine.may_start() or machine.has_retries_due():
            return False
        return self._outbox is None or self._outbox.room(machine.retrying)

    def offer(self, item: Any) -> bool:
        """Start a branch on an item drawn by `feed`; false when nothing may start now."""
        index = self._machine.next_start()
        if index < 0:
            return False
        self._fresh(index)
        try:
            call = self.plan.call or examine_branch(item, self.plan)
        except Exception as error:
            self._ended(index, 1, self._entered, ERROR, None, error, None)
        else:
            self._launch(index, call, item)
            self._submit()
        self.end_turn()
        return True

    def known(self, total: int) -> None:
        """The source turned out to have a length."""
        if not self._machine.is_decided():
            self._verdict(self._machine.sized(total))

    def _fed(self, feeder: asyncio.Task[None]) -> None:
        machine = self._machine
        error: BaseException | None
        try:
            error = feeder.exception()
        except asyncio.CancelledError as cancelled:
            if not machine.is_decided():
                self._source_failed(cancelled)
        else:
            if issubclass(type(error), FATAL):
                self._fatal, self._fatal_raised = error, True  # its task has raised it through the loop
            if not machine.is_decided():
                if error is not None:
                    self._source_failed(error)
                else:
                    self._verdict(machine.source_ended())
            elif error is not None and self._fatal is not error:
                self._loser_errors.append((-1, error))
        self.end_turn()
