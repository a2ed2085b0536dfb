"""`execute()`: the run and what it did."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join, never, sleeper, to

from cano import (
    CancelToken,
    JoinError,
    JoinStrategy,
    MemoryStore,
    Retry,
    RunCancelledError,
    RunReport,
    StateVisit,
    TaskResult,
    Workflow,
    WorkflowTimeoutError,
)
from cano.testing import flaky


async def test_a_report(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE).register(S.START, sleeper(1, S.FAN))
    workflow.register_split(S.FAN, [sleeper(2, "a"), sleeper(3, "b")], join(S.WORK))
    workflow.register(S.WORK, flaky(2, S.DONE), retry=Retry.fixed(2, 5))
    report = await workflow.execute(S.START)
    assert isinstance(report, RunReport)
    assert report.state is S.DONE
    assert report.path == (S.START, S.FAN, S.WORK, S.DONE)
    assert report.elapsed == 14
    assert report.visits == (
        StateVisit(S.START, 1, 1),
        StateVisit(S.FAN, 3, 1),
        StateVisit(S.WORK, 10, 3),
        StateVisit(S.DONE, 0, 0),
    )
    (split,) = report.splits
    assert split.outputs() == ["a", "b"]
    assert repr(report) == "<RunReport reached <S.DONE: 'done'> through 4 states, 1 split in 14 s>"


async def test_one_visit_per_entered_state_and_one_result_per_split_in_order(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)
    store.put("left", 3)
    workflow.register_map(S.FAN, to_item, lambda store: range(store.get("left")), join(S.WORK))
    workflow.register(S.WORK, lambda store: S.FAN if store.update("left", lambda n: n - 1) else S.DONE)
    report = await workflow.execute(S.FAN)
    assert report.path == (S.FAN, S.WORK) * 3 + (S.DONE,)
    assert [visit.state for visit in report.visits] == list(report.path)
    assert [split.total_count for split in report.splits] == [3, 2, 1]


async def to_item(item: int) -> int:
    return item


async def test_a_split_chosen_at_run_time_is_reported(engine: str) -> None:
    async def choose() -> Any:
        return TaskResult.Split([sleeper(1, 1), sleeper(2, 2)], join(S.DONE, JoinStrategy.Any))

    report = await Workflow(engine=engine).register(S.START, choose).add_exit_state(S.DONE).execute(S.START)
    assert report.path == (S.START, S.DONE)
    assert report.splits[0].cancelled == (1,)
    assert report.visits[0] == StateVisit(S.START, 1, 1)


async def test_what_fails_is_raised_as_by_orchestrate(engine: str) -> None:
    async def bad() -> None:
        raise Boom

    workflow = Workflow(engine=engine).register_split(S.START, [bad], join()).add_exit_state(S.DONE)
    with pytest.raises(JoinError) as caught:
        await workflow.execute(S.START)
    assert caught.value.result is not None
    workflow.register(S.START, never, replace=True)
    with pytest.raises(WorkflowTimeoutError):
        await workflow.execute(S.START, timeout=1)
    token = CancelToken()
    token.cancel()
    with pytest.raises(RunCancelledError):
        await workflow.execute(S.START, cancel=token)


async def test_it_takes_a_store_of_its_own(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).register(S.START, lambda store: store.put("k", 1) or S.DONE)
    own = MemoryStore()
    await workflow.add_exit_state(S.DONE).execute(S.START, store=own)
    assert (own.get("k"), store.is_empty()) == (1, True)


async def test_observers_are_told_as_ever(engine: str) -> None:
    observer = Observer()
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE).add_observer(observer)
    await workflow.execute(S.START)
    await workflow.orchestrate(S.START)
    assert observer.kinds[:7] == observer.kinds[7:]


async def test_many_at_once_do_not_mix(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)

    async def wait(store: Any) -> S:
        await asyncio.sleep(store.get("n"))
        return S.DONE

    workflow.register(S.START, wait)
    stores = [MemoryStore() for _ in range(10)]
    for number, store in enumerate(stores):
        store.put("n", number)
    reports = await asyncio.gather(*(workflow.execute(S.START, store=store) for store in stores))
    assert [report.elapsed for report in reports] == list(range(10))
    assert {report.path for report in reports} == {(S.START, S.DONE)}


async def test_a_report_is_a_value(engine: str) -> None:
    workflow = Workflow(engine=engine).register_split(S.START, [to(1), to(2)], join()).add_exit_state(S.DONE)
    report = await workflow.execute(S.START)
    again = pickle.loads(pickle.dumps(report))
    assert again == report
    with pytest.raises(AttributeError, match="immutable"):
        report.state = S.START  # type: ignore[misc]
    match report:
        case RunReport(S.DONE, path):
            assert path == (S.START, S.DONE)
        case _:
            raise AssertionError
