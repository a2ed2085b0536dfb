"""More programs for test_endings.py: forks at other moments, servers that fork, exits from everywhere, subinterpreters.

Registered with those of programs.py, which imports this at its end.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import importlib.abc
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec
from typing import Any

import programs
from programs import block, busy, ends, in_a_child, in_a_worker, quick, works

from cano import CancelToken, JoinConfig, JoinStrategy, MemoryStore, Retry, Workflow, as_completed, fan_out
from cano._engine import resolve

# --- fork: before, during, after --------------------------------------------------------------------------------------


@ends()
def fork_before_use(engine: str, _: random.Random) -> None:
    """A workflow is built, and first used in the children; then in the parent."""
    flow = Workflow[str](engine=engine).add_exit_state("done")
    flow.register_map("start", quick, range(3), JoinConfig(JoinStrategy.All, "threads"))
    flow.register("threads", lambda: "done")

    def use() -> None:
        assert flow.run("start", timeout=100) == "done"

    for _ in range(3):
        in_a_child(use)
    use()
    in_a_child(use)


@ends()
def fork_in_a_branch_on_a_thread(engine: str, _: random.Random) -> None:
    """The child has one thread, a worker's that lost its pool."""

    def forking(item: int) -> int:
        in_a_child(lambda: works(engine))
        return item

    async def main() -> list[int]:
        return (await fan_out(forking, range(2), engine=engine)).outputs()

    assert asyncio.run(main()) == [0, 1]
    works(engine)


@ends()
def fork_while_another_thread_imports(engine: str, _: random.Random) -> None:
    """The child has not got the thread that was half-way through a module, or through what the engine keeps of one."""
    begun = threading.Event()

    class Slow(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: Any, target: Any = None) -> None:
            if name.startswith("cano."):
                begun.set()
                time.sleep(0.02)  # the main thread forks within that

    sys.meta_path.insert(0, Slow())
    thread = threading.Thread(target=lambda: works(engine))
    thread.start()
    assert begun.wait(100)
    for _ in range(5):
        in_a_child(lambda: works(engine))
    thread.join(100)


