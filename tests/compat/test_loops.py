"""Event loops that stop, close, change and nest under a run, on every loop a user may have: clear errors, no hang, nothing left.

Warnings are errors here, so a coroutine that was never awaited, or an error that nobody could be told of, fails the test.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import cano
from cano import (
    CancelToken,
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    RunCancelledError,
    TaskError,
    Workflow,
    as_completed,
    fan_out,
)

pytestmark = [pytest.mark.fault("F4"), pytest.mark.timeout(300)]

Loop = asyncio.AbstractEventLoop
FOREVER = 3600.0


@pytest.fixture(params=["asyncio", "asyncio-debug", "uvloop", "uvloop-debug", "eager"])
def make_loop(request: pytest.FixtureRequest, tried: Any) -> Iterator[Callable[[], Loop]]:
    """Makes loops of one kind, and closes them."""
    kind, _, debug = request.param.partition("-")
    if kind == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager tasks are new in 3.12")
    made: list[Loop] = []

    def make() -> Loop:
        if kind == "uvloop":
            loop: Loop = pytest.importorskip("uvloop", reason="uvloop is not installed").new_event_loop()
        else:
            loop = asyncio.new_event_loop()
        loop.set_debug(bool(debug))
        if kind == "eager":
            loop.set_task_factory(asyncio.eager_task_factory)
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        made.append(loop)
        return loop

    unhandled: list[dict[str, Any]] = []
    tried(loops=1)
    yield make
    for loop in made:
        if not loop.is_closed():
            loop.close()
    gc.collect()
    assert not unhandled, unhandled


@pytest.fixture
def loop(make_loop: Callable[[], Loop]) -> Loop:
    return make_loop()


async def waits(item: int) -> int:
    """In each of the ways there are."""
    await asyncio.sleep(0)
    await cano.sleep(0.001)
    await asyncio.sleep(0.001)
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, item)
    return int(await future)


def on_a_thread(item: int) -> int:
    time.sleep(0.002)
    return item


def flow(engine: str, branch: Callable[..., Any] = waits, **options: Any) -> Workflow[str]:
    """Two splits and a task in a chain."""
    made = Workflow[str](engine=engine).add_exit_state("done")
    made.register_map(
        "start", branch, range(5), JoinConfig(JoinStrategy.All, "task", store_partial_results=True), **options
    )
    made.register("task", lambda: "threads", inline=True)
    return made.register_map("threads", on_a_thread, range(4), JoinConfig(JoinStrategy.All, "done", bulkhead=2))


def until_done(loop: Loop, task: asyncio.Task[Any]) -> tuple[Any, int]:
    """Run the loop, again and again, until the task is done; its result, and how often the loop was stopped before."""
    stops = -1
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        loop.run_forever()
        stops += 1
    return task.result(), stops


async def awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def forgive(loop: Loop) -> None:
    """That tasks are dropped is the test's own doing, and asyncio's to say."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def works(engine: str, loop: Loop) -> None:
    workflow = flow(engine)
    assert loop.run_until_complete(workflow.orchestrate("start")) == "done"
    assert workflow.store["split_results"].outputs() == list(range(5))


# --- stopped ----------------------------------------------------------------------------------------------------------


def stop() -> None:
    asyncio.get_running_loop().stop()


async def stopping_branch(item: int) -> int:
    stop()
    return await waits(item)


async def stopping_clean_up(item: int) -> int:
    try:
        return await waits(item)
    finally:
        stop()


def stopping_source() -> Iterator[int]:
    for number in range(5):
        stop()
        yield number


async def stopping_async_source() -> AsyncIterator[int]:
    for number in range(5):
        stop()
        await asyncio.sleep(0)
        yield number


def stopping_judge(progress: Any) -> str:
    stop()
    return "proceed" if progress.succeeded == 5 else "wait"


class StoppingObserver:
    def on_branch_success(self, event: object) -> None:
        stop()

    on_split_start = on_state_exit = on_join = on_branch_success


