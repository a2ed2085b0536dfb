"""The native branch as an object: what may be done with it from where, and how long it can be used."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from cano import Workflow, fan_out

core = pytest.importorskip("cano._core", reason="the native engine is not built here")


async def in_a_branch(work: Callable[[Any], Any]) -> Any:
    """What `work` makes of a branch's own task, called inside that branch."""

    async def branch(_: object) -> Any:
        await asyncio.sleep(0)
        return work(asyncio.current_task())

    return (await fan_out(branch, [None], engine="native")).outputs()[0]


def on_another_thread(work: Callable[[], Any]) -> Any:
    """What came of it there: a value, or an error."""
    answers: list[Any] = []

    def call() -> None:
        try:
            answers.append(work())
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return answers[0]


async def test_it_is_hashable_and_has_weak_references() -> None:
    def look(task: Any) -> tuple[Any, ...]:
        assert type(task) is core.Branch
        return hash(task) == hash(task), {task: 1}[task], task == task, weakref.ref(task)() is task

    assert await in_a_branch(look) == (True, 1, True, True)


async def test_a_weak_reference_dies_with_it() -> None:
    gone = await in_a_branch(weakref.ref)
    await asyncio.sleep(0)
    assert gone() is None


async def test_it_is_said_what_it_is() -> None:
    kept = await in_a_branch(lambda task: (repr(task), task))
    assert kept[0] == "<Branch cano-in_a_branch.branch-0 pending>"
    assert repr(kept[1]).endswith("finished>")
    assert on_another_thread(lambda: repr(kept[1])) == "<Branch of another thread's event loop>"


async def test_it_can_be_used_after_its_end() -> None:
    task = await in_a_branch(lambda task: task)
    assert task.done()
    assert not task.cancelled()
    assert task.result() is task
    assert task.exception() is None
    assert task.cancel() is False
    assert await task is task
    called: list[Any] = []
    task.add_done_callback(called.append)
    await asyncio.sleep(0)
    assert called == [task]
    del task, called
    gc.collect()


@pytest.mark.parametrize(
    "use",
    [
        lambda task: task.cancel(),
        lambda task: task.uncancel(),
        lambda task: task.result(),
        lambda task: task.get_name(),
        lambda task: task.get_coro(),
        lambda task: task.add_done_callback(print),
        lambda task: next(iter(task)),
    ],
    ids=["cancel", "uncancel", "result", "get_name", "get_coro", "add_done_callback", "await"],
)
async def test_on_another_thread_it_refuses(use: Callable[[Any], Any]) -> None:
    error = await in_a_branch(lambda task: on_another_thread(lambda: use(task)))
    assert isinstance(error, RuntimeError)
    assert "call_soon_threadsafe" in str(error)


async def test_what_the_error_advises_works() -> None:
    async def branch(_: object) -> str:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        threading.Thread(target=loop.call_soon_threadsafe, args=(task.cancel, "from afar")).start()
        try:
            await loop.create_future()
        except asyncio.CancelledError as error:
            return str(error)
        raise AssertionError("not cancelled")

    assert (await fan_out(branch, [None], engine="native")).outputs() == ["from afar"]


async def test_a_run_on_another_thread_refuses() -> None:
    workflow = Workflow[str](engine="native").register("a", asyncio.get_running_loop().create_future)
    workflow.add_exit_state("b")
    run = workflow._start("a", None, None, None, None)
    assert repr(run) == "<cano run, not begun>"
    run.send(None)
    assert repr(run) == "<cano run in 'a'>"
    for use in (lambda: run.send(None), run.path, lambda: run.throw(ValueError)):
        error = on_another_thread(use)
        assert isinstance(error, RuntimeError)
        assert "another thread" in str(error)
    assert on_another_thread(lambda: repr(run)) == "<cano run of another thread's event loop>"
    assert run.path() == ("a",)
    run.close()


async def test_a_split_on_another_thread_refuses() -> None:
    run = fan_out(asyncio.sleep, [0.01], engine="native")
    run.send(None)
    split: Any = run
    while not isinstance(split, core.SplitRun):
        split = split.cr_await
    for use in (lambda: split.send(None), lambda: split.throw(ValueError)):
        error = on_another_thread(use)
        assert isinstance(error, RuntimeError)
        assert "another thread" in str(error)
    run.close()
    await asyncio.sleep(0)


# --- closed by another thread: whoever lets go of a coroutine closes it, the collector too, wherever that is ---


def begun(what: str, ended: list[int]) -> tuple[Any, Any]:
    """A run that waits, and the loop it began on, which nobody runs now."""

    async def wait(*_: object) -> str:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(1)
        raise AssertionError

    loop = asyncio.new_event_loop()
    workflow = Workflow[str](engine="native").add_exit_state("b").register("a", wait)
    run = fan_out(wait, [None], engine="native") if what == "split" else workflow.orchestrate("a")
    task = loop.create_task(run)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.run_until_complete(asyncio.sleep(0))
    return run, loop


@pytest.mark.parametrize("what", ["split", "run"])
def test_closed_by_another_thread_it_ends_on_its_loop(what: str) -> None:
    ended: list[int] = []
    run, loop = begun(what, ended)
    assert on_another_thread(run.close) is None
    assert not ended
    loop.run_until_complete(asyncio.sleep(0))
    assert ended == [1]
    del run
    gc.collect()
    loop.close()


@pytest.mark.parametrize("what", ["split", "run"])
def test_closed_by_another_thread_when_its_loop_is(what: str) -> None:
    ended: list[int] = []
    run, loop = begun(what, ended)
    loop.close()
    assert on_another_thread(run.close) is None
    del run, loop
    gc.collect()
    assert ended == [1]


@pytest.mark.parametrize("what", ["split", "run"])
def test_closed_by_another_thread_before_it_began(what: str) -> None:
    workflow = Workflow[str](engine="native").add_exit_state("b").register("a", lambda: "b")
    run = fan_out(asyncio.sleep, [0], engine="native") if what == "split" else workflow.orchestrate("a")
    assert on_another_thread(run.close) is None
