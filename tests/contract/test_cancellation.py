"""Cancelling a run at any moment, from any side: contract section 6."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
from typing import Any

import anyio
import pytest
from tests.contract.given import Boom, Observer, S, join, never, sleeper, to
from tests.contract.shapes import SHAPES, Turns, build, nothing_is_left, undisturbed

import cano
from cano import (
    CancelToken,
    JoinError,
    JoinStrategy,
    Retry,
    RunCancelledError,
    Workflow,
    WorkflowTimeoutError,
    fan_out,
)
from cano._engine.threads import outstanding

pytestmark = pytest.mark.fault("F1")

shapes = pytest.mark.parametrize("shape", SHAPES)


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


# --- at every turn ------------------------------------------------------------------------------------------------


@shapes
async def test_an_undisturbed_run_leaves_nothing(engine: str, shape: str) -> None:
    trace, workflow, observer = build(shape, engine)
    assert await workflow.orchestrate(S.START) is S.DONE
    await nothing_is_left(trace, workflow, observer)


@shapes
async def test_the_loops_debug_mode_finds_nothing_to_object_to(
    engine: str, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().set_debug(True)
    trace, workflow, observer = build(shape, engine)
    assert await workflow.orchestrate(S.START, timeout=1000) is S.DONE
    await nothing_is_left(trace, workflow, observer)
    assert not [record for record in caplog.records if record.name == "asyncio" and "took" not in record.getMessage()]


@shapes
@pytest.mark.parametrize("introspect", [False, True], ids=["plain", "introspect"])
async def test_cancelling_the_task_at_any_turn(engine: str, shape: str, introspect: bool) -> None:
    count = (await undisturbed(shape, engine)).count
    cancelled = 0
    for turn in range(1, count + 1):
        trace, workflow, observer = build(shape, engine, introspect)
        task = asyncio.create_task(workflow.orchestrate(S.START))
        with Turns(turn, lambda task=task: task.cancel("stop")) as turns:
            await asyncio.wait([task])
        if task.cancelled():
            cancelled += 1
            with pytest.raises(asyncio.CancelledError) as caught:
                task.result()
            # Where the attempt's timeout has cancelled the task in the very same turn, asyncio itself keeps the first.
            both = shape == "timed_out" and turns.times[turn - 1] - turns.times[0] == pytest.approx(4)
            assert caught.value.args == ("stop",) or both, f"turn {turn}: the message was lost"
        else:
            assert task.result() is S.DONE
        await nothing_is_left(trace, workflow, observer)
    assert cancelled >= count - 2


@shapes
async def test_setting_the_token_at_any_turn(engine: str, shape: str) -> None:
    count = (await undisturbed(shape, engine)).count
    cancelled = 0
    for turn in range(1, count + 1):
        trace, workflow, observer = build(shape, engine)
        token = CancelToken()

        async def run(workflow: Any = workflow, token: CancelToken = token) -> Any:
            try:
                return await workflow.orchestrate(S.START, cancel=token)
            except RunCancelledError as error:
                return error
            finally:
                assert cancelling() == 0
                await asyncio.sleep(1)  # nothing of the cancellation is left over for what comes next

        task = asyncio.create_task(run())
        with Turns(turn, lambda token=token: token.cancel("stop")):
            outcome = await task
        if outcome is not S.DONE:
            cancelled += 1
            assert outcome.reason == "stop"
            if observer.events:
                assert observer.one("workflow_end").error is outcome
                assert observer.one("cancelled").value == "stop"
        await nothing_is_left(trace, workflow, observer)
    assert cancelled >= count - 3


@shapes
async def test_a_timeout_at_any_moment(engine: str, shape: str) -> None:
    times = sorted({*(await undisturbed(shape, engine)).times})
    limits = sorted({limit for time in times for limit in (time, time + 1e-4) if limit > 0})
    ended = 0
    for limit in limits:
        trace, workflow, observer = build(shape, engine)
        try:
            assert await workflow.orchestrate(S.START, timeout=limit) is S.DONE
        except WorkflowTimeoutError as error:
            ended += 1
            seen = error
            assert seen.limit == limit
            assert seen.elapsed >= limit - 1e-9
            assert observer.of("timeout")[-1].value == limit
            assert observer.one("workflow_end").error is seen
        assert cancelling() == 0
        await nothing_is_left(trace, workflow, observer)
    assert ended >= len(limits) - 3


# anyio cancels its task anew at every turn until it has left the scope: virtual time would not pass for a clean-up.
@pytest.mark.parametrize("shape", ["chain", "retried", "bulkhead", "retried_branches", "lazy"])
async def test_an_anyio_scope_at_any_turn(engine: str, shape: str) -> None:
    count = (await undisturbed(shape, engine)).count
    for turn in range(1, count + 1, 2):
        trace, workflow, observer = build(shape, engine)
        scope = anyio.CancelScope()

        async def run(workflow: Any = workflow, scope: anyio.CancelScope = scope) -> None:
            with scope:
                await workflow.orchestrate(S.START)

        with Turns(turn, scope.cancel):
            await asyncio.create_task(run())
        await nothing_is_left(trace, workflow, observer)


@pytest.mark.parametrize("shape", ["fan", "quorum", "hedged", "partial", "at_run_time", "nested", "bulkhead", "lazy"])
async def test_cancelling_again_does_not_interrupt_the_clean_up_of_branches(engine: str, shape: str) -> None:
    count = (await undisturbed(shape, engine)).count
    for turn in range(1, count + 1):
        trace, workflow, observer = build(shape, engine)
        task = asyncio.create_task(workflow.orchestrate(S.START))
        loop = asyncio.get_running_loop()

        def insist(task: Any = task, loop: Any = loop) -> None:
            task.cancel("first")
            for delay in (0, 0.1, 0.3, 0.6):
                loop.call_later(delay, task.cancel, "again")

        with Turns(turn, insist):
            await asyncio.wait([task])
        if observer.events and task.cancelled() and observer.of("join"):
            with pytest.raises(asyncio.CancelledError) as caught:
                task.result()
            assert caught.value.args in (("first",), ("again",))
        await nothing_is_left(trace, workflow, observer)


@pytest.mark.alone
@shapes
async def test_dropping_a_run_half_way_closes_what_it_left(engine: str, shape: str) -> None:
    """A coroutine that is closed, not cancelled: nobody waits, and yet nothing may go on."""
    trace, workflow, _ = build(shape, engine)
    run = workflow.orchestrate(S.START)
    run.send(None)
    run.close()
    await asyncio.sleep(1000)
    assert trace.begun == trace.ended
    gc.collect()


@pytest.mark.parametrize("introspect", [False, True], ids=["plain", "introspect"])
@pytest.mark.parametrize("how", ["token", "timeout"])
async def test_ending_a_run_inside_a_branch_at_any_turn(engine: str, introspect: bool, how: str) -> None:
    """The limits of an inner run cancel the branch that awaits it, and take that back: the branch goes on."""

    async def outer(token: CancelToken, limit: float | None = None) -> list[str]:
        trace, inner, observer = build("fan", engine, introspect)

        async def branch() -> str:
            try:
                await inner.orchestrate(S.START, cancel=token, timeout=limit)
            except (RunCancelledError, WorkflowTimeoutError):
                assert cancelling() == 0
                await asyncio.sleep(1)
                return "ended"
            assert cancelling() == 0
            await asyncio.sleep(1)
            return "done"

        workflow = Workflow(engine=engine, introspect=introspect).register_split(S.START, [branch], join())
        report = await workflow.add_exit_state(S.DONE).execute(S.START)
        await nothing_is_left(trace, inner, observer)
        return report.splits[0].outputs()

    with Turns() as turns:
        assert await outer(CancelToken()) == ["done"]
    limits = sorted({time - turns.times[0] + extra for time in turns.times for extra in (0, 1e-4)})
    outcomes = []
    if how == "timeout":
        for limit in limits:
            if 0 < limit < 20:
                outcomes += await outer(CancelToken(), limit)
    else:
        for turn in range(1, turns.count):
            token = CancelToken()
            with Turns(turn, token.cancel):
                outcomes += await outer(token)
    assert set(outcomes) == {"ended", "done"}


# --- what is cancelled --------------------------------------------------------------------------------------------


async def test_the_message_is_kept(engine: str) -> None:
    for workflow in (
        Workflow(engine=engine).register(S.START, never).add_exit_state(S.DONE),
        Workflow(engine=engine).register_split(S.START, [never, never], join()).add_exit_state(S.DONE),
    ):
        task = asyncio.create_task(workflow.orchestrate(S.START))
        await asyncio.sleep(1)
        task.cancel("the reason")
        with pytest.raises(asyncio.CancelledError, match="the reason"):
            await task


async def test_every_branch_is_cancelled_and_awaited_then_clean_up_runs_then_it_goes_on(engine: str) -> None:
    log: list[Any] = []

    async def branch(item: int) -> None:
        try:
            await never()
        except asyncio.CancelledError:
            log.append(("cancelled", item))
            await asyncio.sleep(item)
            log.append(("cleaned", item))
            raise

    workflow = Workflow(engine=engine).register_map(S.START, branch, [3, 1, 2], join()).add_exit_state(S.DONE)

    async def run() -> None:
        try:
            await workflow.orchestrate(S.START)
        finally:
            log.append("over")

    task = asyncio.create_task(run())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == [
        ("cancelled", 3), ("cancelled", 1), ("cancelled", 2), ("cleaned", 1), ("cleaned", 2), ("cleaned", 3), "over",
    ]  # fmt: skip


async def test_a_branch_sees_ordinary_cancelled_error(engine: str) -> None:
    seen: list[BaseException] = []

    async def branch() -> None:
        try:
            await never()
        except BaseException as error:
            seen.append(error)
            raise

    workflow = Workflow(engine=engine).register_split(S.START, [branch], join()).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.orchestrate(S.START))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [type(error) for error in seen] == [asyncio.CancelledError]


async def test_a_branch_that_swallows_it_is_cancelled_all_the_same(engine: str) -> None:
    async def branch() -> str:
        try:
            await never()
        except asyncio.CancelledError:
            return "no"

    observer = Observer()
    workflow = Workflow(engine=engine).register_split(S.START, [branch], join()).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.add_observer(observer).orchestrate(S.START))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "branch_success" not in observer.kinds
    assert observer.one("branch_cancelled").branch == 0


async def test_a_branch_that_answers_with_an_error_is_cancelled_and_logged(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def branch() -> None:
        try:
            await never()
        finally:
            raise Boom("a secret")

    workflow = Workflow(engine=engine).register_split(S.START, [branch] * 3, join()).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.orchestrate(S.START))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("cano", logging.WARNING)
    assert "Boom x3" in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_a_branch_that_goes_on_running_is_named_after_5_s(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(20)

    workflow = Workflow(engine=engine).register_split(S.START, [sleeper(60), stubborn], join(), name="slow")
    task = asyncio.create_task(workflow.add_exit_state(S.DONE).orchestrate(S.START))
    loop = asyncio.get_running_loop()
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.sleep(4.9)
    assert not caplog.records
    await asyncio.sleep(0.2)
    assert "split slow of state S.START: branches 1 go on running 5 s" in caplog.records[0].getMessage()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() == pytest.approx(21)


async def test_a_states_task_that_cancels_itself_ends_the_run_cancelled(engine: str) -> None:
    async def give_up() -> S:
        raise asyncio.CancelledError("of its own")

    async def await_cancelled() -> S:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        return S.DONE

    for task in (give_up, await_cancelled):
        observer = Observer()
        workflow = Workflow(engine=engine).register(S.START, task).add_exit_state(S.DONE).add_observer(observer)
        with pytest.raises(asyncio.CancelledError) as caught:
            await workflow.orchestrate(S.START)
        assert caught.value.args == (("of its own",) if task is give_up else ())
        assert cancelling() == 0
        assert observer.kinds[-3:] == ["state_exit", "cancelled", "workflow_end"]
        assert isinstance(observer.one("workflow_end").error, asyncio.CancelledError)


async def test_the_run_does_not_wait_for_a_thread_whose_branch_was_cancelled(engine: str) -> None:
    entered, release = threading.Event(), threading.Event()
    wrote: list[int] = []

    def block() -> str:
        entered.set()
        assert release.wait(200)
        wrote.append(1)
        return "late"

    observer = Observer()
    workflow = Workflow(engine=engine).register_split(S.START, [block], join()).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.add_observer(observer).orchestrate(S.START))
    while not entered.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wrote == []
    assert observer.one("branch_cancelled").branch == 0
    events = len(observer.events)
    release.set()
    while outstanding():
        await asyncio.sleep(0)
    assert len(observer.events) == events  # its result is dropped


async def test_a_sync_state_on_a_thread_does_not_hold_the_cancellation(engine: str) -> None:
    entered, release = threading.Event(), threading.Event()

    def block() -> S:
        entered.set()
        assert release.wait(200)
        return S.DONE

    workflow = Workflow(engine=engine).register(S.START, block).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.orchestrate(S.START))
    while not entered.is_set():
        await asyncio.sleep(0)
    task.cancel("now")
    with pytest.raises(asyncio.CancelledError, match="now"):
        await task
    release.set()


async def test_cancelling_one_run_does_not_touch_another_of_the_same_workflow(engine: str) -> None:
    workflow = Workflow(engine=engine).register_map(S.START, asyncio.sleep, [5, 6], join()).add_exit_state(S.DONE)
    first, second = (asyncio.create_task(workflow.orchestrate(S.START)) for _ in range(2))
    await asyncio.sleep(1)
    first.cancel()
    assert await second is S.DONE
    assert first.cancelled()


async def test_asyncio_run_cancels_the_runs_that_are_left(engine: str) -> None:
    """`all_tasks()` lists the run's own task, so whoever ends all tasks ends the run with its branches."""
    ended: list[int] = []

    async def branch(item: int) -> None:
        try:
            await never()
        finally:
            ended.append(item)

    workflow = Workflow(engine=engine).register_map(S.START, branch, range(3), join()).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.orchestrate(S.START))
    await asyncio.sleep(1)
    assert task in asyncio.all_tasks()
    for left in asyncio.all_tasks() - {asyncio.current_task()}:  # type: ignore[arg-type]
        left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [0, 1, 2]


