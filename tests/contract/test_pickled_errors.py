"""Errors travel between processes with their facts, also those that hold what cannot."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest
from tests.contract.given import Boom, S, join, never, to
from tests.contract.raising import Unpicklable

from cano import (
    CancelToken,
    CanoError,
    JoinStrategy,
    Retry,
    SplitTimeoutError,
    Workflow,
)

pytestmark = pytest.mark.fault("F2")


@pytest.mark.parametrize("place", ["state", "branch", "split timeout"])
async def test_an_unpicklable_error(engine: str, place: str) -> None:
    async def bad() -> Any:
        raise Unpicklable(threading.Lock())

    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    if place == "state":
        workflow.register(S.START, bad)
    elif place == "branch":
        workflow.register_split(S.START, [bad, to(threading.Lock()), to(1)], join(fail_fast=False))
    else:
        workflow.register_split(S.START, [bad, never], join(strategy=JoinStrategy.Any, timeout=1))
    with pytest.raises(CanoError) as caught:
        await workflow.orchestrate(S.START)
    again: Any = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)
    assert (again.state, again.path) == (S.START, (S.START,))
    assert again.__cause__ is None
    if place == "branch":
        assert "Unpicklable: with a lock" in str(again.exceptions[0])
        assert again.result.total_count == 3
        assert again.result.outputs()[1] == 1
    if place == "split timeout":
        assert isinstance(again, SplitTimeoutError)
        assert again.result.cancelled == (1,)


async def test_every_error_a_run_can_end_with_pickles_with_its_facts(engine: str) -> None:
    async def bad() -> Any:
        raise Boom("text")

    token = CancelToken()
    token.cancel("why")
    workflow = Workflow(engine=engine, max_transitions=1).add_exit_state(S.DONE)
    endings: list[tuple[Any, dict[str, Any]]] = [
        (lambda w: w.register(S.START, bad, replace=True), {}),
        (lambda w: w.register(S.START, bad, retry=Retry.fixed(1, 0), replace=True), {}),
        (lambda w: w.register(S.START, never, attempt_timeout=1, replace=True), {}),
        (lambda w: w.register(S.START, never, replace=True), {"timeout": 1}),
        (lambda w: w.register(S.START, never, replace=True), {"cancel": token}),
        (lambda w: w.register(S.START, to(None), replace=True), {}),
        (lambda w: w.register(S.START, to(S.START), replace=True), {}),
        (lambda w: w.register_split(S.START, [bad, to(1), never], join(), replace=True), {}),
        (lambda w: w.register_split(S.START, [never], join(timeout=1), replace=True), {}),
        (lambda w: w.register_map(S.START, str, lambda: 5, join(), replace=True), {}),
    ]
    kinds = set()
    for register, options in endings:
        register(workflow)
        with pytest.raises(CanoError) as caught:
            await workflow.orchestrate(S.START, **options)
        error = caught.value
        again: Any = pickle.loads(pickle.dumps(error))
        kinds.add(type(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        for fact in (
            "category",
            "state",
            "task",
            "attempt",
            "path",
            "attempts",
            "limit",
            "elapsed",
            "reason",
            "problems",
        ):
            assert getattr(again, fact, None) == getattr(error, fact, None)
        result: Any = getattr(error, "result", None)
        if result is not None:
            assert [row.task_index for row in again.result.errors] == [row.task_index for row in result.errors]
            assert again.result.cancelled == result.cancelled
    assert len(kinds) == 9
