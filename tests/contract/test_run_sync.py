"""`run()`: the same from code that has no event loop."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
from typing import Any

import pytest
from tests.contract.given import Boom, S, join, never, to

from cano import (
    CancelToken,
    ConfigurationError,
    MemoryStore,
    RunCancelledError,
    TaskError,
    Workflow,
    WorkflowTimeoutError,
)

pytestmark = pytest.mark.fault("F4")


def simple(engine: str) -> Workflow[Any]:
    return Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE)


def test_run_returns_the_exit_state(engine: str) -> None:
    assert simple(engine).run(S.START) is S.DONE


def test_run_takes_what_orchestrate_takes(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, never).add_exit_state(S.DONE)
    with pytest.raises(WorkflowTimeoutError):
        workflow.run(S.START, timeout=0.01)
    token = CancelToken()
    token.cancel("early")
    with pytest.raises(RunCancelledError, match="early"):
        workflow.run(S.START, cancel=token)
    own = MemoryStore()
    workflow.register(S.WORK, lambda store: store.put("k", 1) or S.DONE)
    assert workflow.run(S.WORK, store=own) is S.DONE
    assert own.get("k") == 1


def test_run_raises_what_the_run_raises(engine: str) -> None:
    async def fail() -> S:
        raise Boom

    with pytest.raises(TaskError) as caught:
        Workflow(engine=engine).register(S.START, fail).add_exit_state(S.DONE).run(S.START)
    assert isinstance(caught.value.__cause__, Boom)


def test_run_runs_splits_threads_and_all(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [lambda: threading.get_ident()] * 3, join(store_partial_results=True))
    assert workflow.run(S.START) is S.DONE
    assert threading.get_ident() not in workflow.store.get("split_results").outputs()


async def test_inside_a_loop_run_raises_and_says_to_await_orchestrate(engine: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write: await workflow\.orchestrate"):
        simple(engine).run(S.START)


async def test_inside_a_branch_run_raises_too(engine: str) -> None:
    async def nested() -> None:
        simple(engine).run(S.START)

    workflow = Workflow(engine=engine).register_split(S.START, [nested], join()).add_exit_state(S.DONE)
    with pytest.raises(ExceptionGroup) as caught:
        await workflow.orchestrate(S.START)
    assert isinstance(caught.value.exceptions[0], ConfigurationError)


async def test_on_a_thread_beside_a_loop_run_works(engine: str) -> None:
    """A sync task has no loop in its thread, so it may run a workflow."""
    outer = Workflow(engine=engine).register(S.START, lambda: simple(engine).run(S.START)).add_exit_state(S.DONE)
    assert await outer.orchestrate(S.START) is S.DONE


def test_many_threads_run_one_workflow(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)

    async def square(item: int) -> int:
        await asyncio.sleep(0)
        return item * item

    workflow.register_map(S.START, square, range(50), join(store_partial_results=True))
    stores = [MemoryStore() for _ in range(8)]
    results: list[Any] = []

    def work(store: MemoryStore) -> None:
        results.append(workflow.run(S.START, store=store))

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert results == [S.DONE] * 8
    assert all(store.get("split_results").outputs() == [i * i for i in range(50)] for store in stores)


def test_run_leaves_nothing_behind(engine: str) -> None:
    workflow = simple(engine)
    for _ in range(3):
        workflow.run(S.START)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_a_context_variable_does_not_leak_out_of_run(engine: str) -> None:
    number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)

    async def change() -> S:
        number.set(5)
        return S.DONE

    Workflow(engine=engine).register(S.START, change).add_exit_state(S.DONE).run(S.START)
    assert number.get() == 0


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="there is no way to send oneself a signal here")
@pytest.mark.parametrize("place", ["state", "branch"])
def test_ctrl_c_goes_through_after_clean_up(engine: str, place: str) -> None:
    cleaned: list[int] = []

    async def wait() -> Any:
        try:
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    if place == "state":
        workflow.register(S.START, wait)
    else:
        workflow.register_split(S.START, [wait, never], join())
    with pytest.raises(KeyboardInterrupt):
        workflow.run(S.START)
    assert cleaned == [1]
    assert simple(engine).run(S.START) is S.DONE