# --- what works inside a branch -----------------------------------------------------------------------------------

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


async def use_timeout() -> str:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await never()
    async with asyncio.timeout(1):
        await asyncio.sleep(0.5)
    return "ok"


async def use_wait_for() -> str:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(never(), 1)
    return await asyncio.wait_for(asyncio.sleep(0.5, "ok"), 1)


async def use_task_group() -> str:
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(never())
            group.create_task(sleeper(1)())
            group.create_task(_fail(0.5))
    async with asyncio.TaskGroup() as group:
        result = group.create_task(asyncio.sleep(1, "ok"))
    return result.result()


async def _fail(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise Boom


async def use_shield() -> str:
    inner = asyncio.ensure_future(asyncio.sleep(2, "ok"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(inner), 1)
    return await inner


async def use_gather() -> str:
    results = await asyncio.gather(asyncio.sleep(1, "o"), _fail(0.5), return_exceptions=True)
    assert isinstance(results[1], Boom)
    return f"{results[0]}k"


async def use_locks() -> str:
    lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[str]()
    async with lock:
        asyncio.get_running_loop().call_later(1, event.set)
        await event.wait()
    asyncio.get_running_loop().call_later(1, queue.put_nowait, "ok")
    return await queue.get()


async def use_anyio() -> str:
    with anyio.move_on_after(1) as scope:
        await never()
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError), anyio.fail_after(1):
        await never()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 1)
        group.start_soon(never)
        await anyio.sleep(2)
        group.cancel_scope.cancel()
    with anyio.CancelScope(shield=True):
        await anyio.sleep(1)
    return "ok"


