"""`CancelToken`: ending runs from anywhere."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import weakref
from typing import Any

import pytest
from tests.contract.given import Observer, S, join, never, sleeper, to

from cano import CancelToken, CanoError, ConfigurationError, RunCancelledError, TaskError, Workflow

pytestmark = pytest.mark.fault("F1")


def waiting(engine: str) -> Workflow[Any]:
    return Workflow(engine=engine).register(S.START, never).add_exit_state(S.DONE)


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


# --- runs ---------------------------------------------------------------------------------------------------------


async def test_a_run_ended_by_its_token_raises_run_cancelled_error(engine: str) -> None:
    token, observer = CancelToken(), Observer()
    asyncio.get_running_loop().call_later(2, token.cancel, "enough")
    with pytest.raises(RunCancelledError, match=r"by its CancelToken in the state S\.START: enough") as caught:
        await waiting(engine).add_observer(observer).orchestrate(S.START, cancel=token)
    error = caught.value
    assert isinstance(error, CanoError)
    assert not isinstance(error, asyncio.CancelledError)  # asyncio gives that one a meaning of its own
    assert isinstance(error, Exception)
    assert (error.reason, error.state, error.path) == ("enough", S.START, (S.START,))
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert cancelling() == 0
    assert asyncio.get_running_loop().time() == 2
    assert observer.kinds == ["workflow_start", "state_enter", "task_start", "state_exit", "cancelled", "workflow_end"]
    assert observer.one("cancelled").value == "enough"
    assert observer.one("workflow_end").error is error


async def test_a_token_that_is_set_already_stops_the_run_before_its_first_state(engine: str) -> None:
    token, observer = CancelToken(), Observer()
    token.cancel("before")
    with pytest.raises(RunCancelledError, match="before") as caught:
        await waiting(engine).add_observer(observer).orchestrate(S.START, cancel=token)
    assert caught.value.path == ()
    assert observer.kinds == ["workflow_start", "cancelled", "workflow_end"]
    assert cancelling() == 0
    with pytest.raises(RunCancelledError):
        await waiting(engine).orchestrate(S.DONE, cancel=token)  # even if there is nothing to do


async def test_a_reason_may_be_left_out(engine: str) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(RunCancelledError) as caught:
        await waiting(engine).orchestrate(S.START, cancel=token)
    assert caught.value.reason is None


@pytest.mark.parametrize("kind", ["state", "split"])
async def test_a_token_works_from_another_thread(engine: str, kind: str) -> None:
    token = CancelToken()
    loop: Any = asyncio.get_running_loop()
    thread = threading.Thread(target=token.cancel, args=("from a thread",))
    workflow = waiting(engine)
    if kind == "split":
        workflow.register_split(S.START, [never, never], join(), replace=True)
    loop.call_soon(thread.start)
    with loop.hold(), pytest.raises(RunCancelledError, match="from a thread"):
        await workflow.orchestrate(S.START, cancel=token)
    thread.join(200)
    assert cancelling() == 0


async def test_a_token_set_by_a_task_of_the_run_itself(engine: str) -> None:
    token = CancelToken()
    begun: list[int] = []

    async def stop() -> S:
        token.cancel("from inside")
        return S.WORK

    async def following() -> S:
        begun.append(1)
        return S.DONE

    workflow = Workflow(engine=engine).register(S.START, stop).register(S.WORK, following).add_exit_state(S.DONE)
    with pytest.raises(RunCancelledError, match="from inside") as caught:
        await workflow.orchestrate(S.START, cancel=token)
    assert begun == []
    assert caught.value.path == (S.START, S.WORK)
    assert cancelling() == 0
    await asyncio.sleep(1)


async def test_a_token_set_by_a_sync_task_on_a_thread(engine: str) -> None:
    token = CancelToken()

    def stop() -> S:
        token.cancel("from a worker")
        return S.WORK

    workflow = Workflow(engine=engine).register(S.START, stop).register(S.WORK, never).add_exit_state(S.DONE)
    with pytest.raises(RunCancelledError, match="from a worker"):
        await workflow.orchestrate(S.START, cancel=token)
    assert cancelling() == 0


async def test_a_token_set_by_a_branch(engine: str) -> None:
    token = CancelToken()

    async def stop() -> None:
        await asyncio.sleep(1)
        token.cancel()
        await never()

    workflow = Workflow(engine=engine).register_split(S.START, [never, stop], join()).add_exit_state(S.DONE)
    with pytest.raises(RunCancelledError):
        await workflow.orchestrate(S.START, cancel=token)
    assert cancelling() == 0


async def test_a_token_that_comes_too_late_changes_nothing(engine: str) -> None:
    token = CancelToken()

    async def last() -> S:
        token.cancel()
        return S.DONE

    workflow = Workflow(engine=engine).register(S.START, last).add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START, cancel=token) is S.DONE
    assert cancelling() == 0
    await asyncio.sleep(1)
    assert cancelling() == 0


async def test_every_branch_is_cancelled_and_awaited(engine: str) -> None:
    ended: list[int] = []

    async def branch(item: int) -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(item)
            ended.append(item)

    token = CancelToken()
    workflow = Workflow(engine=engine).register_map(S.START, branch, [2, 1], join()).add_exit_state(S.DONE)
    asyncio.get_running_loop().call_later(1, token.cancel)
    with pytest.raises(RunCancelledError):
        await workflow.orchestrate(S.START, cancel=token)
    assert ended == [1, 2]


async def test_one_token_ends_many_runs(engine: str) -> None:
    token = CancelToken()
    asyncio.get_running_loop().call_later(1, token.cancel, "all")
    workflow = waiting(engine)
    ends = await asyncio.gather(
        *(workflow.orchestrate(S.START, cancel=token) for _ in range(5)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [RunCancelledError] * 5


async def test_a_run_that_swallows_its_token_does_not_get_far(engine: str) -> None:
    token = CancelToken()

    async def stubborn() -> S:
        try:
            await never()
        except asyncio.CancelledError:
            return S.WORK

    workflow = Workflow(engine=engine).register(S.START, stubborn).register(S.WORK, never).add_exit_state(S.DONE)
    asyncio.get_running_loop().call_later(1, token.cancel)
    with pytest.raises(RunCancelledError):
        await workflow.orchestrate(S.START, cancel=token)
    assert cancelling() == 0


async def test_token_and_task_cancelled_together_is_a_cancellation_of_the_task(engine: str) -> None:
    """Whoever cancels the task must get its CancelledError, or a TaskGroup would hang."""
    token = CancelToken()
    task = asyncio.create_task(waiting(engine).orchestrate(S.START, cancel=token))
    await asyncio.sleep(1)
    token.cancel()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_in_a_task_group_a_token_is_an_error_like_any_other(engine: str) -> None:
    token = CancelToken()
    asyncio.get_running_loop().call_later(1, token.cancel)
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(waiting(engine).orchestrate(S.START, cancel=token))
            group.create_task(asyncio.sleep(100))
    assert isinstance(caught.value.exceptions[0], RunCancelledError)
    assert asyncio.get_running_loop().time() == 1


async def test_a_run_inside_a_task_that_is_ended_by_its_own_token_is_that_tasks_error(engine: str) -> None:
    token = CancelToken()
    inner = waiting(engine)

    async def outer() -> S:
        return await inner.orchestrate(S.START, cancel=token)

    asyncio.get_running_loop().call_later(1, token.cancel)
    with pytest.raises(TaskError) as caught:
        await Workflow(engine=engine).register(S.START, outer).add_exit_state(S.DONE).orchestrate(S.START)
    assert isinstance(caught.value.__cause__, RunCancelledError)


async def test_a_token_is_forgotten_by_a_run_that_has_ended(engine: str) -> None:
    token = CancelToken()
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE)
    for _ in range(100):
        await workflow.orchestrate(S.START, cancel=token)
    assert not token._callbacks
    token.cancel()
    await asyncio.sleep(1)
    assert cancelling() == 0


def test_a_token_outlives_the_loop_of_a_run(engine: str) -> None:
    token = CancelToken()
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE)
    assert workflow.run(S.START, cancel=token) is S.DONE
    assert token.cancel()


@pytest.mark.parametrize("bad", [True, "token", object(), asyncio.Event(), CancelToken])
async def test_what_is_no_token_is_refused(engine: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="cancel must be a CancelToken, but"):
        await waiting(engine).orchestrate(S.START, cancel=bad)


# --- the token itself ---------------------------------------------------------------------------------------------


def test_the_first_call_wins() -> None:
    token = CancelToken()
    assert (token.cancelled, token.reason) == (False, None)
    assert token.cancel("one") is True
    assert token.cancel("two") is False
    assert (token.cancelled, token.reason) == (True, "one")


def test_repr() -> None:
    token = CancelToken()
    assert repr(token) == "<CancelToken not set>"
    token.cancel("why")
    assert repr(token) == "<CancelToken set: 'why'>"


async def test_wait(engine: str) -> None:
    token = CancelToken()
    asyncio.get_running_loop().call_later(3, token.cancel, "x")
    assert await token.wait() == "x"
    assert asyncio.get_running_loop().time() == 3
    assert await token.wait() == "x"


async def test_cancelling_the_waiter_leaves_the_token_alone() -> None:
    token = CancelToken()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(token.wait(), 1)
    assert not token.cancelled
    assert not token._callbacks


async def test_a_child_is_set_with_its_parent_and_can_be_set_alone(engine: str) -> None:
    parent = CancelToken()
    child, other = parent.child(), parent.child()
    grandchild = child.child()
    assert child.cancel("alone")
    assert (parent.cancelled, other.cancelled) == (False, False)
    assert grandchild.reason == "alone"
    parent.cancel("all")
    assert (child.reason, other.reason) == ("alone", "all")
    assert parent.child().reason == "all"
    with pytest.raises(RunCancelledError, match="all"):
        await waiting(engine).orchestrate(S.START, cancel=other)


@pytest.mark.alone
def test_a_parent_does_not_keep_its_children() -> None:
    parent = CancelToken()
    child = weakref.ref(parent.child())
    gc.collect()
    assert child() is None
    assert not parent._children


def test_a_long_chain_of_children() -> None:
    tokens = [CancelToken()]
    for _ in range(10_000):
        tokens.append(tokens[-1].child())
    tokens[0].cancel("deep")
    assert tokens[-1].reason == "deep"


def test_a_callback_that_raises_does_not_keep_others_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    token = CancelToken()
    told: list[int] = []

    def bad() -> None:
        raise ValueError("a secret")

    token._subscribe(bad)
    token._subscribe(lambda: told.append(1))
    assert token.cancel()
    assert told == [1]
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_token_cannot_be_pickled_or_copied(way: Any) -> None:
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        way(CancelToken())


def test_many_threads_set_one_token_once() -> None:
    token = CancelToken()
    firsts: list[bool] = []
    barrier = threading.Barrier(8)

    def set_it() -> None:
        barrier.wait(200)
        firsts.append(token.cancel())

    threads = [threading.Thread(target=set_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert sorted(firsts) == [False] * 7 + [True]


async def test_a_token_beside_a_timeout(engine: str) -> None:
    token = CancelToken()
    asyncio.get_running_loop().call_later(1, token.cancel)
    with pytest.raises(RunCancelledError):
        await waiting(engine).orchestrate(S.START, cancel=token, timeout=2)
    workflow = Workflow(engine=engine).register(S.START, sleeper(3)).add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START, cancel=CancelToken(), timeout=4) is S.DONE
    assert cancelling() == 0
