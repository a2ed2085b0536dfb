"""Branches that do what no branch should, for test_hostile.py. Each is `async def name(world)`, the second of five branches.

What comes of one is what comes of it as a task of asyncio's: its `Outcome` there is the oracle here.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

Scenario = Callable[["World"], Awaitable[Any]]
HOSTILE: dict[str, Scenario] = {}
VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


class World:
    """What one round of branches shares."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.shared: asyncio.Future[Any] = self.loop.create_future()
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        self.cleaned: list[str] = []


def hostile(scenario: Scenario) -> Scenario:
    HOSTILE[scenario.__name__] = scenario
    return scenario


def task() -> Any:
    return asyncio.current_task()


class Yields:
    """Awaits by yielding some things, one after the other."""

    def __init__(self, *things: Any) -> None:
        self.things = things

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self.things


# --- what is awaited --------------------------------------------------------------------------------------------------


@hostile
async def awaits_itself(_: World) -> None:
    await task()


@hostile
async def awaits_a_future_of_another_loop(_: World) -> None:
    other = asyncio.new_event_loop()
    try:
        await other.create_future()
    finally:
        other.close()


@hostile
async def awaits_the_same_coroutine_as_another(world: World) -> Any:
    async def wait() -> None:
        await asyncio.sleep(0.001)

    coroutine = wait()
    helper = world.loop.create_task(coroutine)
    await asyncio.sleep(0)
    try:
        await coroutine
    finally:
        await helper


@hostile
async def awaits_the_same_coroutine_again(_: World) -> None:
    coroutine = asyncio.sleep(0)
    await coroutine
    await coroutine


@hostile
async def yields_garbage(_: World) -> list[str]:
    told = []
    for thing in (0, True, "future", object(), [], (i for i in ()), Exception(), gc):
        try:
            await Yields(thing)
        except RuntimeError:
            told.append(type(thing).__name__)
    return told


@hostile
async def yields_a_future_without_awaiting_it(world: World) -> None:
    await Yields(world.shared)


@hostile
async def yields_nothing_two_thousand_times(_: World) -> None:
    await Yields(*[None] * 2_000)


class FutureLike:
    """Has what a task looks for in a future; each part may be replaced by something bad."""

    def __init__(self, world: World, **bad: Any) -> None:
        self._asyncio_future_blocking = True
        self.world = world
        self.bad = bad

    def get_loop(self) -> Any:
        return self.bad["get_loop"]() if "get_loop" in self.bad else self.world.loop

    def add_done_callback(self, callback: Any, *, context: Any = None) -> Any:
        if "add_done_callback" in self.bad:
            return self.bad["add_done_callback"]()
        for _ in range(self.bad.get("times", 1)):
            self.world.loop.call_soon(callback, self.bad.get("argument", self), context=context)
        return None

    def result(self) -> Any:
        return self.bad["result"]() if "result" in self.bad else 5

    def cancel(self, msg: Any = None) -> bool:
        return False


def raises(error: BaseException) -> Callable[[], Any]:
    def broken() -> Any:
        raise error

    return broken


@hostile
async def a_future_without_a_loop(world: World) -> None:
    await Yields(FutureLike(world, get_loop=raises(AttributeError("none"))))


@hostile
async def a_future_that_takes_no_callback(world: World) -> None:
    await Yields(FutureLike(world, add_done_callback=raises(OSError("none"))))


@hostile
async def a_future_whose_result_raises(world: World) -> None:
    await Yields(FutureLike(world, result=raises(LookupError("mine"))))


@hostile
async def a_future_that_calls_with_something_else(world: World) -> None:
    await Yields(FutureLike(world, argument=None))


@hostile
async def an_awaitable_that_gives_no_iterator(_: World) -> None:
    class Odd:
        def __await__(self) -> Any:
            return 5

    await Odd()


@hostile
async def an_awaitable_that_raises(_: World) -> None:
    class Odd:
        def __await__(self) -> Any:
            raise StopIteration(5)

    await Odd()


# --- its own coroutine ------------------------------------------------------------------------------------------------


@hostile
async def closes_its_own_coroutine(_: World) -> None:
    task().get_coro().close()


@hostile
async def throws_into_its_own_coroutine(_: World) -> None:
    task().get_coro().throw(KeyError)


@hostile
async def is_closed_while_it_waits(world: World) -> None:
    coroutine = task().get_coro()
    world.loop.call_soon(coroutine.close)
    try:
        await asyncio.sleep(0.001)
    finally:
        world.cleaned.append("closed")


@hostile
async def is_thrown_into_by_a_stranger(world: World) -> None:
    coroutine = task().get_coro()

    def throw() -> None:
        try:
            coroutine.throw(KeyError("stranger"))
        except KeyError:
            world.cleaned.append("thrown")

    world.loop.call_soon(throw)
    await asyncio.sleep(0.001)