async def use_current_task() -> str:
    task: Any = asyncio.current_task()
    assert task is not None
    assert task is asyncio.current_task()
    assert not task.done()
    task.set_name("mine")
    await asyncio.sleep(1)
    assert asyncio.current_task() is task
    assert task.get_name() == "mine"
    assert task.get_loop() is asyncio.get_running_loop()
    assert task.get_coro().__name__ == "use_current_task"
    assert task.get_stack()
    assert "0x" not in repr(task) or isinstance(task, asyncio.Task)
    return "ok"


async def use_self_cancel() -> str:
    task: Any = asyncio.current_task()
    task.cancel("myself")
    assert task.cancelling() == 1
    with pytest.raises(asyncio.CancelledError, match="myself"):
        await asyncio.sleep(1)
    assert task.uncancel() == 0
    await asyncio.sleep(1)
    return "ok"


async def use_context() -> str:
    number.set(1)
    await asyncio.sleep(1)
    assert number.get() == 1
    assert await asyncio.to_thread(number.get) == 1
    return "ok"


async def use_done_callback() -> str:
    task: Any = asyncio.current_task()
    called: list[Any] = []
    task.add_done_callback(called.append)
    assert task.remove_done_callback(called.append) == 1
    return "ok"


USES = [
    use_timeout, use_wait_for, use_task_group, use_shield, use_gather, use_locks, use_anyio, use_current_task,
    use_self_cancel, use_context, use_done_callback,
]  # fmt: skip


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize("introspect", [False, True], ids=["plain", "introspect"])
async def test_what_asyncio_and_anyio_offer_works_inside_a_branch(engine: str, use: Any, introspect: bool) -> None:
    workflow = Workflow(engine=engine, introspect=introspect).register_split(S.START, [use] * 3, join())
    report = await workflow.add_exit_state(S.DONE).execute(S.START)
    assert report.splits[0].outputs() == ["ok"] * 3


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_and_inside_a_state(engine: str, use: Any) -> None:
    async def task() -> S:
        current: Any = asyncio.current_task()
        if use is not use_current_task:
            assert await use() == "ok"
        assert current is asyncio.current_task()
        return S.DONE

    workflow = Workflow(engine=engine).register(S.START, task).add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START) is S.DONE


