"""`validate()`: every problem at once, before the first transition and after any change."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from tests.contract.given import S, join, to

from cano import ConfigurationError, JoinConfig, JoinStrategy, Workflow, WorkflowError


def branches(count: int) -> list[Any]:
    return [to(n) for n in range(count)]


def test_a_workflow_that_can_work_is_silent(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE), next=S.DONE).add_exit_state(S.DONE)
    assert workflow.validate() is None


def test_every_problem_at_once(engine: str) -> None:
    workflow = Workflow(engine=engine)
    workflow.register_split(S.START, branches(2), JoinConfig(JoinStrategy.Quorum(3), S.JOINED, bulkhead=0))
    workflow.register_split(S.FAN, branches(1), JoinConfig(JoinStrategy.PartialTimeout, S.START))
    with pytest.raises(ConfigurationError) as caught:
        workflow.validate()
    error = caught.value
    assert isinstance(error, ValueError)
    assert len(error.problems) == 5
    joined = "\n".join(error.problems)
    assert "no exit state" in joined
    assert "joins at S.JOINED, which is neither registered nor an exit state" in joined
    assert "bulkhead is 0" in joined
    assert "Quorum(3) needs more successes than there are branches (2)" in joined
    assert "PartialTimeout needs a timeout" in joined
    assert str(error).startswith("5 problems:\n- ")


def test_no_state_at_all(engine: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Workflow(engine=engine).validate()
    assert [problem.split(":")[0].split(",")[0] for problem in caught.value.problems] == ["no handler", "no exit state"]
    with pytest.raises(ConfigurationError, match="no handler"):
        Workflow(engine=engine).add_exit_state(S.DONE).validate()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (join(bulkhead=0), "bulkhead is 0, so no branch could ever start; use 1 or more, or None"),
        (join(bulkhead=-3), "bulkhead is -3"),
        (join(strategy=JoinStrategy.Quorum(4)), r"Quorum\(4\) needs more successes than there are branches \(3\)"),
        (join(strategy=JoinStrategy.PartialResults(4)), r"PartialResults\(4\) needs more"),
        (join(strategy=JoinStrategy.PartialTimeout), "PartialTimeout needs a timeout"),
        (join(strategy=JoinStrategy.PartialTimeout, timeout=1, min_successes=4), "min_successes is 4"),
        (join(S.JOINED), r"joins at S\.JOINED, which is neither registered nor an exit state"),
    ],
)
@pytest.mark.parametrize("how", ["split", "map"])
def test_what_is_wrong_with_a_split(engine: str, how: str, config: Any, problem: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    if how == "split":
        workflow.register_split(S.START, branches(3), config)
    else:
        workflow.register_map(S.START, str, range(3), config)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        workflow.validate()
    assert "S.START" in caught.value.problems[0]
    assert len(caught.value.problems) == 1


@pytest.mark.alone
def test_what_just_works(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    for number, config in enumerate(
        (
            join(strategy=JoinStrategy.Quorum(3), bulkhead=1),
            join(strategy=JoinStrategy.PartialResults(3)),
            join(strategy=JoinStrategy.PartialTimeout, timeout=1, min_successes=3),
            join(strategy=JoinStrategy.Percentage(1.0)),
        )
    ):
        workflow.register_split(number, branches(3), config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing leads to these states
        workflow.validate()


def test_the_number_of_branches_of_a_source_is_not_known_here(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_map(S.START, str, lambda: [1], join(strategy=JoinStrategy.Quorum(4))).validate()
    workflow.register_map(S.START, str, iter([1]), join(strategy=JoinStrategy.Quorum(4)), replace=True).validate()


async def test_it_runs_before_the_first_transition(engine: str) -> None:
    ran: list[int] = []

    async def run() -> S:
        ran.append(1)
        return S.FAN

    workflow = Workflow(engine=engine).register(S.START, run).add_exit_state(S.DONE)
    workflow.register_split(S.FAN, branches(1), join(bulkhead=0))
    for way in (workflow.orchestrate, workflow.execute):
        with pytest.raises(ConfigurationError, match="bulkhead"):
            await way(S.START)
    with pytest.raises(ConfigurationError, match="bulkhead"):
        async for _ in workflow.stream(S.START):
            pass
    assert ran == []


async def test_and_again_after_any_later_change(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE)
    await workflow.orchestrate(S.START)
    workflow.register_split(S.FAN, branches(1), join(bulkhead=0))
    with pytest.raises(ConfigurationError, match="bulkhead"):
        await workflow.orchestrate(S.START)
    workflow.register_split(S.FAN, branches(1), join(), replace=True)
    assert await workflow.orchestrate(S.START) is S.DONE


def test_a_declared_transition_to_nowhere(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE), next=[S.DONE, S.WORK]).add_exit_state(S.DONE)
    with pytest.raises(ConfigurationError, match=r"S\.START declares a transition to S\.WORK, which has no handler"):
        workflow.validate()


async def test_an_initial_state_without_handler(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE)
    with pytest.raises(WorkflowError, match="no handler"):
        await workflow.orchestrate(S.WORK)


# --- unreachable states ---------------------------------------------------------------------------------------------


def declared(engine: str) -> Workflow[Any]:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE), next=S.DONE).add_exit_state(S.DONE)
    return workflow.register(S.WORK, to(S.DONE), next=S.DONE)


@pytest.mark.alone
async def test_a_state_no_declared_transition_reaches_is_warned_of(engine: str) -> None:
    with pytest.warns(UserWarning, match=r"^no declared transition reaches: S\.WORK$") as caught:
        assert await declared(engine).orchestrate(S.START) is S.DONE
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.alone
def test_without_a_run_any_one_state_may_be_the_initial_one(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE), next=S.DONE).add_exit_state(S.DONE)
    workflow.validate()
    with pytest.warns(UserWarning, match=r"a run can begin in only one of them: S\.START, S\.WORK") as caught:
        declared(engine).validate()
    assert [warning.filename for warning in caught] == [__file__]


async def test_never_for_the_initial_state(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE), next=S.DONE).add_exit_state(S.DONE)
    assert await workflow.orchestrate(S.START) is S.DONE


@pytest.mark.alone
async def test_an_exit_state_nothing_leads_to_is_warned_of(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE), next=S.DONE).add_exit_states([S.DONE, S.FAILED])
    with pytest.warns(UserWarning, match=r"reaches: S\.FAILED"):
        await workflow.orchestrate(S.START)


async def test_only_when_every_handler_declares_its_transitions(engine: str) -> None:
    workflow = declared(engine).register(S.FAN, to(S.WORK))
    assert await workflow.orchestrate(S.START) is S.DONE


async def test_a_splits_join_state_is_reached(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, branches(1), join(S.WORK)).register(S.WORK, to(S.DONE), next=S.DONE)
    assert await workflow.orchestrate(S.START) is S.DONE


@pytest.mark.alone
async def test_warned_once_not_at_every_run(engine: str) -> None:
    workflow = declared(engine)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            await workflow.orchestrate(S.START)
    assert len(caught) == 1
