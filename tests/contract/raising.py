"""Everything of the user's that a run calls, and every kind of thing that it may raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from tests.contract.given import Boom, S, join, never, to

from cano import (
    JoinStrategy,
    Retry,
    Workflow,
    WorkflowError,
)

ok = to(S.DONE)


class Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise Boom("in __str__")

    __repr__ = __str__


class Unpicklable(Exception):  # noqa: N818
    def __init__(self, lock: Any) -> None:
        super().__init__("with a lock")
        self.lock = lock

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle this")


class Base(BaseException):
    """No Exception."""


RAISED: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: Boom("text"),
    "BaseException": lambda: Base("text"),
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": lambda: StopAsyncIteration(5),
    "CancelledError": lambda: asyncio.CancelledError("text"),
    "GeneratorExit": GeneratorExit,
    "unspeakable": Unspeakable,
    "unpicklable": lambda: Unpicklable(threading.Lock()),
    "group": lambda: ExceptionGroup("several", [Boom(1), Boom(2)]),
    "ours": lambda: WorkflowError("raised by the user"),
}

Make = Callable[[Callable[..., Any]], Callable[[Workflow[Any]], object]]
SITES: dict[str, Make] = {}


def site(function: Any) -> Any:
    SITES[function.__name__] = function
    return function


@site
def async_task(fail: Any) -> Any:
    async def task() -> Any:
        await asyncio.sleep(0)
        return fail()

    return lambda w: w.register(S.START, task, replace=True)


@site
def thread_task(fail: Any) -> Any:
    return lambda w: w.register(S.START, lambda: fail(), replace=True)


@site
def inline_task(fail: Any) -> Any:
    return lambda w: w.register(S.START, lambda: fail(), inline=True, replace=True)


@site
def awaitable_task(fail: Any) -> Any:
    class Later:
        def __await__(self) -> Any:
            return fail()

    return lambda w: w.register(S.START, Later, inline=True, replace=True)


@site
def async_branch(fail: Any) -> Any:
    async def branch() -> Any:
        await asyncio.sleep(0.001)
        return fail()

    return lambda w: w.register_split(S.START, [branch, to(1), never], join(), replace=True)


@site
def eager_branch(fail: Any) -> Any:
    async def branch() -> Any:
        return fail()

    return lambda w: w.register_split(S.START, [never, branch, to(1)], join(), replace=True)


@site
def thread_branch(fail: Any) -> Any:
    return lambda w: w.register_split(S.START, [lambda: fail(), never], join(), replace=True)


@site
def inline_branch(fail: Any) -> Any:
    return lambda w: w.register_split(S.START, [never, lambda: fail()], join(), inline=True, replace=True)


@site
def source_function(fail: Any) -> Any:
    return lambda w: w.register_map(S.START, str, lambda: fail(), join(), replace=True)


@site
def async_source_function(fail: Any) -> Any:
    async def source() -> Any:
        return fail()

    return lambda w: w.register_map(S.START, str, source, join(), replace=True)


@site
def source_iterator(fail: Any) -> Any:
    class Source:
        def __init__(self) -> None:
            self.left = 2

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> int:
            self.left -= 1
            return self.left if self.left >= 0 else fail()

    return lambda w: w.register_map(S.START, asyncio.sleep, Source, join(), replace=True)


@site
def async_source_iterator(fail: Any) -> Any:
    class Source:
        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> int:
            self.left -= 1
            return self.left if self.left >= 0 else fail()

    return lambda w: w.register_map(S.START, asyncio.sleep, Source(), join(), replace=True)


@site
def source_iter(fail: Any) -> Any:
    class Source:
        def __iter__(self) -> Any:
            return fail()

    return lambda w: w.register_map(S.START, str, Source(), join(), replace=True)


@site
def strategy(fail: Any) -> Any:
    config = join(strategy=JoinStrategy.Custom(lambda _: fail()))
    return lambda w: w.register_split(S.START, [to(1), never], config, replace=True)


@site
def retry_on(fail: Any) -> Any:
    async def bad() -> Any:
        raise Boom

    return lambda w: w.register(S.START, bad, retry=Retry.fixed(2, 0, retry_on=lambda _: fail()), replace=True)


@site
def retry_on_of_a_branch(fail: Any) -> Any:
    async def bad() -> Any:
        raise Boom

    retry = Retry.fixed(2, 0, retry_on=lambda _: fail())
    return lambda w: w.register_split(S.START, [bad, never], join(), retry=retry, replace=True)


@site
def store_update(fail: Any) -> Any:
    return lambda w: w.register(S.START, lambda store: store.update("key", lambda _: fail()), inline=True, replace=True)


@site
def closing_of_a_source(fail: Any) -> Any:
    """What a source raises when it is closed changes nothing: the split is over."""

    def source() -> Any:
        try:
            while True:
                yield 1
        finally:
            fail()

    return lambda w: w.register_map(S.START, to_one, source, join(strategy=JoinStrategy.Any), replace=True)


@site
def clean_up_of_a_loser(fail: Any) -> Any:
    async def loser() -> Any:
        try:
            await never()
        finally:
            fail()

    async def winner() -> int:
        await asyncio.sleep(0.001)
        return 1

    config = join(strategy=JoinStrategy.Any)
    return lambda w: w.register_split(S.START, [loser, winner], config, replace=True)


async def to_one(item: int) -> int:
    return 1