async def test_branches_have_names_of_their_own(engine: str) -> None:
    async def whoami() -> str:
        await asyncio.sleep(0)
        return asyncio.current_task().get_name()  # type: ignore[union-attr]

    for introspect in (False, True):
        workflow = Workflow(engine=engine, introspect=introspect).add_exit_state(S.DONE)
        workflow.register_split(S.START, [whoami] * 2, join(), name="who")
        assert (await workflow.execute(S.START)).splits[0].outputs() == ["cano-who-0", "cano-who-1"]


async def test_where_the_loop_has_a_task_factory_every_branch_is_created_through_it(engine: str) -> None:
    made: list[Any] = []

    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **options)
        made.append(task)
        return task

    async def whoami() -> Any:
        return asyncio.current_task()

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        result = await fan_out(lambda _: whoami(), range(3), inline=True, engine=engine)
    finally:
        loop.set_task_factory(None)
    assert result.outputs() == made


async def test_a_branch_can_be_cancelled_from_outside_and_has_then_failed(engine: str) -> None:
    tasks: list[Any] = []

    async def branch() -> None:
        tasks.append(asyncio.current_task())
        await never()

    workflow = Workflow(engine=engine).register_split(S.START, [branch, sleeper(5)], join()).add_exit_state(S.DONE)
    run = asyncio.create_task(workflow.orchestrate(S.START))
    await asyncio.sleep(1)
    tasks[0].cancel()
    with pytest.raises(JoinError) as caught:
        await run
    assert isinstance(caught.value.exceptions[0], cano.BranchCancelledError)
    assert asyncio.get_running_loop().time() == 1


async def test_cancellation_of_the_winner_in_the_deciding_turn(engine: str) -> None:
    """Cancelled in the very turn in which the split is decided: the run ends cancelled or goes on, never both."""
    workflow = Workflow(engine=engine).register_split(S.START, [sleeper(1), never], join(strategy=JoinStrategy.Any))
    workflow.register(S.DONE, to(S.DONE)).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.orchestrate(S.START))
    asyncio.get_running_loop().call_at(1, task.cancel)
    await asyncio.wait([task])
    assert task.cancelled() or task.result() is S.DONE


async def test_cancelled_during_a_back_off(engine: str) -> None:
    async def bad() -> S:
        raise Boom

    observer = Observer()
    workflow = Workflow(engine=engine).register(S.START, bad, retry=Retry.fixed(5, 10)).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.add_observer(observer).orchestrate(S.START))
    await asyncio.sleep(5)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert observer.kinds[-4:] == ["retry", "state_exit", "cancelled", "workflow_end"]