@ends()
def fork_while_an_import_waits_for_it(_: str, __: random.Random) -> None:
    """Somebody's hook holds, from before the fork on, what the import of another thread needs: nobody waits for ever."""
    lock, begun, forking = threading.Lock(), threading.Event(), threading.Event()

    class Waits(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
            return ModuleSpec(name, self) if name == "uuid" else None

        def exec_module(self, module: Any) -> None:
            begun.set()
            forking.wait(100)
            with lock:
                pass

    def hold() -> None:
        lock.acquire()
        forking.set()

    sys.meta_path.insert(0, Waits())
    os.register_at_fork(before=hold, after_in_parent=lock.release, after_in_child=lock.release)
    assert "uuid" not in sys.modules  # which an observed run imports
    thread = threading.Thread(target=lambda: importlib.import_module("uuid"))
    thread.start()
    assert begun.wait(100)
    in_a_child(lambda: None)
    thread.join(100)


@ends()
def fork_of_a_fork(engine: str, _: random.Random) -> None:
    works(engine)

    def again() -> None:
        works(engine)
        in_a_child(lambda: works(engine))
        works(engine)

    in_a_child(again)


@ends()
def fork_while_a_store_is_written(engine: str, rng: random.Random) -> None:
    """Whoever held the store's lock is not there any more."""
    store: Any = resolve(engine).new_store()
    store.put("count", 0)
    stop = threading.Event()

    def slowly(count: int) -> int:
        time.sleep(0.0002)
        return count + 1

    def write() -> None:
        while not stop.is_set():
            store.update("count", slowly)
            store.append("list", 1)

    writers = [threading.Thread(target=write, daemon=True) for _ in range(3)]
    for writer in writers:
        writer.start()
    time.sleep(rng.uniform(0.001, 0.005))

    def use() -> None:
        before = store["count"]
        store.update("count", lambda count: count + 1)
        store.append("mine", 1)
        assert store["count"] == before + 1
        works(engine)

    for _ in range(3):
        in_a_child(use)
    stop.set()
    for writer in writers:
        writer.join(100)
    store.update("count", lambda count: count + 1)


@ends()
def fork_in_an_update(engine: str, _: random.Random) -> None:
    """Who forks holds the lock itself: on both sides it goes on, and leaves."""
    store: Any = resolve(engine).new_store()
    store.put("count", 0)

    def forking(count: int) -> int:
        child = os.fork()
        if child == 0:
            signal.alarm(100)
            return count + 100
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        return count + 1

    store.update("count", forking)
    store.update("count", lambda count: count + 1)
    thread = threading.Thread(target=store.update, args=("count", lambda count: count + 1))
    thread.start()
    thread.join(100)
    assert store["count"] in (3, 102)
    if store["count"] == 102:
        sys.stderr.flush()
        os._exit(0)


@ends()
def fork_while_tokens_are_used(engine: str, rng: random.Random) -> None:
    token, stop = CancelToken(), threading.Event()

    def use() -> None:
        while not stop.is_set():
            token.child()
            token._subscribe(int)()

    threads = [threading.Thread(target=use, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    time.sleep(rng.uniform(0, 0.002))

    def cancel() -> None:
        token.child()
        assert token.cancel("in the child")

    for _ in range(20):
        in_a_child(cancel)
    sys.setswitchinterval(before)
    stop.set()
    for thread in threads:
        thread.join(100)
    assert not token.cancelled


@ends(stdout="served\n" * 8)
def server_that_forks_workers(engine: str, rng: random.Random) -> None:
    """As gunicorn does: the application is loaded and warmed up, workers are forked, one is replaced while others serve."""
    flow = Workflow[str](engine=engine).add_exit_state("done")
    flow.register_map("start", quick, range(5), JoinConfig(JoinStrategy.All, "threads"))
    flow.register_map("threads", programs.add_one, range(5), JoinConfig(JoinStrategy.All, "done"))
    assert flow.run("start") == "done"
    asking, answering = os.pipe(), os.pipe()

    def worker() -> None:
        async def serve() -> None:
            stopped = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
            ready: asyncio.Queue[bytes] = asyncio.Queue()
            os.set_blocking(asking[0], False)

            def read() -> None:
                with suppress(BlockingIOError):
                    ready.put_nowait(os.read(asking[0], 1))

            asyncio.get_running_loop().add_reader(asking[0], read)
            os.write(answering[1], b"r")  # here I am

            async def answer() -> None:
                while await ready.get():
                    assert await flow.orchestrate("start", timeout=100) == "done"
                    os.write(answering[1], b"s")

            task = asyncio.create_task(answer())
            await stopped.wait()
            task.cancel()
            await asyncio.wait([task])

        code = 1
        try:
            signal.alarm(100)
            asyncio.run(serve())
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)

    def start() -> int:
        child = os.fork()
        if child == 0:
            worker()
        assert os.read(answering[0], 1) == b"r"
        return child

    def end(child: int) -> None:
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    workers = [start() for _ in range(3)]
    for request in range(8):
        os.write(asking[1], b"?")
        assert os.read(answering[0], 1) == b"s"
        print("served", flush=True)
        if request == rng.randrange(8):
            end(workers.pop(0))
            workers.append(start())
    for child in workers:
        end(child)
    assert flow.run("start") == "done"


@ends()
def multiprocessing_by_forkserver(engine: str, _: random.Random) -> None:
    works(engine)
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.map(in_a_worker, [engine] * 2) == [True] * 2
    works(engine)


@ends()
def process_pool_in_branches(engine: str, _: random.Random) -> None:
    """Branches that hand work to other processes, which run workflows themselves."""
    from concurrent.futures import ProcessPoolExecutor

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:

            async def branch(_: int) -> bool:
                return await loop.run_in_executor(pool, in_a_worker, engine)

            return (await fan_out(branch, range(4), engine=engine)).outputs()

    assert asyncio.run(main()) == [True] * 4


# --- exits from everywhere --------------------------------------------------------------------------------------------


def leaving(engine: str, place: str, leave: Callable[[], Any]) -> None:
    """Run something that leaves when it comes to a place, once: asyncio gives up at an exit during its clean-up."""
    left: list[str] = []

    def at(here: str) -> None:
        if here == place and not left:
            left.append(here)
            leave()

    def source() -> Iterator[int]:
        for number in range(6):
            if number == 2:
                at("source")
            yield number

    async def asynchronous() -> AsyncIterator[int]:
        for number in range(6):
            await asyncio.sleep(0)
            if number == 2:
                at("asynchronous source")
            yield number

    async def branch(number: int, store: MemoryStore) -> int:
        at("first step")
        try:
            await asyncio.sleep(0)
            at("after a yield")
            store.update("count", lambda count: at("update") or count + 1)
            if number == 1:
                raise LookupError
        finally:
            at("finally")
        if number == 3:
            await asyncio.sleep(30)
        return number

    def judge(progress: Any) -> str:
        at("strategy")
        return "proceed" if progress.succeeded >= 3 else "wait"

    def retry_on(_: BaseException) -> bool:
        at("retry_on")
        return False

    class Observer:
        def on_branch_success(self, _: Any) -> None:
            at("observer")

        def on_workflow_end(self, _: Any) -> None:
            at("last event")

    flow = Workflow[str](engine=engine).add_exit_state("done").add_observer(Observer())
    over = asynchronous if place == "asynchronous source" else source
    join: JoinConfig[str] = JoinConfig(JoinStrategy.Custom(judge), "threads", bulkhead=4)
    flow.register_map("start", branch, over, join, retry=Retry.fixed(2, 0, retry_on=retry_on))
    flow.register("threads", lambda: at("thread") or "task").register("task", lambda: at("task") or "done", inline=True)
    flow.store.put("count", 0)

    async def main() -> None:
        if place == "callback":
            asyncio.get_running_loop().call_later(0.0005, leave)
        others = asyncio.create_task(busy(engine))
        await flow.orchestrate("start")
        rows = as_completed(quick, range(5), engine=engine)
        async for _ in rows:
            at("rows")
        others.cancel()
        await asyncio.wait([others])
        at("end")

    asyncio.run(main())


PLACES = (
    "source", "asynchronous source", "first step", "after a yield", "update", "finally", "strategy", "retry_on", "observer",
    "last event", "thread", "task", "callback", "rows", "end",
)  # fmt: skip


@ends(9)
def exit_from_anywhere(engine: str, rng: random.Random) -> None:
    """`sys.exit` is obeyed, wherever it is called."""
    place = rng.choice(PLACES)
    try:
        leaving(engine, place, lambda: sys.exit(9))
    except SystemExit:
        raise
    except BaseException as error:
        raise AssertionError(f"from {place}: {error!r}") from error
    raise AssertionError(f"nobody left from {place}")


@ends(9)
def exit_from_an_observer(engine: str, _: random.Random) -> None:
    signal.alarm(100)
    leaving(engine, "observer", lambda: sys.exit(9))


@ends(6)
def at_once_from_anywhere(engine: str, rng: random.Random) -> None:
    leaving(engine, rng.choice(PLACES), lambda: os._exit(6))


@ends(-signal.SIGTERM)
def killed_by_sigterm(engine: str, rng: random.Random) -> None:
    """Nobody handles it: the process is gone, with the signal's own code."""
    threading.Timer(rng.uniform(0.0, 0.02), os.kill, (os.getpid(), signal.SIGTERM)).start()
    while True:
        with suppress(TimeoutError):
            asyncio.run(asyncio.wait_for(busy(engine), 0.005))


@ends(stdout="end of main\n")
def iterators_left_half_way(engine: str, _: random.Random) -> None:
    """Until the interpreter takes its modules apart."""
    kept: list[Any] = []

    async def main() -> None:
        rows = as_completed(programs.branch, range(6), engine=engine)
        flow = Workflow[str](engine=engine).add_exit_state("done")
        flow.register_map("start", quick, range(6), JoinConfig(JoinStrategy.All, "done"))
        events = flow.stream("start")
        kept.extend([rows, events, await anext(events)])

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    programs.kept = kept  # type: ignore[attr-defined]
    print("end of main")


@ends(stdout="end of main\n")
def many_daemon_threads(engine: str, rng: random.Random) -> None:
    """Each with a loop of its own, in the middle of something when the interpreter ends."""

    async def main() -> None:
        while True:
            await fan_out(quick, range(10), engine=engine)
            await fan_out(block, [0.0001] * 3, engine=engine)

    for _ in range(4):
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    time.sleep(rng.uniform(0.005, 0.03))
    print("end of main")


@ends(stdout="end of main\n")
def daemon_thread_that_computes(engine: str, _: random.Random) -> None:
    """A step of its branch takes longer than a thread may keep the lock: the interpreter ends in the midst of it."""
    computing = threading.Event()

    async def compute(_: int) -> None:
        while True:
            computing.set()
            for _ in range(2_000_000):
                pass
            await asyncio.sleep(0)

    threading.Thread(
        target=lambda: asyncio.run(programs._await(fan_out(compute, range(3), engine=engine))), daemon=True
    ).start()
    assert computing.wait(100)
    time.sleep(0.1)
    print("end of main")


@ends(stdout="end of main\njoined\n")
def daemon_thread_that_an_exit_function_joins(engine: str, rng: random.Random) -> None:
    """The function was registered first, so it is called when the engine has closed its gate: that opens again."""
    from cano._engine.leaving import leave

    loop = asyncio.new_event_loop()

    async def main() -> None:
        while True:
            await fan_out(quick, range(10), engine=engine)

    def drive() -> None:
        with suppress(RuntimeError):  # the loop was stopped before its future was done
            loop.run_until_complete(main())

    thread = threading.Thread(target=drive, daemon=True)

    def stop() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(50)
        print("joined" if not thread.is_alive() else "the thread is stuck")
        for task in (kept := asyncio.all_tasks(loop)):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        programs.kept = kept  # type: ignore[attr-defined]

    atexit.register(stop)
    atexit.unregister(leave)
    atexit.register(leave)
    thread.start()
    time.sleep(rng.uniform(0.005, 0.03))
    print("end of main")


@ends(stdout="[0, 1, 2]\nend of main\n")
def in_a_subinterpreter(engine: str, _: random.Random) -> None:
    """Runs there, on the engine that can be had there, and ends with a run pending."""
    works(engine)
    program = """if True:
        import asyncio, cano, gc
        async def branch(item):
            await asyncio.sleep(0)
            return item
        async def never(item):
            await asyncio.get_running_loop().create_future()
        async def main():
            print((await cano.fan_out(branch, range(3))).outputs(), flush=True)
        asyncio.run(main())
        async def pending():
            await cano.fan_out(never, range(3))
        loop = asyncio.new_event_loop()
        task = loop.create_task(pending())
        task._log_destroy_pending = False
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
    """
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        there = interpreters.create()
        there.exec(program)
        there.close()
    else:
        name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
        old: Any = __import__(name)
        number = old.create()
        assert old.run_string(number, program) is None
        old.destroy(number)
    gc.collect()
    works(engine)
    print("end of main")
