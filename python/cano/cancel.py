"""Cancelling a run from anywhere: another thread, a signal handler, a request that went away."""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, final

from ._forks import new_lock
from ._naming import shorten, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CancelToken"]

# One for all tokens: nobody holds it for more than a few instructions. Re-entrant, because the collector may run code of the
# user's, a finaliser's, while a thread is inside.
_lock = new_lock()


@final
class CancelToken:
    """A switch that ends every run it was given to: `workflow.orchestrate(state, cancel=token)`.

    Setting it cancels each run's branches, waits for their clean-up, and lets the run raise
    `RunCancelledError`. It is set once and stays set; a run that is given a set token ends before its first
    state. All methods work from any thread.

    Examples:
        >>> from cano import CancelToken
        >>> service = CancelToken()
        >>> request = service.child()
        >>> service.cancel("closing")
        True
        >>> request.cancelled, request.reason
        (True, 'closing')
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_cancelled",
        "_children",
        "_keys",
        "_parent",
        "_reason",
    )

    def __init__(self) -> None:
        self._cancelled = False
        self._reason: str | None = None
        self._keys = itertools.count()
        self._callbacks: dict[int, Callable[[], object]] = {}
        # A child keeps its parent, not the other way round: a long-lived token must not collect every
        # request's child.
        self._children: dict[int, weakref.ref[CancelToken]] = {}
        self._parent: CancelToken | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it was set."""
        return self._cancelled

    @property
    def reason(self) -> str | None:
        """What was given to `cancel`, or `None`."""
        return self._reason

    def cancel(self, reason: str | None = None) -> bool:
        """Set the token. The first call wins; later ones change nothing.

        Args:
            reason: Why; it is the `reason` of every `RunCancelledError` that follows.

        Returns:
            Whether this call was the first.
        """
        if not self._set(reason):
            return False
        interrupt: BaseException | None = None
        tokens: list[CancelToken] = [self]
        # A loop instead of children cancelling their own: chains of tokens may be longer than the
        # stack is deep.
        while tokens:
            token = tokens.pop()
            for callback in token._take_callbacks():
                try:
                    callback()
                except Exception as error:  # noqa: BLE001 - it is the callback's fault, not the canceller's
                    _log(error)
                except BaseException as error:  # noqa: BLE001 - raised below, when everybody was told
                    interrupt = error
            for reference in token._take_children():
                child = reference()
                if child is not None and child._set(reason):
                    tokens.append(child)
        if interrupt is not None:
            raise interrupt
        return True

    def child(self) -> CancelToken:
        """Make a token that is set together with this one, and can be set alone without touching it."""
        child = CancelToken()
        child._parent = self
        with _lock:
            if not self._cancelled:
                key = next(self._keys)
                children = self._children
                children[key] = weakref.ref(child, lambda _: children.pop(key, None))
                return child
        child._set(self._reason)
        return child

    async def wait(self) -> str | None:
        """Wait until the token is set.

        Cancelling the waiting task ends the wait and leaves the token alone.

        Returns:
            The reason.
        """
        import asyncio

        if not self._cancelled:
            loop = asyncio.get_running_loop()
            woken = loop.create_future()

            def finish() -> None:
                if not woken.done():
                    woken.set_result(None)

            def wake() -> None:
                try:
                    loop.call_soon_threadsafe(finish)
                except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
                    if not loop.is_closed():
                        raise

            unsubscribe = self._subscribe(wake)
            try:
                await woken
            finally:
                unsubscribe()
        return self._reason

    def _subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have `callback()` called, without arguments, when the token is set.

        It is called in the thread that sets the token, so an engine only hops to its loop there. A token that
        is set already calls it at once, in this thread. It is called at most once.

        Returns:
            What takes the subscription back; calling it again, or late, does nothing.
        """
        with _lock:
            if not self._cancelled:
                key = next(self._keys)
                self._callbacks[key] = callback

                def unsubscribe() -> None:
                    self._callbacks.pop(key, None)

                return unsubscribe
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - it is the callback's fault, not the canceller's
            _log(error)
        return _nothing

    def _set(self, reason: str | None) -> bool:
        with _lock:
            if self._cancelled:
                return False
            self._reason = reason  # before the flag: whoever sees the flag may read the reason without the lock
            self._cancelled = True
            return True

    def _take_callbacks(self) -> list[Callable[[], object]]:
        with _lock:
            taken = list(self._callbacks.values())
            self._callbacks.clear()
            return taken

    def _take_children(self) -> list[weakref.ref[CancelToken]]:
        with _lock:
            taken = list(self._children.values())
            self._children.clear()
            return taken

    def __repr__(self) -> str:
        if not self._cancelled:
            return "<CancelToken not set>"
        return "<CancelToken set>" if self._reason is None else f"<CancelToken set: {shorten(self._reason)}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a CancelToken cannot be pickled or copied: it belongs to the process that cancels through it")


def _nothing() -> None:
    """Take back a subscription that is over already."""


def _log(error: Exception) -> None:
    import logging

    logging.getLogger("cano").warning("a callback of a CancelToken raised %s; it was ignored", type_name(type(error)))