@hostile
async def is_sent_into_by_a_stranger(world: World) -> str:
    coroutine = task().get_coro()
    world.loop.call_soon(lambda: coroutine.send(None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return "through"


@hostile
async def closes_a_generator_that_runs(_: World) -> None:
    async def numbers() -> Any:
        yield 1
        await generator.aclose()

    generator = numbers()
    async for _number in generator:
        pass


@hostile
async def leaves_generators_open(_: World) -> int:
    async def numbers() -> Any:
        yield 1

    generator = numbers()
    number = await anext(generator)
    await generator.aclose()
    return int(number)


# --- cancelling -------------------------------------------------------------------------------------------------------


@hostile
async def swallows_its_cancellation_seven_times(_: World) -> int:
    swallowed = 0
    for _ in range(7):
        task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            swallowed += 1
    return swallowed


@hostile
async def cancels_itself_and_answers(_: World) -> int:
    task().cancel("never seen")
    return 5


@hostile
async def cancels_what_it_awaits(world: World) -> None:
    world.loop.call_soon(world.shared.cancel)
    await world.shared


@hostile
async def raises_from_finally(_: World) -> None:
    try:
        await asyncio.sleep(0)
        raise ValueError("first")
    finally:
        raise KeyError("second")


@hostile
async def waits_in_finally(world: World) -> None:
    try:
        task().cancel()
        await asyncio.sleep(1)
    finally:
        await asyncio.sleep(0.001)
        world.cleaned.append("cleaned")


# --- what is raised ---------------------------------------------------------------------------------------------------


@hostile
async def raises_stop_iteration(_: World) -> None:
    raise StopIteration(5)


@hostile
async def raises_stop_async_iteration(_: World) -> None:
    await asyncio.sleep(0)
    raise StopAsyncIteration


@hostile
async def raises_what_is_no_exception(_: World) -> None:
    raise "text"  # type: ignore[misc]  # noqa: B016


@hostile
async def recurses_for_ever(_: World) -> None:
    def again() -> None:
        again()

    again()


@hostile
async def awaits_itself_for_ever(_: World) -> None:
    async def again() -> None:
        await again()

    await again()


@hostile
async def raises_a_huge_exception(_: World) -> None:
    raise ValueError("x" * 20_000_000, list(range(1_000_000)))


@hostile
async def raises_a_long_chain(_: World) -> None:
    error: BaseException = ValueError(0)
    for number in range(100_000):
        error.__context__, error = None, _caused(ValueError(number), error)
    raise error


def _caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@hostile
async def raises_a_ring(_: World) -> None:
    one, two = ValueError("one"), KeyError("two")
    one.__context__, two.__context__ = two, one
    raise one


class Liar(Exception):  # noqa: N818
    """Raises whenever somebody looks at it."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("do not look")

    __str__ = __repr__ = __eq__ = __bool__ = __setattr__ = add_note = _refuse
    __hash__ = Exception.__hash__
    __notes__ = property(_refuse)


@hostile
async def raises_what_cannot_be_looked_at(_: World) -> None:
    raise Liar


class Killer(Exception):  # noqa: N818
    def add_note(self, _: str) -> None:
        raise GeneratorExit


@hostile
async def raises_what_refuses_a_note_with_more_than_an_exception(_: World) -> None:
    raise Killer


# --- what is left behind ----------------------------------------------------------------------------------------------


class Value:
    """A value nobody can do anything with but pass it on."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("do not look")

    __eq__ = __hash__ = __repr__ = __bool__ = __len__ = __iter__ = __getattr__ = _refuse  # type: ignore[assignment]


@hostile
async def returns_what_cannot_be_looked_at(_: World) -> Value:
    return Value()


@hostile
async def returns_itself(_: World) -> Any:
    return task() is not None


@hostile
async def returns_an_exception(_: World) -> type:
    return type(asyncio.CancelledError())


@hostile
async def blocks_the_loop(_: World) -> None:
    time.sleep(0.02)  # noqa: ASYNC251 - that is what it does


@hostile
async def runs_a_loop_inside(world: World) -> None:
    world.loop.run_until_complete(world.shared)


@hostile
async def collects_garbage_with_suspended_coroutines(world: World) -> int:
    async def wait(ring: list[Any]) -> None:
        try:
            await world.loop.create_future()
        finally:
            world.cleaned.append("collected")
            ring.clear()

    ring: list[Any] = []
    coroutine = wait(ring)
    ring.append(coroutine)
    coroutine.send(None)
    del coroutine, ring
    gc.collect()
    await asyncio.sleep(0)
    return len(world.cleaned)


@hostile
async def resets_a_variable_of_another_context(_: World) -> None:
    token = contextvars.Context().run(VARIABLE.set, 5)
    VARIABLE.reset(token)


@hostile
async def plays_with_its_done_callbacks(world: World) -> str:
    def callback(_: Any) -> None:
        world.cleaned.append("done")

    task().add_done_callback(callback)
    task().add_done_callback(callback)
    assert task().remove_done_callback(callback) == 2
    task().add_done_callback(callback)
    return "told once"
