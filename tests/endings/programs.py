"""The programs that test_endings.py starts, each in a process of its own: `python programs.py ENDING ENGINE SEED`.

Each ends in its own way while runs are under way. It must end with the exit code written beside it, having written
what is expected to its standard output, and nothing to its standard error.
"""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import cano
from cano import CanoError, JoinConfig, JoinError, JoinStrategy, Retry, SplitTimeoutError, Workflow, fan_out

Ending = Callable[[str, random.Random], None]
ENDINGS: dict[str, tuple[Ending, int, str]] = {}
HANGS_AFTER = 80.0  # seconds; the tests wait for 100


def ends(code: int = 0, stdout: str = "") -> Callable[[Ending], Ending]:
    """Register a program, with its exit code and what it prints."""

    def register(ending: Ending) -> Ending:
        ENDINGS[ending.__name__] = (ending, code, stdout)
        return ending

    return register


class Flaky(Exception):  # noqa: N818
    """What back-off is for."""


async def branch(item: int) -> int:
    """Wait in one of the ways there are, for ever or nearly."""
    way = item % 6
    loop = asyncio.get_running_loop()
    if way == 0:
        await loop.create_future()
    elif way == 1:
        await asyncio.sleep(60)
    elif way == 2:
        await cano.sleep(60)
    elif way == 3:
        while True:
            await asyncio.sleep(0)
    elif way == 4:
        raise Flaky
    else:
        await fan_out(quick, [1], engine=ENGINE)
        async with asyncio.timeout(60):
            await asyncio.Event().wait()
    return item


async def quick(item: int) -> int:
    await asyncio.sleep(0)
    return item


def block(seconds: float) -> None:
    time.sleep(seconds)


def add_one(item: int) -> int:
    return item + 1


async def endless() -> AsyncIterator[int]:
    number = 0
    while True:
        await asyncio.sleep(0)
        yield number
        number += 1


def workflow(engine: str) -> Workflow[str]:
    """Start branches that wait in every way, and one on a thread."""
    flow = Workflow[str](engine=engine, name="busy")
    join = JoinConfig(JoinStrategy.All, "done", bulkhead=12, timeout=60)
    flow.register_map("start", branch, endless, join, retry=Retry.fixed(5, 50), attempt_timeout=55)
    return flow.add_exit_state("done")


async def busy(engine: str) -> None:
    """Runs that go on for a minute."""
    await asyncio.gather(
        workflow(engine).orchestrate("start"), fan_out(block, [0.02] * 3, engine=engine), forever(engine)
    )


async def forever(engine: str) -> None:
    await fan_out(branch, range(6), retry=Retry.fixed(3, 20), engine=engine)


def works(engine: str) -> None:
    """Everything that was said above works (again)."""
    flow = Workflow[str](engine=engine)
    flow.register("start", lambda: "fan", inline=True)
    flow.register_map("fan", add_one, range(4), JoinConfig(JoinStrategy.All, "both", store_partial_results=True))
    flow.register_map("both", quick, range(4), JoinConfig(JoinStrategy.Quorum(2), "done", timeout=100))
    assert flow.add_exit_state("done").run("start", timeout=100) == "done"
    assert flow.store["split_results"].outputs() == [1, 2, 3, 4]


