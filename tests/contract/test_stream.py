"""`stream()`: the events of a run as they happen."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join, never, sleeper, to
from tests.contract.shapes import SHAPES, build

from cano import (
    CancelToken,
    ConfigurationError,
    JoinError,
    MemoryStore,
    RunCancelledError,
    RunEvent,
    TaskError,
    Workflow,
    WorkflowTimeoutError,
)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_it_yields_the_events_as_they_happen(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, sleeper(1, S.WORK)).add_exit_state(S.DONE)
    workflow.register(S.WORK, sleeper(2))
    seen = [(event.kind, event.at, now()) async for event in workflow.stream(S.START)]
    assert [kind for kind, _, _ in seen] == [
        "workflow_start", "state_enter", "task_start", "task_success", "state_exit", "state_enter", "task_start",
        "task_success", "state_exit", "state_enter", "workflow_end",
    ]  # fmt: skip
    assert all(at == at_hand for _, at, at_hand in seen)


@pytest.mark.parametrize("shape", SHAPES)
async def test_they_are_the_events_an_observer_gets(engine: str, shape: str) -> None:
    _, workflow, observer = build(shape, engine)
    streamed = [event async for event in workflow.stream(S.START)]
    assert streamed == observer.events


async def test_the_last_event_is_workflow_end_and_then_the_error_is_raised(engine: str) -> None:
    async def bad() -> Any:
        raise Boom

    for workflow, kind in (
        (Workflow(engine=engine).register(S.START, bad), TaskError),
        (Workflow(engine=engine).register_split(S.START, [bad, never], join()), JoinError),
    ):
        events: list[RunEvent] = []
        with pytest.raises(kind) as caught:
            async for event in workflow.add_exit_state(S.DONE).stream(S.START):
                events.append(event)
        assert events[-1].kind == "workflow_end"
        assert events[-1].error is caught.value


async def test_it_takes_what_orchestrate_takes(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, never).add_exit_state(S.DONE)
    with pytest.raises(WorkflowTimeoutError):
        async for _ in workflow.stream(S.START, timeout=2):
            pass
    token = CancelToken()
    asyncio.get_running_loop().call_later(1, token.cancel)
    with pytest.raises(RunCancelledError):
        async for _ in workflow.stream(S.START, cancel=token):
            pass
    own = MemoryStore()
    workflow.register(S.WORK, lambda store: store.put("k", 1) or S.DONE)
    async for _ in workflow.stream(S.WORK, store=own):
        pass
    assert own.get("k") == 1


async def test_nothing_is_run_before_the_first_step(engine: str) -> None:
    ran: list[int] = []

    async def note() -> S:
        ran.append(1)
        return S.DONE

    stream = Workflow(engine=engine).register(S.START, note).add_exit_state(S.DONE).stream(S.START)
    await asyncio.sleep(1)
    assert ran == []
    assert (await anext(stream)).kind == "workflow_start"
    await stream.aclose()


async def test_a_workflow_that_cannot_work_raises_at_the_first_step(engine: str) -> None:
    with pytest.raises(ConfigurationError):
        async for _ in Workflow(engine=engine).stream(S.START):
            pass


async def test_leaving_the_loop_early_cancels_the_run(engine: str) -> None:
    ended: list[int] = []

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(item)
            if item == 1:
                return
            await never()
        finally:
            await asyncio.sleep(1)
            ended.append(item)

    workflow = Workflow(engine=engine).register_map(S.START, branch, [1, 2, 3], join()).add_exit_state(S.DONE)
    observer = Observer()
    workflow.add_observer(observer)
    async with aclosing(workflow.stream(S.START)) as events:
        async for event in events:
            if event.kind == "branch_success":
                break
    assert ended == [1, 2, 3]  # and waits until it has ended
    assert observer.kinds[-1] == "workflow_end"
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.alone
async def test_break_without_aclosing_cancels_it_soon(engine: str) -> None:
    observer = Observer()
    workflow = Workflow(engine=engine).register(S.START, never).add_exit_state(S.DONE).add_observer(observer)
    async for event in workflow.stream(S.START):
        if event.kind == "task_start":
            break
    gc.collect()
    await asyncio.sleep(1)
    assert observer.kinds[-1] == "workflow_end"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_in_the_consumers_loop_cancels_it_too(engine: str) -> None:
    observer = Observer()
    workflow = Workflow(engine=engine).register(S.START, never).add_exit_state(S.DONE).add_observer(observer)
    with pytest.raises(Boom):
        async with aclosing(workflow.stream(S.START)) as events:
            async for _ in events:
                raise Boom
    assert observer.kinds[-1] == "workflow_end"


async def test_cancelling_the_consumer_cancels_the_run_and_waits_for_it(engine: str) -> None:
    ended: list[float] = []

    async def careful() -> S:
        try:
            await never()
        finally:
            await asyncio.sleep(2)
            ended.append(now())
        return S.DONE

    workflow = Workflow(engine=engine).register(S.START, careful).add_exit_state(S.DONE)

    async def consume() -> None:
        async for _ in workflow.stream(S.START):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(1)
    task.cancel("stop")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [3]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_slow_consumer_loses_nothing_and_holds_up_nothing(engine: str) -> None:
    workflow = Workflow(engine=engine).register_map(S.START, asyncio.sleep, [1, 2, 3], join()).add_exit_state(S.DONE)
    count = 0
    async for _ in workflow.stream(S.START):
        count += 1
        await asyncio.sleep(10)
    observer = Observer()
    await workflow.add_observer(observer).orchestrate(S.START)
    assert count == len(observer.events)


async def test_many_streams_of_one_workflow_do_not_mix(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, sleeper(1)).add_exit_state(S.DONE)

    async def consume() -> set[str]:
        return {event.run_id async for event in workflow.stream(S.START)}

    ids = await asyncio.gather(*(consume() for _ in range(5)))
    assert all(len(found) == 1 for found in ids)
    assert len(set().union(*ids)) == 5


async def test_closing_a_stream_that_was_never_begun(engine: str) -> None:
    stream = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE).stream(S.START)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_context_variables_reach_the_run(engine: str) -> None:
    import contextvars

    number: contextvars.ContextVar[int] = contextvars.ContextVar("number")
    number.set(7)
    workflow = Workflow(engine=engine).register(S.START, lambda store: store.put("n", number.get()) or S.DONE)
    async for _ in workflow.add_exit_state(S.DONE).stream(S.START):
        pass
    assert workflow.store.get("n") == 7
