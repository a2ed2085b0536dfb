"""Sync callables run on worker threads: the loop stays free, and what cannot be stopped is let go of."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest

import cano
from cano import (
    AttemptTimeoutError,
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    SplitTimeoutError,
    TaskError,
    Workflow,
    fan_out,
    set_thread_limit,
)

# Real threads, so no jumps of the clock: what is waited for here is waited for in events, never in seconds.
pytestmark = pytest.mark.real_time

PATIENCE = 200  # seconds until a test that hangs gives up


@pytest.fixture
def limit():
    """Put the process-wide limit back."""
    yield set_thread_limit
    set_thread_limit(32)


def wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE)


# --- where they run ---


async def test_on_a_worker_thread(engine):
    result = await fan_out(lambda _: threading.get_ident(), range(5), engine=engine)
    assert threading.get_ident() not in result.outputs()


async def test_inline_runs_in_place(engine):
    result = await fan_out(lambda _: threading.get_ident(), range(5), inline=True, engine=engine)
    assert set(result.outputs()) == {threading.get_ident()}


async def test_a_states_task_too(engine):
    seen: list[int] = []

    def work() -> str:
        seen.append(threading.get_ident())
        return "end"

    workflow: Workflow[str] = Workflow(engine=engine).register("work", work).add_exit_state("end")
    await workflow.orchestrate("work")
    workflow.register("work", work, inline=True, replace=True)
    await workflow.orchestrate("work")
    assert seen[0] != threading.get_ident() == seen[1]


async def test_the_loop_goes_on_meanwhile(engine):
    started, go = threading.Event(), threading.Event()

    def block(_: int) -> str:
        started.set()
        wait(go)
        return "done"

    async def release() -> None:
        await asyncio.to_thread(wait, started)
        await asyncio.sleep(0)
        go.set()

    releasing = asyncio.create_task(release())
    result = await fan_out(block, [0], engine=engine)
    await releasing
    assert result.outputs() == ["done"]


@pytest.mark.alone
async def test_they_run_at_once(engine):
    barrier = threading.Barrier(8, timeout=PATIENCE)
    result = await fan_out(lambda _: barrier.wait(), range(8), engine=engine)
    assert sorted(result.outputs()) == list(range(8))


async def test_the_limit_of_the_process(engine, limit):
    limit(3)
    lock = threading.Lock()
    inside = most = 0
    full = threading.Event()

    def branch(_: int) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 3:
                full.set()
        wait(full)
        with lock:
            inside -= 1

    await fan_out(branch, range(30), engine=engine)
    assert most == 3


async def test_the_limit_may_grow_while_work_waits(engine, limit):
    limit(1)
    barrier = threading.Barrier(2, timeout=PATIENCE)
    first = threading.Event()

    def branch(_: int) -> None:
        first.set()
        barrier.wait()

    async def grow() -> None:
        await asyncio.to_thread(wait, first)
        limit(2)

    growing = asyncio.create_task(grow())
    await fan_out(branch, range(2), engine=engine)
    await growing


@pytest.mark.parametrize("given", [0, -1, True, 1.5, None])
def test_a_limit_below_one_is_refused(given):
    with pytest.raises(ConfigurationError):
        cano.set_thread_limit(given)


async def test_thousands_of_small_ones(engine):
    result = await fan_out(lambda item: item * 2, range(5000), engine=engine)
    assert result.outputs() == [item * 2 for item in range(5000)]


# --- context variables ---

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize("inline", [False, True])
async def test_context_variables_reach_it_and_stay_there(engine, inline):
    def branch(item: int) -> str:
        before = variable.get()
        variable.set(f"branch {item}")
        return before

    token = variable.set("caller")
    try:
        result = await fan_out(branch, range(3), inline=inline, engine=engine)
        assert result.outputs() == ["caller"] * 3
        assert variable.get() == "caller"
    finally:
        variable.reset(token)


# --- what it may answer ---


async def test_an_awaitable_is_awaited_on_the_loop(engine):
    async def answer(item: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return item, threading.get_ident()

    result = await fan_out(lambda item: answer(item), range(3), engine=engine)
    assert result.outputs() == [(item, threading.get_ident()) for item in range(3)]


@pytest.mark.parametrize("kind", [ValueError, StopIteration, GeneratorExit, asyncio.CancelledError])
async def test_errors(engine, kind):
    """Whatever it raises is the branch's own exception; also those that mean something to asyncio."""
    trouble = kind("trouble")

    def branch(_: int) -> None:
        raise trouble

    with pytest.raises(JoinError) as caught:
        await fan_out(branch, [0], engine=engine)
    assert caught.value.result is not None
    error = caught.value.result.errors[0].error
    assert error is not None
    assert trouble in (error, error.__cause__)