def begun(engine: str, rng: random.Random) -> tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]:
    """A loop that stopped while runs were under way."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(busy(engine))
    for _ in range(3):  # or a busy machine stops it before the runs, which then were never awaited
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.call_later(rng.uniform(0.0, 0.03), loop.stop)
    loop.run_forever()
    # That tasks were dropped is no fault of the engine's, and asyncio's to say.
    for each in asyncio.all_tasks(loop):
        each._log_destroy_pending = False  # type: ignore[attr-defined]
    return loop, task


# --- the loop ends before the run -------------------------------------------------------------------------------------


@ends(stdout="end of main\n")
def loop_stopped(engine: str, rng: random.Random) -> None:
    warnings.simplefilter("ignore", ResourceWarning)  # that it is left open is meant
    globals()["kept"] = begun(engine, rng)  # until the interpreter takes its modules apart
    print("end of main")


@ends(stdout="end of main\n")
def loop_closed(engine: str, rng: random.Random) -> None:
    loop, task = begun(engine, rng)
    loop.close()
    time.sleep(0.03)  # the threads find nobody
    assert not task.done()
    print("end of main")


@ends()
def loop_closed_and_dropped(engine: str, rng: random.Random) -> None:
    loop, task = begun(engine, rng)
    loop.close()
    del loop, task
    gc.collect()
    works(engine)


@ends()
def stopped_by_a_branch(engine: str, rng: random.Random) -> None:
    """And started again: nothing is lost."""
    loop = asyncio.new_event_loop()

    async def stop(item: int) -> int:
        await asyncio.sleep(0)
        if item % 3 == 0:
            loop.stop()
        await asyncio.sleep(rng.uniform(0, 0.002))
        return item

    async def main() -> list[int]:
        return (await fan_out(stop, range(20), bulkhead=7, engine=engine)).outputs()

    task = loop.create_task(main())
    task.add_done_callback(lambda _: loop.stop())
    stops = 0
    while not task.done():
        loop.run_forever()
        stops += 1
    assert stops > 1
    assert task.result() == list(range(20))
    loop.close()


@ends(stdout="cleaned up\n")
def left_to_the_end_of_asyncio_run(engine: str, rng: random.Random) -> None:
    kept = []

    async def clean_up(_: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            print("cleaned up")

    async def main() -> None:
        kept.append(asyncio.create_task(busy(engine)))
        kept.append(asyncio.create_task(_await(fan_out(clean_up, [1], engine=engine))))
        await asyncio.sleep(rng.uniform(0.001, 0.02))

    asyncio.run(main())
    assert all(task.cancelled() for task in kept)


async def _await(awaitable: Any) -> Any:
    return await awaitable


# --- the process ends before the run ----------------------------------------------------------------------------------


@ends(7, "cleaned up\n")
def exit_in_a_branch(engine: str, rng: random.Random) -> None:
    async def leave(item: int) -> None:
        if item == 3:
            await asyncio.sleep(rng.uniform(0, 0.01))
            sys.exit(7)
        try:
            await asyncio.sleep(60)
        finally:
            if item == 1:
                await asyncio.sleep(0)
                print("cleaned up")

    asyncio.run(_await(fan_out(leave, range(5), engine=engine)))


@ends(7)
def exit_in_a_task(engine: str, _: random.Random) -> None:
    Workflow[str](engine=engine).register("a", lambda: sys.exit(7)).add_exit_state("b").run("a")


@ends(7)
def exit_in_a_branch_on_a_thread(engine: str, _: random.Random) -> None:
    asyncio.run(_await(fan_out(lambda item: sys.exit(7) if item == 2 else block(0.01), range(4), engine=engine)))


@ends(3)
def exit_while_threads_work(engine: str, rng: random.Random) -> None:
    with suppress(SplitTimeoutError):
        asyncio.run(_await(fan_out(block, [60] * 4, timeout=rng.uniform(0.001, 0.02), engine=engine)))
    sys.exit(3)


@ends()
def end_of_main_while_threads_work(engine: str, _: random.Random) -> None:
    async def main() -> None:
        async def answer(item: int) -> int:
            return item or await asyncio.to_thread(block, 0.01) or 0

        await fan_out(lambda item: block(60 * item), [0, 1, 1], strategy=JoinStrategy.Any, engine=engine)
        await fan_out(answer, [0, 1, 1], strategy=JoinStrategy.Any, engine=engine)

    asyncio.run(main())


@ends(5)
def at_once_in_a_branch(engine: str, _: random.Random) -> None:
    async def leave(_: int) -> None:
        await asyncio.sleep(0)
        os._exit(5)

    async def main() -> None:
        await asyncio.gather(busy(engine), _await(fan_out(leave, [1], engine=engine)))

    asyncio.run(main())


@ends(stdout="end of main\n")
def daemon_thread(engine: str, rng: random.Random) -> None:
    under_way = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.005, under_way.set)
        await busy(engine)

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    assert under_way.wait(100)
    time.sleep(rng.uniform(0, 0.01))
    print("end of main")


@ends(stdout="end of main\ndone\n")
def thread_that_is_waited_for(engine: str, _: random.Random) -> None:
    works(engine)  # so that a worker is there: 3.12 starts no thread once main has ended

    def finish() -> None:
        asyncio.run(_await(fan_out(lambda _: asyncio.sleep(0.05), range(3), engine=engine)))
        works(engine)
        print("done")

    threading.Thread(target=finish).start()
    print("end of main", flush=True)


@ends(stdout="end of main\nat exit\n")
def run_at_exit(engine: str, _: random.Random) -> None:
    def last() -> None:
        flow = Workflow[str](engine=engine).add_exit_state("done")
        flow.register_map("start", quick, range(3), JoinConfig(JoinStrategy.All, "done"))
        assert flow.run("start") == "done"
        print("at exit")

    atexit.register(last)
    print("end of main")


@ends(stdout="at exit\n")
def threads_at_exit(engine: str, _: random.Random) -> None:
    """From 3.12 on nobody can start a thread then: an error, not a hang; on threads that are there it works."""

    def last() -> None:
        try:
            works(engine)
        except (CanoError, RuntimeError):
            assert sys.version_info >= (3, 12)
        print("at exit")

    atexit.register(last)


@ends()
def no_thread_to_be_had(engine: str, _: random.Random) -> None:
    """The system refuses: an error of the run, after clean-up, and no harm to later runs."""
    live: list[int] = []

    async def waits() -> None:
        live.append(1)
        try:
            await asyncio.sleep(60)
        finally:
            live.pop()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    start, threading.Thread.start = threading.Thread.start, refuse  # type: ignore[method-assign]
    flow = Workflow[str](engine=engine).add_exit_state("done")
    flow.register_split("start", [waits, lambda: 1, waits], JoinConfig(JoinStrategy.All, "done"))
    flow.register_map("data", add_one, range(5), JoinConfig(JoinStrategy.All, "done")).register("task", lambda: "done")
    for state in ("start", "data", "task"):
        try:
            flow.run(state, timeout=100)
        except (CanoError, RuntimeError) as error:
            assert "can't start new thread" in f"{error} {error.__cause__}", repr(error)
        else:
            raise AssertionError("no error came")
        assert not live
    threading.Thread.start = start  # type: ignore[method-assign]
    works(engine)


# --- fork -------------------------------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], None]) -> None:
    """Do something in a forked child, and see that it went well, in time."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(100)
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, os.waitstatus_to_exitcode(status)


