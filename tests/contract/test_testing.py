"""The helpers for users' tests: virtual time above all."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from cano import Retry, Workflow
from cano.observe import KINDS
from cano.testing import DeadlockError, RecordingObserver, VirtualTimeLoop, flaky, run, virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture(autouse=True)
def quickly() -> Iterator[None]:
    """Whatever these tests sleep, they take no time."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 25  # the shortest of them would take 40


def test_a_sleep_takes_no_time_and_lasts_exactly() -> None:
    async def scenario() -> float:
        await asyncio.sleep(3600)
        await asyncio.sleep(0.1)
        return now()

    assert run(scenario()) == 3600.1
    assert run(scenario(), start=1e6) == 1e6 + 3600.1


def test_sleeps_longer_than_a_selector_waits() -> None:
    async def scenario() -> float:
        await asyncio.sleep(10 * 86_400)
        return now()

    assert run(scenario()) == 864_000


def test_timers_fire_in_their_order() -> None:
    async def scenario() -> list[tuple[int, float]]:
        order: list[tuple[int, float]] = []

        async def sleeper(delay: int) -> None:
            await asyncio.sleep(delay / 10)
            order.append((delay, now()))

        await asyncio.gather(*map(sleeper, (5, 1, 3, 2, 4)))
        return order

    assert run(scenario()) == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.5)]


def test_time_stands_still_while_something_is_ready() -> None:
    async def scenario() -> float:
        asyncio.get_running_loop().call_later(1, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
        return now()

    assert run(scenario()) == 0


def test_timeouts_of_asyncio() -> None:
    async def scenario() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), 10)
        return now()

    assert run(scenario()) == 40


def test_time_stands_still_while_a_thread_works() -> None:
    async def scenario() -> float:
        async with asyncio.timeout(0.001):
            assert await asyncio.to_thread(lambda: time.sleep(0.05) or "done") == "done"
        return now()

    assert run(scenario()) == 0


def test_time_stands_still_while_a_sync_task_works() -> None:
    def slow() -> str:
        time.sleep(0.05)
        return "end"

    workflow = Workflow(engine="python").register("start", slow, attempt_timeout=0.01).add_exit_state("end")
    assert run(workflow.orchestrate("start")) == "end"


def test_time_stands_still_while_it_is_held() -> None:
    async def scenario() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        woken = loop.create_future()

        def work() -> None:
            with loop.hold():
                begun.set()
                time.sleep(0.05)
                loop.call_soon_threadsafe(woken.set_result, "woken")

        begun = threading.Event()
        thread = threading.Thread(target=work)
        thread.start()
        assert begun.wait(200)
        async with asyncio.timeout(1):
            answer = await woken
        thread.join()
        return answer, now()

    assert run(scenario()) == ("woken", 0)


def test_time_moves_on_when_a_thread_waits_for_the_loop() -> None:
    async def scenario() -> float:
        go_on = threading.Event()
        asyncio.get_running_loop().call_later(60, go_on.set)
        assert await asyncio.to_thread(go_on.wait, 10)
        return now()

    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(patience=0.05)) as runner:
        assert runner.run(scenario()) == 60


def test_connections_are_given_a_moment() -> None:
    async def scenario() -> tuple[bytes, float]:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            loop = asyncio.get_running_loop()
            threading.Timer(0.05, left.send, [b"x"]).start()
            async with asyncio.timeout(60):
                return await loop.sock_recv(right, 10), now()

    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(grace=3)) as runner:
        assert runner.run(scenario()) == (b"x", 0)


def test_an_idle_connection_does_not_stop_time() -> None:
    async def scenario() -> float:
        left, right = socket.socketpair()
        with left, right:
            right.setblocking(False)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(60):
                    await asyncio.get_running_loop().sock_recv(right, 10)
        return now()

    assert run(scenario()) == 60


def test_a_deadlock_is_told_and_cleaned_up() -> None:
    cleaned: list[str] = []

    async def waits_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("up")

    with pytest.raises(DeadlockError, match="waits_for_ever"):
        run(waits_for_ever())
    assert cleaned == ["up"]


def test_the_loop_goes_on_after_a_deadlock() -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        with pytest.raises(DeadlockError):
            runner.run(asyncio.Event().wait())
        assert runner.run(asyncio.sleep(5, "fine")) == "fine"


def test_a_decorated_test_is_plain_and_keeps_its_arguments() -> None:
    @virtual_time
    async def check(one: int, *, other: int = 2) -> tuple[int, int, float]:
        """What it says."""
        await asyncio.sleep(one)
        return one, other, now()

    assert not inspect.iscoroutinefunction(check)
    assert list(inspect.signature(check).parameters) == ["one", "other"]
    assert (check.__name__, check.__doc__) == ("check", "What it says.")
    assert check(3, other=4) == (3, 4, 3.0)

    @virtual_time(start=100)
    async def later() -> float:
        return now()

    assert later() == 100


@virtual_time
async def test_the_example_of_the_module() -> None:
    seen = RecordingObserver()
    workflow = (
        Workflow(engine="python")
        .register("load", flaky(2, then="done"), retry=Retry.exponential(3, base=1, jitter=0))
        .add_exit_state("done")
    )
    workflow.add_observer(seen)
    report = await workflow.execute("load")
    assert report.elapsed == 3.0
    assert [event.value for event in seen.of("retry")] == [1.0, 2.0]


# --- the other helpers ---


def test_a_recording_observer_hears_everything() -> None:
    seen = RecordingObserver()
    assert all(callable(getattr(seen, f"on_{kind}")) for kind in KINDS)
    workflow = Workflow(engine="python").register("a", lambda: "b", inline=True).add_exit_state("b")
    workflow.add_observer(seen)
    run(workflow.orchestrate("a"))
    assert seen.kinds()[0] == "workflow_start"
    assert seen.kinds()[-1] == "workflow_end"
    assert [event.state for event in seen.of("state_enter")] == ["a", "b"]
    assert len(seen.of("state_enter", "workflow_end")) == 3
    assert repr(seen) == f"<RecordingObserver {len(seen.events)} events>"
    with pytest.raises(ValueError, match="'nonsense'"):
        seen.of("nonsense")
    seen.clear()
    assert seen.events == []


def test_a_flaky_task() -> None:
    task = flaky(2, then="done")
    for number in (1, 2):
        with pytest.raises(RuntimeError, match=f"failure {number} of 2"):
            asyncio.run(task.run())
    assert asyncio.run(task.run()) == asyncio.run(task.run()) == "done"
    assert task.calls == 4
    assert repr(task) == "<flaky task: 2 failures, then str; 4 calls>"


def test_what_a_flaky_task_raises() -> None:
    mine = OSError("mine")
    with pytest.raises(OSError, match="mine") as caught:
        asyncio.run(flaky(1, "x", mine).run())
    assert caught.value is mine
    with pytest.raises(KeyError):
        asyncio.run(flaky(1, "x", KeyError).run())