@pytest.mark.parametrize("kind", [ValueError, StopIteration])
async def test_errors_of_a_states_task(engine, kind):
    def work() -> str:
        raise kind("trouble")

    workflow: Workflow[str] = Workflow(engine=engine).register("work", work).add_exit_state("end")
    with pytest.raises(TaskError) as caught:
        await workflow.orchestrate("work")
    cause = caught.value.__cause__
    assert isinstance(cause, kind) or isinstance(cause.__cause__, kind)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_through(engine, kind):
    def branch(_: int) -> None:
        raise kind

    with pytest.raises(kind):
        asyncio.run(fan_out(branch, [0], engine=engine))


async def test_retries(engine):
    tries: list[int] = []

    def branch(item: int) -> int:
        tries.append(item)
        if tries.count(item) < 3:
            raise ValueError(item)
        return item

    result = await fan_out(branch, range(3), retry=Retry.fixed(5, 0), engine=engine)
    assert result.outputs() == [0, 1, 2]
    assert {row.attempts for row in result.successes} == {3}


# --- what cannot be stopped ---


class Held:
    """A sync branch that answers when it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go = threading.Event()
        self.ended = threading.Event()

    def run(self, item: Any) -> Any:
        if item == "quick":
            wait(self.started)
            return item
        self.started.set()
        wait(self.go)
        self.ended.set()
        return item

    async def let_go(self) -> None:
        self.go.set()
        await asyncio.to_thread(wait, self.ended)
        for _ in range(3):  # whatever the thread reports has its turn
            await asyncio.sleep(0)


async def test_a_loser_on_a_thread_is_dropped_and_not_waited_for(engine):
    held = Held()
    result = await fan_out(held.run, ["held", "quick"], strategy=JoinStrategy.Any, engine=engine)
    assert not held.ended.is_set()
    assert (result.outputs(), result.cancelled, result.total_count) == (["quick"], (0,), 2)
    await held.let_go()
    assert (result.outputs(), result.cancelled) == (["quick"], (0,))


async def test_an_error_of_a_dropped_thread_changes_nothing(engine, caplog):
    started, go, ended = threading.Event(), threading.Event(), threading.Event()

    def branch(item: int) -> int:
        if item:
            wait(started)
            return item
        started.set()
        wait(go)
        ended.set()
        raise ValueError

    result = await fan_out(branch, [0, 1], strategy=JoinStrategy.Any, engine=engine)
    go.set()
    await asyncio.to_thread(wait, ended)
    await asyncio.sleep(0)
    assert result.cancelled == (0,)


async def test_an_awaitable_of_a_dropped_thread_is_closed(engine):
    """Or Python warns that it was never awaited."""
    held = Held()

    async def answer() -> None: ...

    def branch(item: str) -> Any:
        value = held.run(item)
        return answer() if item == "held" else value

    await fan_out(branch, ["held", "quick"], strategy=JoinStrategy.Any, engine=engine)
    await held.let_go()


async def test_one_that_no_worker_has_taken_up_never_runs(engine, limit):
    limit(1)
    held = Held()
    ran: list[Any] = []

    def branch(item: Any) -> Any:
        ran.append(item)
        return held.run(item)

    task = asyncio.create_task(fan_out(branch, range(4), engine=engine))
    await asyncio.to_thread(wait, held.started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await held.let_go()
    assert (await fan_out(lambda item: item, ["after"], engine=engine)).outputs() == ["after"]
    assert ran == [0]


async def test_a_cancelled_run_does_not_wait_for_its_threads(engine):
    held = Held()
    task = asyncio.create_task(fan_out(held.run, [0], engine=engine))
    await asyncio.to_thread(wait, held.started)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("enough",)
    assert not held.ended.is_set()
    await held.let_go()


async def test_a_cancelled_run_does_not_wait_for_the_thread_of_a_states_task(engine):
    held = Held()
    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    workflow.register("work", lambda: held.run("end"))
    task = asyncio.create_task(workflow.orchestrate("work"))
    await asyncio.to_thread(wait, held.started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await held.let_go()


async def test_a_split_timeout_does_not_wait_for_threads(engine):
    held = Held()
    with pytest.raises(SplitTimeoutError) as caught:
        await fan_out(held.run, [0], timeout=0.05, engine=engine)
    assert caught.value.result is not None
    assert caught.value.result.cancelled == (0,)
    assert not held.ended.is_set()
    await held.let_go()


async def test_an_attempt_timeout_drops_the_attempt(engine):
    held = Held()
    with pytest.raises(JoinError) as caught:
        await fan_out(held.run, [0], attempt_timeout=0.05, engine=engine)
    assert isinstance(caught.value.exceptions[0], AttemptTimeoutError)
    assert not held.ended.is_set()
    await held.let_go()


async def test_an_attempt_timeout_counts_from_when_a_worker_took_it_up(engine, limit):
    """Eight attempts behind one worker, a fifth of the limit each: the last waits for longer than that, and none is late."""
    limit(1)

    async def completed(work: float) -> int:
        result = await fan_out(
            lambda _: time.sleep(work), range(8), attempt_timeout=5 * work, fail_fast=False, engine=engine
        )
        return result.completed_count

    try:
        assert await completed(0.04) == 8
    except JoinError:  # a machine that stands still for that long does so once, and not for ten times that long
        assert await completed(0.4) == 8


async def test_a_retry_beside_the_thread_of_a_timed_out_attempt(engine):
    held = Held()
    tries: list[int] = []

    def branch(item: int) -> Any:
        tries.append(item)
        return held.run(item) if len(tries) == 1 else "second"

    result = await fan_out(branch, [0], attempt_timeout=0.05, retry=Retry.fixed(1, 0), engine=engine)
    assert result.outputs() == ["second"]
    await held.let_go()
    assert result.outputs() == ["second"]
    assert result.successes[0].attempts == 2


async def test_events_of_a_dropped_thread(engine):
    held = Held()
    kinds: list[tuple[str, int | None]] = []

    class Listener:
        def on_branch_success(self, event: Any) -> None:
            kinds.append((event.kind, event.branch))

        on_branch_cancelled = on_branch_success

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end").add_observer(Listener())
    workflow.register_map("fan", held.run, ["held", "quick"], JoinConfig(JoinStrategy.Any, "end"))
    await workflow.orchestrate("fan")
    await held.let_go()
    assert kinds == [("branch_success", 1), ("branch_cancelled", 0)]


# --- runs in several threads ---


def test_one_workflow_in_many_threads(engine):
    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    join = JoinConfig(JoinStrategy.All, "end", store_partial_results=True)

    async def coroutine(item: int) -> int:
        await asyncio.sleep(0)
        return item

    workflow.register_map("fan", coroutine, range(50), join)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                store = cano.MemoryStore()
                assert workflow.run("fan", store=store) == "end"
                assert store.get("split_results").outputs() == list(range(50))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []


def test_sync_branches_of_many_loops_share_the_workers(engine):
    failures: list[BaseException] = []

    def work() -> None:
        try:
            result = asyncio.run(fan_out(lambda item: item, range(200), engine=engine))
            assert result.outputs() == list(range(200))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []


def test_a_loop_closed_under_its_threads(engine):
    """The thread finds nobody to report to, and says nothing."""
    held = Held()

    async def main() -> None:
        task = asyncio.create_task(fan_out(held.run, [0], engine=engine))
        await asyncio.to_thread(wait, held.started)
        task.cancel()

    asyncio.run(main())
    held.go.set()
    wait(held.ended)
    assert asyncio.run(fan_out(lambda item: item, [1], engine=engine)).outputs() == [1]