FANS: dict[str, Callable[[str], Awaitable[Any]]] = {
    "a branch": lambda engine: fan_out(stopping_branch, range(5), engine=engine),
    "clean-up": lambda engine: fan_out(stopping_clean_up, range(5), bulkhead=2, engine=engine),
    "an inline branch": lambda engine: fan_out(lambda item: stop() or item, range(5), inline=True, engine=engine),
    "the source": lambda engine: fan_out(waits, stopping_source, engine=engine),
    "an asynchronous source": lambda engine: fan_out(waits, stopping_async_source, engine=engine),
    "the strategy": lambda engine: fan_out(
        waits, range(5), strategy=JoinStrategy.Custom(stopping_judge), engine=engine
    ),
}


@pytest.mark.parametrize("where", FANS)
def test_stopped_by(engine: str, loop: Loop, where: str) -> None:
    result, stops = until_done(loop, loop.create_task(awaited(FANS[where](engine))))
    assert result.outputs() == list(range(5))
    # Where the last stop comes in the turn of the end, the run needs no other start.
    assert stops >= 1 or where in ("an inline branch", "the strategy")


def test_stopped_by_a_task(engine: str, loop: Loop) -> None:
    def stopping() -> str:
        stop()
        return "threads"

    workflow = flow(engine).register("task", stopping, inline=True, replace=True)
    assert until_done(loop, loop.create_task(workflow.orchestrate("start"))) == ("done", 1)


def test_stopped_by_an_observer(engine: str, loop: Loop) -> None:
    workflow = flow(engine).add_observer(StoppingObserver())
    result, stops = until_done(loop, loop.create_task(workflow.orchestrate("start")))
    assert result == "done"
    assert stops > 3


def test_stopped_from_a_branch_on_a_thread(engine: str, loop: Loop) -> None:
    def stopping(item: int) -> int:
        loop.call_soon_threadsafe(loop.stop)
        return item

    result, _ = until_done(loop, loop.create_task(awaited(fan_out(stopping, range(5), engine=engine))))
    assert result.outputs() == list(range(5))


def test_stopped_at_every_turn(engine: str, loop: Loop) -> None:
    task = loop.create_task(flow(engine).orchestrate("start", timeout=60))
    stops = 0
    while not task.done():
        loop.call_soon(loop.stop)
        loop.run_forever()
        stops += 1
    assert task.result() == "done"
    assert stops > 5