@ends()
def fork_after_use(engine: str, _: random.Random) -> None:
    works(engine)
    in_a_child(lambda: works(engine))
    works(engine)


@ends()
def fork_while_threads_work(engine: str, rng: random.Random) -> None:
    async def main() -> None:
        run = asyncio.create_task(busy(engine))
        jobs = asyncio.create_task(_await(fan_out(block, [0.001] * 200, engine=engine)))
        await asyncio.sleep(rng.uniform(0, 0.01))
        in_a_child(lambda: works(engine))
        await jobs
        run.cancel()
        await asyncio.wait([run])

    asyncio.run(main())
    works(engine)


@ends()
def fork_in_a_branch(engine: str, _: random.Random) -> None:
    async def forking(item: int) -> int:
        await asyncio.sleep(0)
        in_a_child(lambda: works(engine))
        await asyncio.sleep(0)
        return item

    async def main() -> None:
        assert (await fan_out(forking, range(2), engine=engine)).outputs() == [0, 1]

    asyncio.run(main())


@ends()
def multiprocessing_by_fork(engine: str, _: random.Random) -> None:
    works(engine)
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.map(in_a_worker, [engine] * 4) == [True] * 4
    works(engine)


def in_a_worker(engine: str) -> bool:
    works(engine)
    return True


@ends()
def an_error_from_another_process(engine: str, _: random.Random) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        try:
            pool.apply(failing_worker, (engine,))
        except JoinError as error:
            assert isinstance(error.exceptions[0], Flaky)
            assert error.result is not None
            assert error.result.completed_count == 1
        else:
            raise AssertionError("no error came")


def failing_worker(engine: str) -> None:
    async def fail(_: int) -> None:
        raise Flaky

    asyncio.run(_await(fan_out(fail, range(3), engine=engine)))


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@ends(stdout="interrupted\n")
def ctrl_c(engine: str, rng: random.Random) -> None:
    """It surfaces once, after clean-up, and the next run works."""
    works(engine)  # or it may hit an import, half-way
    cleaned: list[int] = []
    live = 0

    async def tidy(item: int) -> None:
        nonlocal live
        live += 1
        try:
            await branch(item)
        finally:
            live -= 1
            cleaned.append(item)

    async def main() -> None:
        interrupt_soon(rng)
        while True:
            with suppress(SplitTimeoutError, JoinError):
                await fan_out(tidy, range(6), timeout=0.004, retry=Retry.fixed(3, 0.001), engine=engine)

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    assert live == 0
    works(engine)


