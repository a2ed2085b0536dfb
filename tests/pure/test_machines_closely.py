"""Corners of the machines that a model does not look at: each of these tests kills a mutant (tools/reliability/mutants.py)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cano._engine.pure import join as j
from cano._engine.pure import machine as m
from cano._engine.pure import split as s
from cano._engine.pure.error import MachineError
from cano._engine.pure.policy import EXPONENTIAL, NO_RETRY, RetryPolicy

pytestmark = pytest.mark.fault("mutation")

ALL = j.JoinRule(j.ALL)


def test_what_a_rule_is_that_says_nothing() -> None:
    rule = j.JoinRule(j.ALL)
    assert (rule.need, rule.share, rule.fail_fast, rule.min_successes) == (0, 0.0, True, 0)


def test_what_a_policy_is_that_says_nothing() -> None:
    policy = RetryPolicy(EXPONENTIAL)
    facts = (policy.retries, policy.base, policy.factor, policy.max_delay, policy.jitter, policy.max_elapsed)
    assert facts == (0, 0.0, 1.0, 0.0, 0.0, None)


@pytest.mark.parametrize("strategy", [j.QUORUM, j.PARTIAL_RESULTS])
@pytest.mark.parametrize("excess", [1, 2, 100])
def test_more_wanted_than_there_are_fails_before_a_branch_has_ended(strategy: int, excess: int) -> None:
    join = j.Join(j.JoinRule(strategy, need=3 + excess), 3)
    assert join.opening() == j.FAIL
    assert join.bad_bound == 0


def opened(rule: j.JoinRule = ALL, total: int | None = None, **options: object) -> s.SplitMachine:
    machine = s.SplitMachine(rule, total, **options)  # type: ignore[arg-type]
    assert machine.opening() == j.WAIT
    return machine


def test_what_a_machine_is_before_it_begins() -> None:
    machine = s.SplitMachine(ALL, 3)
    facts = machine.phase, machine.drawn, machine.live, machine.retrying, machine.timed_out
    assert facts == (s.NEW, 0, 0, 0, False)
    assert (machine.next_start(), machine.next_again(), machine.may_start()) == (-1, -1, False)


def test_a_retry_that_starts_backs_off_no_more() -> None:
    machine = opened(total=2)
    assert machine.next_start() == 0
    machine.backing_off(0)
    assert (machine.live, machine.retrying) == (0, 1)
    machine.retry_due(0)
    assert (machine.live, machine.retrying) == (0, 1)
    assert machine.next_again() == 0
    assert (machine.live, machine.retrying) == (1, 0)


EVENTS: dict[str, Callable[[s.SplitMachine, int], object]] = {
    "succeeded": s.SplitMachine.succeeded,
    "failed": s.SplitMachine.failed,
    "backing_off": s.SplitMachine.backing_off,
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("index", [-1, 1, 2])
def test_an_event_of_a_branch_that_was_never_drawn_is_illegal(event: str, index: int) -> None:
    machine = opened(total=3)
    assert machine.next_start() == 0
    with pytest.raises(MachineError, match=f"{event}.*branch {index}"):
        EVENTS[event](machine, index)
    assert (machine.live, machine.retrying, machine.join.ok, machine.join.bad) == (1, 0, 0, 0)
    EVENTS[event](machine, 0)


@pytest.mark.parametrize("index", [-1, 1])
def test_dropping_a_branch_that_was_never_drawn_is_illegal(index: int) -> None:
    machine = opened(total=3)
    assert machine.next_start() == 0
    machine.stop()
    with pytest.raises(MachineError):
        machine.dropped(index)
    assert not machine.is_settled()
    machine.dropped(0)
    assert machine.is_settled()


@pytest.mark.parametrize("index", [-1, 1])
def test_a_retry_of_a_branch_that_was_never_drawn_is_illegal(index: int) -> None:
    machine = opened(total=3)
    assert machine.next_start() == 0
    machine.backing_off(0)
    with pytest.raises(MachineError):
        machine.retry_due(index)
    machine.retry_due(0)


def test_a_retry_is_due_once() -> None:
    machine = opened(total=3)
    assert machine.next_start() == 0
    with pytest.raises(MachineError):
        machine.retry_due(0)  # it does not back off
    machine.backing_off(0)
    machine.retry_due(0)
    with pytest.raises(MachineError):
        machine.retry_due(0)
    assert machine.next_again() == 0
    assert machine.next_again() == -1


def test_nothing_fresh_starts_once_the_source_has_ended() -> None:
    machine = opened()
    assert [machine.next_start(), machine.next_start()] == [0, 1]
    machine.withdraw(1)
    assert machine.source_ended() == j.WAIT
    assert (machine.total, machine.may_start(), machine.next_start()) == (1, False, -1)
    machine.backing_off(0)
    machine.retry_due(0)
    assert machine.may_start()  # a retry does
    assert machine.next_again() == 0


def test_a_source_whose_length_is_learnt_late_starts_so_many() -> None:
    machine = opened()
    assert machine.next_start() == 0
    assert machine.sized(2) == j.WAIT
    assert [machine.next_start(), machine.next_start()] == [1, -1]
    assert not machine.may_start()


def test_a_function_is_not_asked_for_learning_the_length_unless_nothing_is_pending() -> None:
    for total, verdict in ((3, j.WAIT), (2, j.ASK)):
        machine = opened(j.JoinRule(j.CUSTOM))
        assert [machine.next_start(), machine.next_start()] == [0, 1]
        assert machine.succeeded(0) == j.ASK
        assert machine.answer(j.WAIT) == j.WAIT
        assert machine.failed(1) == j.ASK
        assert machine.answer(j.WAIT) == j.WAIT
        assert machine.sized(total) == verdict


def test_learning_the_length_is_no_reason_to_begin_the_next_of_a_hedged_split() -> None:
    machine = opened(j.JoinRule(j.ANY), hedged=True)
    assert [machine.next_start(), machine.next_start()] == [0, -1]
    assert machine.sized(5) == j.WAIT
    assert machine.next_start() == -1
    machine.hedge_due()
    assert [machine.next_start(), machine.next_start()] == [1, -1]


def test_what_a_run_is_before_it_begins() -> None:
    run = m.RunMachine(m.Plan([m.StatePlan(m.KIND_EXIT)]))
    facts = run.phase, run.state, run.next_state, run.attempt, run.delay, run.failure, run.transitions, list(run.path)
    assert facts == (m.NEW, -1, -1, 0, 0.0, 0, 0, [])


def test_what_a_state_is_that_says_nothing() -> None:
    state = m.StatePlan(m.KIND_TASK)
    assert (state.next, state.join_state, state.retry) == (None, -1, NO_RETRY)
    assert m.Plan([state]).max_transitions is None


def test_a_hedged_split_never_begins_more_branches_than_there_are() -> None:
    machine = opened(j.JoinRule(j.ANY), 2, hedged=True)
    assert machine.next_start() == 0
    for _ in range(3):
        machine.hedge_due()
    assert [machine.next_start(), machine.next_start()] == [1, -1]
    machine.hedge_due()
    assert not machine.may_start()
    assert machine.next_start() == -1
    assert machine.drawn == 2


def test_after_the_decision_no_retry_is_due() -> None:
    machine = opened(total=2)
    assert machine.next_start() == 0
    machine.backing_off(0)
    machine.retry_due(0)
    assert machine.has_retries_due()
    machine.stop()
    assert not machine.has_retries_due()
    assert machine.retrying == 0


def test_while_the_function_is_asked_nothing_starts_and_afterwards_all_may() -> None:
    machine = opened(j.JoinRule(j.CUSTOM), 4)
    assert machine.next_start() == 0
    assert machine.succeeded(0) == j.ASK
    assert (machine.may_start(), machine.next_start(), machine.next_again()) == (False, -1, -1)
    assert machine.answer(j.WAIT) == j.WAIT
    assert [machine.next_start() for _ in range(4)] == [1, 2, 3, -1]


def test_only_a_task_has_attempts() -> None:
    states = [m.StatePlan(m.KIND_TASK), m.StatePlan(m.KIND_SPLIT, join_state=2), m.StatePlan(m.KIND_EXIT)]
    run = m.RunMachine(m.Plan(states))
    assert (run.begin(0), run.attempt) == (m.TASK, 1)
    assert (run.finished(1), run.attempt) == (m.SPLIT, 0)
    assert (run.joined(), run.attempt) == (m.EXIT, 0)


def test_a_state_of_no_plan_is_told_which_there_are() -> None:
    run = m.RunMachine(m.Plan([m.StatePlan(m.KIND_TASK), m.StatePlan(m.KIND_EXIT)]))
    for state in (-1, 2):
        with pytest.raises(MachineError, match=f"0 to 1, got {state}"):
            run.begin(state)
    assert run.phase == m.NEW
