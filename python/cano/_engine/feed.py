"""Where a split's branches come from: opening a source, and feeding an engine from an asynchronous one.

Shared by both engines: sources are user code called on the loop's thread, one item at a time, and only when a branch
may start. A synchronous source is drawn by the engine itself; an asynchronous one by `feed`, a task of its own.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from types import GeneratorType
from typing import Any, Protocol

from cano.errors import ConfigurationError

from .contract import STORE, SplitPlan
from .threads import discard


class Source:
    """An opened source. Exactly one of `iterator` and `pending` is set.

    Attributes:
        iterator: draws the next item.
        total: the number of branches, where the source has a length.
        pending: an asynchronous source, or an awaitable that gives the real one: `feed` deals with it.
        close: closes a generator when the split ends.
    """

    __slots__ = ("close", "iterator", "pending", "total")

    def __init__(self) -> None:
        self.iterator: Iterator[Any] | None = None
        self.total: int | None = None
        self.pending: Any = None
        self.close: Callable[[], None] | None = None


class Fed(Protocol):
    """What `feed` needs of an engine's split."""

    def room(self) -> Awaitable[bool]:
        """Wait until a branch may start; false when the split is decided."""
        ...

    def offer(self, item: Any) -> bool:
        """Start a branch on an item; false when the permit has gone to a retry since there was room."""
        ...

    def known(self, total: int) -> None:
        """The source turned out to have a length."""
        ...


def is_one_shot(source: Any) -> bool:
    """Whether a source can serve only one run (an iterator rather than a container)."""
    if hasattr(source, "__next__"):
        return True
    return hasattr(source, "__anext__")


def refuse_source(source: Any) -> ConfigurationError:
    """Say why something cannot be drawn from."""
    return ConfigurationError(
        f"a split draws its branches from an iterable, an async iterable, or a function that returns one, "
        f"but {type(source).__qualname__} came"
    )


def open_source(plan: SplitPlan, store: Any) -> Source:
    """Open a split's source for one run, calling it first when it is a function of the store."""
    over = plan.over
    call = plan.over_call
    if call is not None:
        over = call.function(store) if call.arity == STORE else call.function()
        if hasattr(over, "__await__"):
            source = Source()
            source.pending = over
            # A split that is decided by its numbers alone never awaits it.
            source.close = functools.partial(discard, over)
            return source
    elif is_one_shot(over):
        if plan.spent:
            raise ConfigurationError(
                f"the source of split {plan.name} is an iterator that has already served a run; "
                f"register a list, or a function that returns a fresh iterator for each run"
            )
        plan.spent = True
    return _open(over, made=call is not None)


def _open(over: Any, *, made: bool) -> Source:
    """Open what branches are drawn from; `made` for this split by a function, rather than handed over by the user."""
    source = Source()
    if hasattr(over, "__aiter__"):
        source.pending = over
        return source
    if not hasattr(type(over), "__iter__") and not hasattr(type(over), "__getitem__"):
        raise refuse_source(over)
    source.iterator = iter(over)
    if hasattr(over, "__len__"):
        source.total = len(over)
    # A generator is of no use to anybody after its split. Another iterator that the user handed over may be: a file.
    close = getattr(source.iterator, "close", None)
    if close is not None and (made or source.iterator is not over or isinstance(over, GeneratorType)):
        source.close = close
    return source


class feed(Coroutine[Any, None, None]):  # noqa: N801 - read as the coroutine function it stands for
    """Draws an asynchronous source into a split; for a task of its own.

    What it runs is made at the first step: a loop that is closed before that would leave a coroutine behind that was never
    awaited, and Python would say so.
    """

    def __init__(self, split: Fed, pending: Any) -> None:
        self._arguments: tuple[Fed, Any] | None = (split, pending)
        self._running: Coroutine[Any, Any, None] | None = None

    def send(self, value: None) -> Any:
        if self._running is None:
            arguments, self._arguments = self._arguments, None
            if arguments is None:
                raise RuntimeError("cannot reuse already awaited coroutine")
            running: Any = _feed(*arguments)
            self._running = running
            try:
                return running.send(value)
            except KeyboardInterrupt as error:
                if not running.cr_suspended:
                    raise
                return running.throw(error)  # raised right here: the source ends by it, and is not left where it waits
            finally:
                # From here on the task steps it without us in between, where a KeyboardInterrupt would leave it behind.
                self.send = running.send  # type: ignore[method-assign]
                self.throw = running.throw  # type: ignore[method-assign]
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        if self._running is None:
            arguments, self._arguments = self._arguments, None
            if arguments is not None:
                discard(arguments[1])
            raise next(one for one in reversed(error) if isinstance(one, BaseException))
        return self._running.throw(*error)

    def close(self) -> None:
        self._arguments = None
        if self._running is not None:
            self._running.close()

    def __await__(self) -> Generator[Any, None, None]:
        raise RuntimeError("a source is fed by a task of its own, and awaited by nobody else")


async def _feed(split: Fed, pending: Any) -> None:
    """Draw an asynchronous source into a split, one item for each branch that may start.

    Cancelling it closes the source. An error of the source goes to whoever awaits this.

    The loops are in functions of their own: CPython 3.14 does not count the jump back of a loop to the `try` it stands in, and a
    KeyboardInterrupt that comes there would leave the source open.
    """
    if hasattr(pending, "__await__"):
        pending = await pending
    if not hasattr(pending, "__aiter__"):
        source = _open(pending, made=True)
        assert source.iterator is not None
        if source.total is not None:
            split.known(source.total)
        try:
            await _draw(split, source.iterator, source.total)
        finally:
            if source.close is not None:
                source.close()
        return
    iterator: AsyncIterator[Any] = aiter(pending)
    aclose = getattr(iterator, "aclose", None)
    try:
        await _draw_async(split, iterator)
    except GeneratorExit:  # this task was dropped: the loop is gone, and with it all that could be awaited
        aclose = None
        raise
    finally:
        if aclose is not None:
            await _arrived()
            # Otherwise the event loop's async-generator hook would close it later, in a task of its own.
            await aclose()


async def _draw(split: Fed, iterator: Iterator[Any], total: int | None) -> None:
    for _ in _counted(total):
        if not await split.room():
            return
        try:
            item = next(iterator)
        except StopIteration:
            return
        if not await _start(split, item):
            return


async def _draw_async(split: Fed, iterator: AsyncIterator[Any]) -> None:
    while await split.room():
        try:
            item = await anext(iterator)
        except StopAsyncIteration:
            return
        if not await _start(split, item):
            return


async def _arrived() -> None:
    """Let a cancellation that is on its way arrive here, where it harms nobody.

    An item whose branch decides the split at once has this very task cancelled; the next thing that is awaited would be
    the source's own clean-up.
    """
    if getattr(asyncio.current_task(), "_must_cancel", False):
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass


async def _start(split: Fed, item: Any) -> bool:
    """Start a branch on an item already drawn, as soon as there is room; false when the split is decided first."""
    while not split.offer(item):
        if not await split.room():
            return False
    return True


def _counted(total: int | None) -> Iterator[None]:
    if total is None:
        while True:
            yield None
    for _ in range(total):
        yield None
