"""Programs whose branches wait in every way that asyncio and anyio know, and end in ways of their own.

Like those of `shapes.py`; taken where a point costs little.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from tests.contract.given import Boom, S, join
from tests.faults.shapes import Build, Shape, of

import cano
from cano import JoinStrategy, Retry, Workflow, fan_out

if TYPE_CHECKING:
    from tests.contract.shapes import Trace

AWAITS: dict[str, Shape] = {}
VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


def workflow(build: Build) -> Build:
    """A program that runs what the function registers."""
    AWAITS[build.__name__] = of(build)
    return build


def branches(function: Callable[[Trace, int], Awaitable[Any]]) -> Callable[[Trace, int], Awaitable[Any]]:
    """A program that is a split of three such branches, without a workflow."""

    async def run(trace: Trace, engine: str) -> Any:
        split = await fan_out(lambda item: function(trace, item), range(3), inline=True, engine=engine)
        return split.outputs()

    AWAITS[function.__name__] = run
    return function


async def all_ended(*tasks: asyncio.Future[Any]) -> None:
    """Wait for tasks of one's own through any number of cancellations, as a split waits for its branches."""
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


@branches
async def task_groups(trace: Trace, item: int) -> int:
    async with asyncio.TaskGroup() as group:
        for seconds in (item, 1):
            group.create_task(trace.work(seconds, clean_up=0.5))
    return item


@branches
async def task_groups_that_fail(trace: Trace, item: int) -> int:
    async def fail() -> None:
        await trace.work(item)
        raise Boom

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(trace.work(9, clean_up=0.5))
    except* Boom:
        await trace.work(0)
    return item


@branches
async def timeouts(trace: Trace, item: int) -> int:
    """One that passes, around one that does not."""
    async with asyncio.timeout(50):
        try:
            async with asyncio.timeout(item + 0.5):
                await trace.work(9, clean_up=0.5)
        except TimeoutError:
            await trace.work(0)
    return item


@branches
async def waits_for(trace: Trace, item: int) -> int:
    try:
        await asyncio.wait_for(trace.work(item), 1.5)  # that of 3.11 leaves behind what takes its time to clean up
    except TimeoutError:
        await asyncio.wait_for(trace.work(0), 10)
    return item


@branches
async def shields(trace: Trace, item: int) -> int:
    """What is shielded goes on, and is waited for by whoever shields it."""
    inner = asyncio.ensure_future(trace.work(item))
    try:
        await asyncio.shield(inner)
    finally:
        await all_ended(inner)
    return item


@branches
async def gathers(trace: Trace, item: int) -> int:
    await asyncio.gather(*(trace.work(seconds, clean_up=0.5) for seconds in range(item)))
    return item


@branches
async def helpers(trace: Trace, item: int) -> int:
    """A task of the branch's own, cancelled and awaited when the branch ends."""
    helper = asyncio.create_task(trace.work(9, clean_up=0.5))
    try:
        await trace.work(item)
    finally:
        helper.cancel()
        await all_ended(helper)
    return item


@branches
async def first_of_several(trace: Trace, item: int) -> int:
    running = {asyncio.create_task(trace.work(seconds, clean_up=0.5)) for seconds in (item, 9)}
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in running:
            one.cancel()
        await all_ended(*running)
    return item


@branches
async def generators(trace: Trace, item: int) -> int:
    """Asynchronous generators whose clean-up awaits."""

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(4):
                await trace.work(0)
                yield number
        finally:
            await asyncio.sleep(0.5)

    async with aclosing(numbers()) as rows:
        async for number in rows:
            if number == item:
                break
    return item


@branches
async def exit_stacks(trace: Trace, item: int) -> int:
    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        await trace.work(0)
        try:
            yield
        finally:
            await cano.sleep(0.5)

    async with AsyncExitStack() as stack:
        for _ in range(item):
            await stack.enter_async_context(resource())
        await trace.work(1)
    return item


@branches
async def context_variables(trace: Trace, item: int) -> int:
    """Each has its own, before and after it waits, and while it cleans up."""
    assert VARIABLE.get() == 0
    VARIABLE.set(item + 1)
    try:
        await trace.work(item, clean_up=0.5)
        async with asyncio.TaskGroup() as group:
            group.create_task(trace.work(VARIABLE.get()))
    finally:
        assert VARIABLE.get() == item + 1
    return VARIABLE.get()


@branches
async def takes_back_its_own_cancellation(trace: Trace, item: int) -> int:
    me = asyncio.current_task()
    assert me is not None
    before = me.cancelling()
    me.cancel("of its own")
    try:
        await trace.work(item)
    except asyncio.CancelledError as error:
        if error.args != ("of its own",) or me.uncancel() > before:
            raise
    await trace.work(0)
    return item


@branches
async def raises_while_it_cleans_up(trace: Trace, item: int) -> int:
    """Cancelled, it answers with an error of its own; only where it is cancelled, so the run has its own answer."""
    try:
        await trace.work(item)
    except asyncio.CancelledError as error:
        raise Boom from error
    return item