def test_stopped_for_longer_than_its_timers(engine: str, loop: Loop) -> None:
    """They are all due when it goes on: none is lost, none comes twice, and a deadline that is far away does not fall."""
    times: list[int] = []

    async def sleeper(item: int) -> int:
        await cano.sleep(0.001 * item)
        times.append(item)
        return item

    task = loop.create_task(awaited(fan_out(sleeper, range(1, 8), timeout=60, attempt_timeout=60, engine=engine)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    time.sleep(0.02)
    assert until_done(loop, task)[0].outputs() == list(range(1, 8))
    assert times == list(range(1, 8))


def test_other_work_while_it_is_stopped(engine: str, loop: Loop) -> None:
    """`run_until_complete` of something else goes on with the run, too."""
    task = loop.create_task(flow(engine).orchestrate("start"))
    for _ in range(3):
        works(engine, loop)
    assert until_done(loop, task)[0] == "done"


def test_cancelled_while_it_is_stopped(engine: str, loop: Loop) -> None:
    cleaned: list[int] = []

    async def tidy(item: int) -> None:
        try:
            await asyncio.sleep(FOREVER)
        finally:
            await asyncio.sleep(0)
            cleaned.append(item)

    task = loop.create_task(awaited(fan_out(tidy, range(3), engine=engine)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert cleaned == [0, 1, 2]
    works(engine, loop)


class Interrupt(BaseException):
    """As KeyboardInterrupt is, but nobody else's."""


def test_interrupted_by_a_callback(engine: str, loop: Loop) -> None:
    """A callback raises out of the loop, again and again; the run goes on where it was."""
    if type(loop).__module__.startswith("uvloop"):
        pytest.skip("uvloop passes only SystemExit and KeyboardInterrupt on")

    def interrupt() -> None:
        raise KeyboardInterrupt

    task = loop.create_task(flow(engine).orchestrate("start"))
    caught = 0
    while not task.done():
        loop.call_soon(interrupt)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            caught += 1
    assert task.result() == "done"
    assert caught > 5


# --- closed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(1, 8))
def test_closed_under_a_run(engine: str, loop: Loop, make_loop: Callable[[], Loop], turns: int) -> None:
    """After so many turns: nothing is said, nothing hangs, the next loop works."""
    task = loop.create_task(flow(engine, retry=Retry.fixed(2, 60), attempt_timeout=60).orchestrate("start", timeout=60))
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert not task.done()
    forgive(loop)
    loop.close()
    del task
    gc.collect()
    works(engine, make_loop())


def test_closed_while_threads_work(engine: str, loop: Loop, make_loop: Callable[[], Loop]) -> None:
    """They find nobody to tell; the threads are there for the next."""
    begun, go_on, ended = threading.Barrier(3), threading.Event(), threading.Barrier(3)

    def work(_: int) -> None:
        begun.wait(100)
        assert go_on.wait(100)
        ended.wait(100)

    task = loop.create_task(awaited(fan_out(work, range(2), engine=engine)))
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    begun.wait(100)
    forgive(loop)
    loop.close()
    go_on.set()
    ended.wait(100)
    assert not task.done()
    works(engine, make_loop())
    del task
    gc.collect()


def test_a_token_is_set_after_the_loop_was_closed(engine: str, loop: Loop) -> None:
    token = CancelToken()
    task = loop.create_task(flow(engine).orchestrate("start", cancel=token))
    loop.call_soon(loop.stop)
    loop.run_forever()
    forgive(loop)
    loop.close()
    assert token.cancel("too late")
    assert not task.done()
    del task
    gc.collect()


def test_closed_by_a_branch(engine: str, loop: Loop) -> None:
    async def closing(item: int) -> str:
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="running"):
            asyncio.get_running_loop().close()
        await asyncio.sleep(0)
        return "not closed"

    assert loop.run_until_complete(fan_out(closing, range(3), engine=engine)).outputs() == ["not closed"] * 3


@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
def test_its_generators_are_shut_down(engine: str, loop: Loop) -> None:
    """`shutdown_asyncgens` while a source is open ends that source, not the process."""
    closed: list[int] = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield number
                await asyncio.sleep(0)
            await asyncio.sleep(FOREVER)
        finally:
            closed.append(1)

    task = loop.create_task(awaited(fan_out(waits, source, engine=engine)))
    for _ in range(6):
        loop.call_soon(loop.stop)
        loop.run_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert closed == [1]


def test_the_default_executor_is_shut_down(engine: str, loop: Loop) -> None:
    """Sync branches have threads of their own."""

    async def main() -> str:
        await asyncio.to_thread(int)
        await asyncio.get_running_loop().shutdown_default_executor()
        return await flow(engine).orchestrate("start")

    assert loop.run_until_complete(main()) == "done"


# --- changed, and many ------------------------------------------------------------------------------------------------


def test_a_loop_for_each_run(engine: str, make_loop: Callable[[], Loop]) -> None:
    workflow = flow(engine)
    for _ in range(10):
        loop = make_loop()
        assert loop.run_until_complete(workflow.orchestrate("start")) == "done"
        loop.close()


def test_loops_take_turns_on_one_thread(engine: str, make_loop: Callable[[], Loop]) -> None:
    workflow, loops = flow(engine), [make_loop() for _ in range(4)]
    tasks = [loop.create_task(workflow.orchestrate("start")) for loop in loops]
    while not all(task.done() for task in tasks):
        for loop, task in zip(loops, tasks, strict=True):
            if not task.done():
                loop.call_soon(loop.stop)
                loop.run_forever()
    assert [task.result() for task in tasks] == ["done"] * 4


def test_another_loop_is_set(engine: str, loop: Loop, make_loop: Callable[[], Loop]) -> None:
    """`set_event_loop` says what is current where none runs; it changes nothing for who runs."""
    other = make_loop()

    async def setting(item: int) -> int:
        asyncio.set_event_loop(other)
        return await waits(item)

    with ThreadPoolExecutor(1) as thread:  # whose current loop is nobody else's
        done = thread.submit(lambda: loop.run_until_complete(flow(engine, setting).orchestrate("start")))
        assert done.result(20) == "done"


def test_made_on_one_loop_and_awaited_on_another(engine: str, loop: Loop, make_loop: Callable[[], Loop]) -> None:
    async def make() -> list[Any]:
        return [flow(engine).orchestrate("start"), fan_out(waits, range(3), engine=engine)]

    workflow_run, fan = loop.run_until_complete(make())
    other = make_loop()
    assert other.run_until_complete(workflow_run) == "done"
    assert other.run_until_complete(fan).outputs() == [0, 1, 2]


def test_begun_on_one_loop_and_awaited_on_another(engine: str, loop: Loop, make_loop: Callable[[], Loop]) -> None:
    run = flow(engine).orchestrate("start")
    task = loop.create_task(run)
    loop.call_soon(loop.stop)
    loop.run_forever()
    with pytest.raises(RuntimeError, match="being awaited already"):
        make_loop().run_until_complete(awaited(run))
    assert until_done(loop, task)[0] == "done"


def test_a_future_of_another_loop(engine: str, loop: Loop, make_loop: Callable[[], Loop]) -> None:
    """As in a task: the branch fails with asyncio's words; the others have nothing to do with it."""
    foreign = make_loop().create_future()

    async def branch(item: int) -> int:
        if item == 1:
            await foreign
        return await waits(item)

    join = fan_out(branch, range(3), strategy=JoinStrategy.PartialTimeout, timeout=20, engine=engine)
    result = loop.run_until_complete(join)
    assert sorted(result.outputs()) == [0, 2]
    (row,) = result.errors
    assert "attached to a different loop" in str(row.error)
    foreign.cancel()


def test_rows_across_two_goes(engine: str, loop: Loop) -> None:
    rows = as_completed(waits, range(5), engine=engine)
    first = loop.run_until_complete(anext(rows))

    async def rest() -> list[Any]:
        return [row.result async for row in rows]

    assert sorted([first.result, *loop.run_until_complete(rest())]) == list(range(5))


def test_one_runner_many_runs(engine: str, make_loop: Callable[[], Loop]) -> None:
    """What a run changes in its context stays there; the runner's own goes from one run to the next."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def branch(item: int) -> int:
        variable.set(item)
        return await waits(item)

    async def main() -> int:
        assert await flow(engine, branch).orchestrate("start") == "done"
        variable.set(variable.get() + 100)
        return variable.get()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        context = contextvars.copy_context()
        assert [runner.run(main(), context=context) for _ in range(3)] == [100, 200, 300]


def test_debug_is_switched_in_the_middle(engine: str, loop: Loop) -> None:
    async def branch(item: int) -> int:
        asyncio.get_running_loop().set_debug(item % 2 == 0)
        return await waits(item)

    assert loop.run_until_complete(flow(engine, branch).orchestrate("start")) == "done"


# --- nested -----------------------------------------------------------------------------------------------------------


def test_run_in_a_branch_of_the_loop(engine: str, loop: Loop) -> None:
    """A clear error: `run()` is for code that has no loop."""
    errors: list[BaseException] = []

    async def branch(item: int) -> int:
        try:
            flow(engine).run("start")
        except Exception as error:
            errors.append(error)
        return await waits(item)

    assert loop.run_until_complete(flow(engine, branch).orchestrate("start")) == "done"
    assert len(errors) == 5
    assert all("await" in str(error) for error in errors), errors[0]
    assert all(isinstance(error, RuntimeError | ConfigurationError) for error in errors)


def test_asyncio_run_in_a_branch(engine: str, loop: Loop) -> None:
    async def branch(item: int) -> int:
        coroutine = waits(item)
        try:
            with pytest.raises(RuntimeError, match="running event loop"):
                asyncio.run(coroutine)
            with pytest.raises(RuntimeError, match="running"):
                asyncio.get_running_loop().run_until_complete(asyncio.get_running_loop().create_future())
        finally:
            coroutine.close()
        return await waits(item)

    assert loop.run_until_complete(flow(engine, branch).orchestrate("start")) == "done"


def test_run_in_a_branch_on_a_thread(engine: str, loop: Loop) -> None:
    def branch(item: int) -> str:
        return flow(engine).run("start", timeout=60)

    assert loop.run_until_complete(fan_out(branch, range(3), engine=engine)).outputs() == ["done"] * 3


def test_run_in_to_thread(engine: str, loop: Loop) -> None:
    async def branch(item: int) -> str:
        return await asyncio.to_thread(flow(engine).run, "start")

    assert loop.run_until_complete(fan_out(branch, range(3), engine=engine)).outputs() == ["done"] * 3


def test_back_to_the_loop_from_a_thread(engine: str, loop: Loop) -> None:
    """A sync branch has its loop run another workflow, and waits for it."""

    def branch(item: int) -> str:
        return asyncio.run_coroutine_threadsafe(awaited(flow(engine).orchestrate("start")), loop).result(20)

    assert loop.run_until_complete(fan_out(branch, range(2), engine=engine)).outputs() == ["done"] * 2


def test_an_error_out_of_a_nested_loop(engine: str, loop: Loop) -> None:
    def failing() -> str:
        async def fail(_: int) -> None:
            raise LookupError

        asyncio.run(awaited(fan_out(fail, range(3), engine=engine)))
        raise AssertionError("not reached")

    workflow = Workflow[str](engine=engine).register("start", failing).add_exit_state("done")
    with pytest.raises(TaskError) as raised:
        loop.run_until_complete(workflow.orchestrate("start"))
    assert isinstance(raised.value.__cause__, JoinError)
    works(engine, loop)


def test_a_token_set_by_another_loop(engine: str, loop: Loop, make_loop: Callable[[], Loop]) -> None:
    token = CancelToken()
    begun = threading.Event()

    async def branch(item: int) -> None:
        begun.set()
        await asyncio.sleep(FOREVER)

    async def cancel() -> None:
        await asyncio.to_thread(begun.wait, 20)
        token.cancel("from afar")

    other = make_loop()
    thread = threading.Thread(target=other.run_until_complete, args=(cancel(),))
    thread.start()
    with pytest.raises(RunCancelledError, match="from afar"):
        loop.run_until_complete(flow(engine, branch).orchestrate("start", cancel=token))
    thread.join(100)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals")
def test_a_signal_handler_of_the_loop(engine: str, loop: Loop) -> None:
    """`add_signal_handler`, as servers do for their end."""
    token = CancelToken()

    async def branch(item: int) -> None:
        await asyncio.sleep(FOREVER)

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, token.cancel, "signal")
        asyncio.get_running_loop().call_later(0.002, os.kill, os.getpid(), signal.SIGUSR1)
        await flow(engine, branch).orchestrate("start", cancel=token)

    with pytest.raises(RunCancelledError, match="signal"):
        loop.run_until_complete(main())
    loop.remove_signal_handler(signal.SIGUSR1)


async def _short_sleeps(engine: str) -> list[int]:
    async def branch(item: int) -> int:
        await cano.sleep(0.0004 - item * 0.0001)
        return item

    return (await fan_out(branch, range(3), engine=engine)).outputs()


def test_sleeps_that_are_shorter_than_the_loop_can_tell(make_loop: Callable[[], Loop], engine: str) -> None:
    """uvloop counts in milliseconds; what is due at once for it has a handle that does not know when."""
    loop = make_loop()
    for _ in range(20):
        assert loop.run_until_complete(_short_sleeps(engine)) == [0, 1, 2]
