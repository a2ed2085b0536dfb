"""Several event loops in several threads, one workflow, one store: what a free-threaded build runs truly at once.

On a build with a lock the same tests run, with threads switched as often as the interpreter can.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import subprocess
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cano import (
    CancelToken,
    JoinConfig,
    JoinError,
    JoinStrategy,
    MemoryStore,
    Retry,
    RunCancelledError,
    Workflow,
    as_completed,
    fan_out,
    sleep,
)

pytestmark = pytest.mark.fault("F4", "F11")

# Where threads wait for each other in turn, more of them only take longer.
THREADS = 16 if sysconfig.get_config_var("Py_GIL_DISABLED") else 6
PATIENCE = 200  # seconds until a test that hangs gives up


@pytest.fixture(autouse=True, params=range(200 if os.environ.get("CANO_SOAK") == "1" else 1))
def switching(request: pytest.FixtureRequest) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """What `work(number)` gives on that many threads, which begin together."""
    barrier = threading.Barrier(THREADS)

    def begin(number: int) -> Any:
        barrier.wait(PATIENCE)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return [done.result(PATIENCE) for done in [pool.submit(begin, number) for number in range(THREADS)]]


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this build always has a lock")
def test_the_lock_stays_away() -> None:
    """The native module says that it needs none; an import that did not would bring it back, with a warning."""
    program = (
        "import asyncio, sys, cano, cano._core\n"
        "async def echo(item):\n    await cano.sleep(0)\n    return item\n"
        "asyncio.run(cano.fan_out(echo, range(3), engine='native'))\n"
        "print(sys._is_gil_enabled())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_one_workflow_on_many_loops(engine: str) -> None:
    """Every kind of step at once: splits of each speed, retries, worker threads, timeouts, losers, the engine's timers."""
    store = MemoryStore()

    async def quick(item: int, store: MemoryStore) -> int:
        store.update("quick", lambda count: count + 1)
        return item

    def on_a_thread(item: int, store: MemoryStore) -> int:
        store.append("threads", item)
        return item

    async def slow(item: int) -> int:
        await sleep(0.001 * (item % 3))
        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(0.001)
        return item

    def flaky() -> Callable[[int], Any]:
        failed = threading.local()

        async def flaky(item: int) -> int:
            await asyncio.sleep(0)
            tried = failed.__dict__.setdefault("items", set())
            if item not in tried:
                tried.add(item)
                raise ConnectionError
            tried.discard(item)
            return item

        return flaky

    all_of = JoinConfig(JoinStrategy.All, "slow")
    workflow: Workflow[str] = (
        Workflow(store, engine=engine)
        .register_map("quick", quick, range(200), all_of.with_join_state("threads"))
        .register_map("threads", on_a_thread, range(8), all_of)
        .register_map("slow", slow, range(20), all_of.with_join_state("flaky").with_bulkhead(7))
        .register_map("flaky", flaky(), range(5), all_of.with_join_state("any"), retry=Retry.fixed(2, 0.001))
        .register_map("any", slow, range(9), JoinConfig(JoinStrategy.Any, "end"))
        .add_exit_state("end")
    )
    store.put("quick", 0)
    store.put("threads", [])
    rounds = 4

    async def many() -> list[str]:
        return list(await asyncio.gather(workflow.orchestrate("quick"), workflow.orchestrate("quick")))

    def run(_number: int) -> list[str]:
        return [state for _ in range(rounds) for state in asyncio.run(many())]

    assert at_once(run) == [["end"] * 2 * rounds] * THREADS
    runs = THREADS * rounds * 2
    assert store.get("quick") == 200 * runs
    assert sorted(store.get("threads")) == sorted(list(range(8)) * runs)


def test_results_are_ones_own(engine: str) -> None:
    async def echo(item: tuple[int, int]) -> tuple[int, int]:
        await sleep(random.random() * 0.002)
        if item[1] == 13:
            raise LookupError(item)
        return item

    def run(number: int) -> list[tuple[int, int]]:
        async def main() -> list[tuple[int, int]]:
            rows = [
                row.result
                async for row in as_completed(echo, [(number, step) for step in range(40)], engine=engine)
                if row.error is None
            ]
            with contextlib.suppress(JoinError):
                await fan_out(echo, [(number, step) for step in range(40)], engine=engine)
            return sorted(rows)

        return asyncio.run(main())

    for number, rows in enumerate(at_once(run)):
        assert rows == [(number, step) for step in range(40) if step != 13]