@ends(stdout="interrupted\n")
def ctrl_c_without_a_handler(engine: str, rng: random.Random) -> None:
    """No `asyncio.run` catches the signal: KeyboardInterrupt is raised in whatever Python code runs at that moment."""
    works(engine)
    # Between the making of a coroutine and the `await` of it, no Python program is safe.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    loop = asyncio.new_event_loop()

    async def spin(item: int) -> int:
        for _ in range(item):
            await asyncio.sleep(0)
        return item

    async def main() -> None:
        interrupt_soon(rng)
        while True:
            split = await fan_out(spin, range(20), engine=engine)
            assert split.outputs() == list(range(20))

    task = loop.create_task(main())
    try:
        loop.run_until_complete(task)
    except KeyboardInterrupt:
        print("interrupted")
    # As asyncio.run would: what still runs is cancelled and waited for.
    while not task.done():
        task.cancel()
        with suppress(KeyboardInterrupt):
            loop.run_until_complete(asyncio.wait([task], timeout=1))
        if not task.done() and has_lost_its_step(task):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            break
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    del task, loop
    gc.collect()
    works(engine)


def has_lost_its_step(task: asyncio.Task[Any]) -> bool:
    """Whether asyncio has forgotten a task, which the test of `tests/faults` that interrupts the loop's own code shows.

    The loop takes what it is to call off its list, and then calls it: an interrupt between the two, or while a future's callbacks
    are put on the list, loses a task's next step, of any task of any program. Its `cancel` finds nothing to cancel then.
    """
    waiter = task._fut_waiter  # type: ignore[attr-defined]
    return waiter is None or bool(waiter.done())


def interrupt_soon(rng: random.Random) -> None:
    """Have a real SIGINT come, at a moment that nobody chose. Whoever hangs then is to say where, before he is given up.

    Where it comes in a destructor, or in a callback of a weak reference (asyncio's set of all tasks has them), Python drops it,
    says so, and goes on, as `tests/faults/test_interrupted_loop.py` shows. Whoever pressed the keys presses them again.
    """
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
    say = sys.unraisablehook

    def press(after: float) -> None:
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)).start()

    def again_if_dropped(found: Any) -> None:
        if found.exc_type is KeyboardInterrupt:
            press(0.01)
        else:
            say(found)

    sys.unraisablehook = again_if_dropped
    press(rng.uniform(0.0, 0.03))


# --- nobody waits for the run -----------------------------------------------------------------------------------------


@ends(stdout="cleaned up\n" * 2)
def dropped_half_way(engine: str, _: random.Random) -> None:
    """Whoever awaited the run is gone: the branches end all the same, their clean-up included."""

    async def tidy(item: int) -> None:
        try:
            await branch(item)
        finally:
            await asyncio.sleep(0)
            if item < 2:
                print("cleaned up")

    async def main() -> None:
        run = fan_out(tidy, range(4), engine=engine)
        run.send(None)
        await some_turns()
        run.close()
        await some_turns()

    asyncio.run(main())
    works(engine)


async def some_turns() -> None:
    """As many as clean-up needs, however little time they take or much passes meanwhile."""
    for _ in range(50):
        await asyncio.sleep(0)


@ends()
def dropped_with_its_loop(engine: str, _: random.Random) -> None:
    async def main() -> None:
        run = workflow(engine).orchestrate("start")
        run.send(None)
        run.close()

    asyncio.run(main())
    gc.collect()
    works(engine)


@ends()
def closed_before_it_began(engine: str, _: random.Random) -> None:
    workflow(engine).orchestrate("start").close()
    fan_out(quick, range(3), engine=engine).close()
    gc.collect()


sys.modules["programs"] = sys.modules[__name__]  # also where this is the program itself
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import more  # noqa: E402, F401 - it registers more of them here

if __name__ == "__main__":
    ENGINE = sys.argv[2]
    # A shell has its jobs in the background ignore Ctrl-C, and their children too: those that press it need the default.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    ENDINGS[sys.argv[1]][0](ENGINE, random.Random(sys.argv[3]))