@branches
async def splits_in_splits(trace: Trace, item: int) -> Any:
    async def middle(number: int) -> Any:
        async def inner(seconds: int) -> int:
            await trace.work(seconds, clean_up=0.5)
            return seconds

        return (await fan_out(inner, range(number), strategy=JoinStrategy.PartialResults(min(number, 1)))).outputs()

    return (await fan_out(middle, range(item + 1), bulkhead=2)).outputs()


@branches
async def anyio_task_groups(trace: Trace, item: int) -> int:
    async with anyio.create_task_group() as group:
        group.start_soon(trace.work, item)
        group.start_soon(trace.work, 1)
    return item


@branches
async def anyio_scopes(trace: Trace, item: int) -> int:
    """A scope that passes, and one that shields the clean-up from it."""
    with anyio.move_on_after(1.5):
        try:
            await trace.work(item)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)
    return item


@workflow
def locks(trace: Trace, flow: Workflow[Any]) -> None:
    lock, permits = asyncio.Lock(), asyncio.Semaphore(2)

    async def branch(item: int) -> int:
        async with permits, lock:
            await trace.work(item % 2, clean_up=0.5)
        return item

    flow.register_map(S.START, branch, range(4), join())


@workflow
def queues(trace: Trace, flow: Workflow[Any]) -> None:
    """A branch that produces, two that consume."""
    trace.swallows = False  # or one would wait for ever for what is gone, as a task would
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def produce() -> None:
        for number in range(4):
            await queue.put(number)
            await trace.work(0)

    async def consume() -> list[int]:
        return [await queue.get() + 0 * (await trace.work(1, 1)) for _ in range(2)]

    flow.register_split(S.START, [produce, consume, consume], join())


@workflow
def events(trace: Trace, flow: Workflow[Any]) -> None:
    """Branches that wait for one another: an event, a condition, a barrier."""
    trace.swallows = False  # likewise
    event, condition, barrier = asyncio.Event(), asyncio.Condition(), asyncio.Barrier(2)

    async def signals() -> None:
        await trace.work(1)
        event.set()
        async with condition:
            condition.notify_all()
        await barrier.wait()

    async def waits() -> None:
        await event.wait()
        await barrier.wait()

    async def is_notified() -> None:
        async with condition:
            await condition.wait()
        await trace.work(0)

    flow.register_split(S.START, [signals, waits, is_notified], join())


@workflow
def a_shared_future(trace: Trace, flow: Workflow[Any]) -> None:
    """Branches that wait for one future, which a cancelled one must not take from the others."""
    futures: list[asyncio.Future[int]] = []

    async def prepare() -> Any:
        futures[:] = [asyncio.get_running_loop().create_future()]
        return S.FAN

    async def branch(item: int) -> int:
        if item == 3:
            await trace.work(1)
            futures[0].set_result(5)
            return item
        if item == 2:
            await asyncio.wait(futures, timeout=0.5)
            return item
        return await asyncio.shield(futures[0])

    flow.register(S.START, prepare)
    flow.register_map(S.FAN, branch, range(4), join())


@workflow
def deaf_losers(trace: Trace, flow: Workflow[Any]) -> None:
    """Branches that take no notice of one cancellation, or answer it with a value or an error."""

    async def branch(item: int) -> int:
        try:
            await trace.work(1 if item == 0 else 9)
        except asyncio.CancelledError:
            if item == 1:
                await trace.work(1)
            elif item == 2:
                return 7
            elif item == 3:
                raise ValueError from None
            else:
                raise
        return item

    flow.register_map(S.START, branch, range(5), join(strategy=JoinStrategy.Any))


@workflow
def attempts_that_are_deaf(trace: Trace, flow: Workflow[Any]) -> None:
    """Attempts that pass their limit and take no notice, or clean up for long, before another one."""
    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        if tries.count(item) > 1:
            return item
        try:
            await trace.work(9, clean_up=item)
        except asyncio.CancelledError:
            if item == 0:
                return item
            raise
        return item

    flow.register_map(S.START, branch, range(3), join(), retry=Retry.fixed(2, 1), attempt_timeout=2)


@workflow
def many_turns_in_a_state(trace: Trace, flow: Workflow[Any]) -> None:
    """What states, not branches, await: a task group, a timeout, a lock, a split."""
    lock = asyncio.Lock()

    async def group() -> Any:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(trace.work(1, clean_up=0.5))
            async with lock:
                await trace.work(0)
        return S.WORK

    async def limited() -> Any:
        try:
            async with asyncio.timeout(1.5):
                await trace.work(9, clean_up=0.5)
        except TimeoutError:
            split = await fan_out(trace.work, [1, 0], engine=flow.engine)
            assert split.completed_count == 2
        return S.DONE

    flow.register(S.START, group, attempt_timeout=50)
    flow.register(S.WORK, limited, retry=Retry.fixed(1, 1))