@pytest.mark.parametrize("turn", range(5))
def test_one_token_ends_runs_on_every_loop(engine: str, turn: int) -> None:
    token, ended = CancelToken(), MemoryStore()
    ended.put("branches", 0)
    begun = threading.Barrier(THREADS + 1)

    async def branch(item: int) -> None:
        if item == 2:
            begun.wait(PATIENCE)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.update("branches", lambda count: count + 1)

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    workflow.register_map("fan", branch, range(3), JoinConfig(JoinStrategy.All, "end"))

    def run(_number: int) -> str:
        with pytest.raises(RunCancelledError, match="enough"):
            asyncio.run(workflow.orchestrate("fan", cancel=token))
        return "cancelled"

    def cancel() -> None:
        begun.wait(PATIENCE)
        token.cancel(f"enough {turn}")

    canceller = threading.Thread(target=cancel)
    canceller.start()
    assert at_once(run) == ["cancelled"] * THREADS
    canceller.join(PATIENCE)
    assert ended.get("branches") == 3 * THREADS


def test_a_token_cancelled_at_any_moment(engine: str) -> None:
    """The runs end at about the moment of the cancellation, so that both orders occur: each ends once, either way."""
    outcomes: list[str] = []

    def run(number: int) -> None:
        chance = random.Random(number)
        for _ in range(15):
            token = CancelToken()
            workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
            workflow.register_map("fan", sleep, [0.001, 0.002], JoinConfig(JoinStrategy.All, "end"))
            canceller = threading.Timer(chance.random() * 0.004, token.cancel)
            canceller.start()
            try:
                outcomes.append(asyncio.run(workflow.orchestrate("fan", cancel=token)))
            except RunCancelledError:
                outcomes.append("cancelled")
            canceller.join(PATIENCE)

    at_once(run)
    assert len(outcomes) == 15 * THREADS
    assert set(outcomes) <= {"end", "cancelled"}


def test_a_store_under_every_operation_at_once(engine: str, store: MemoryStore) -> None:
    """Readers of everything while everything changes: no error but the documented one, and no count is lost."""
    store.put("count", 0)
    store.put("list", [])
    stop = threading.Event()

    def write(number: int) -> int:
        chance, scope = random.Random(number), store.scoped(f"scope {number}")
        for step in range(600):
            store.update("count", lambda value: value + 1)
            store.append("list", (number, step))
            key = f"key {chance.randrange(20)}"
            match chance.randrange(5):
                case 0:
                    store.put(key, step)
                case 1:
                    store.pop(key, None)
                case 2:
                    scope[key] = number
                case 3:
                    with contextlib.suppress(KeyError):
                        store.remove(key)
                case _:
                    store.setdefault(key, step)
        assert set(scope.values()) <= {number}
        return 600

    def read() -> None:
        while not stop.is_set():
            shot = store.snapshot()
            assert shot["count"] <= store.get("count")
            mine = [step for number, step in list(store.get("list")) if number == 0]
            assert mine == list(range(len(mine)))
            assert all(isinstance(key, str) for key in store.keys())  # noqa: SIM118 - the method is what is tested
            for key in store:
                store.get(key, default=None)
            len(store)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        done = sum(at_once(write))
    finally:
        stop.set()
        for reader in readers:
            reader.join(PATIENCE)
    assert not any(reader.is_alive() for reader in readers)
    assert store.get("count") == done
    assert sorted(store.get("list")) == [(number, step) for number in range(THREADS) for step in range(600)]


def test_results_dropped_on_another_thread(engine: str) -> None:
    """What a run leaves behind may be looked at, and end its life, on any thread."""

    class Value:
        pass

    values: list[weakref.ref[Value]] = []

    async def make(_item: int) -> Value:
        value = Value()
        values.append(weakref.ref(value))
        await asyncio.sleep(0)
        return value

    results = at_once(lambda _: asyncio.run(fan_out(make, range(20), engine=engine)))
    assert [len(result.outputs()) for result in results] == [20] * THREADS
    pending = [results.pop() for _ in range(THREADS)]

    def drop(_number: int) -> None:
        result = pending.pop()
        assert result.completed_count == result.total_count == 20
        assert isinstance(result.by_index(3).result, Value)

    at_once(drop)
    gc.collect()
    assert [value for value in values if value() is not None] == []


def test_a_branch_is_no_other_threads_business(engine: str) -> None:
    """As of an asyncio.Task: cancelling goes through the loop that owns it."""

    async def branch(item: int) -> str:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        threading.Thread(target=loop.call_soon_threadsafe, args=(task.cancel, f"from outside {item}")).start()
        try:
            await loop.create_future()
        except asyncio.CancelledError as error:
            task.uncancel()
            return str(error)
        return "not"

    def run(_number: int) -> list[str]:
        return asyncio.run(fan_out(branch, range(3), engine=engine)).outputs()

    assert at_once(run) == [[f"from outside {item}" for item in range(3)]] * THREADS
