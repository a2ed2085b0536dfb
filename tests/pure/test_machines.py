"""The sans-I/O machines of the pure engine against a brute-force model of the contract's table."""

from __future__ import annotations

import itertools
import math

import pytest

from cano._engine.pure import join as j
from cano._engine.pure import machine as m
from cano._engine.pure import split as s
from cano._engine.pure.error import MachineError
from cano._engine.pure.policy import NO_RETRY, RetryPolicy

pytestmark = pytest.mark.fault("coverage")

WORDS = {j.WAIT: "wait", j.PROCEED: "proceed", j.FAIL: "fail", j.ASK: "ask"}

RULES = {
    "all": j.JoinRule(j.ALL),
    "all-patient": j.JoinRule(j.ALL, fail_fast=False),
    "any": j.JoinRule(j.ANY),
    **{f"quorum-{n}": j.JoinRule(j.QUORUM, need=n) for n in range(6)},
    **{f"percentage-{p}": j.JoinRule(j.PERCENTAGE, share=p) for p in (0.01, 0.25, 0.34, 0.5, 0.75, 1.0)},
    **{f"partial-results-{n}": j.JoinRule(j.PARTIAL_RESULTS, need=n) for n in range(6)},
    **{f"partial-timeout-{n}": j.JoinRule(j.PARTIAL_TIMEOUT, min_successes=n) for n in range(4)},
}


def model(rule: j.JoinRule, total: int | None, ok: int, bad: int, *, deadline: bool = False) -> str:
    """The table of the contract, section 4, word for word and without any precomputed bound."""
    ended = total is not None and ok + bad == total
    if rule.strategy == j.PARTIAL_TIMEOUT:
        if not (ended or deadline):
            return "wait"
        return "proceed" if ok >= rule.min_successes and ok + bad >= 1 else "fail"
    proceeds = {
        j.ALL: total is not None and ok == total,
        j.ANY: ok >= 1,
        j.QUORUM: ok >= rule.need,
        j.PARTIAL_RESULTS: ok >= rule.need,
        j.PERCENTAGE: total is not None and ok >= rule.share * total - 1e-9,
    }[rule.strategy]
    if proceeds:
        return "proceed"
    if deadline:
        return "fail"
    if rule.strategy == j.ALL:
        fails = (bad > 0) if rule.fail_fast else ended
    elif total is None:
        fails = False
    elif rule.strategy == j.ANY:
        fails = bad == total
    elif rule.strategy == j.PERCENTAGE:
        need = next(k for k in range(total + 1) if k >= rule.share * total - 1e-9)
        fails = bad > total - need
    else:
        fails = bad > total - rule.need
    return "fail" if fails else "wait"


def check_counts(machine: s.SplitMachine) -> None:
    """P3: of every branch exactly one thing is true."""
    ok, bad = machine.join.ok, machine.join.bad
    assert len(machine.ok_order) == ok
    assert len(machine.bad_order) == bad
    assert machine.drawn >= ok + bad + machine.live + machine.retrying - (machine.live if machine.is_decided() else 0)
    if machine.is_decided():
        assert machine.total is not None
        assert ok + bad + machine.cancelled == machine.total
        assert machine.next_start() == machine.next_again() == -1
    else:
        assert machine.cancelled == 0
        assert ok + bad + machine.live + machine.retrying == machine.drawn


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bulkhead", [None, 1, 2])
@pytest.mark.parametrize("lazy", [False, True], ids=["known", "lazy"])
def test_every_sequence_of_outcomes_is_decided_as_the_table_says(name: str, bulkhead: int | None, lazy: bool) -> None:
    rule = RULES[name]
    for total in range(5):
        for sequence in itertools.product((True, False), repeat=total):
            for deadline_after in (None, *range(total + 1)):
                play(rule, total, sequence, deadline_after, bulkhead, lazy)


def play(
    rule: j.JoinRule,
    total: int,
    sequence: tuple[bool, ...],
    deadline_after: int | None,
    bulkhead: int | None,
    lazy: bool,
) -> None:
    """Run one split to its decision, comparing each verdict with the model's."""
    machine = s.SplitMachine(rule, None if lazy else total, bulkhead)
    known = None if lazy else total
    verdict = machine.opening()
    assert WORDS[verdict] == model(rule, known, 0, 0)
    ok = bad = 0
    started: list[int] = []
    for step in range(total + 1):
        while verdict == j.WAIT and (index := machine.next_start()) >= 0:
            if index == total:  # the lazy source has no such item
                machine.withdraw(index)
                known = total
                verdict = machine.source_ended()
                assert WORDS[verdict] == model(rule, known, ok, bad)
                break
            started.append(index)
            assert bulkhead is None or machine.live <= bulkhead
        check_counts(machine)
        if verdict != j.WAIT:
            break
        if deadline_after == step:
            verdict = machine.deadline()
            assert WORDS[verdict] == model(rule, known, ok, bad, deadline=True)
            assert machine.timed_out
            check_counts(machine)
            break
        index = started.pop()  # the newest first, so that order of completion is not order of start
        if sequence[step]:
            ok += 1
            verdict = machine.succeeded(index)
        else:
            bad += 1
            verdict = machine.failed(index)
        assert WORDS[verdict] == model(rule, known, ok, bad)
        check_counts(machine)
    assert machine.is_decided()
    while machine.live:
        assert not machine.is_settled()
        machine.dropped(started.pop())
    assert machine.is_settled()
    assert (machine.join.ok, machine.join.bad) == (ok, bad)
    assert set(machine.ok_order).isdisjoint(machine.bad_order)


@pytest.mark.parametrize(
    ("share", "total", "need"),
    [(0.07, 100, 7), (0.5, 3, 2), (1.0, 10**6, 10**6), (0.3, 10, 3), (1e-3, 1, 1), (0.1, 0, 0)],
)
def test_percentage_need_ignores_rounding(share: float, total: int, need: int) -> None:
    assert j.percentage_need(share, total) == need


@pytest.mark.parametrize("lazy", [False, True], ids=["known", "lazy"])
def test_custom_asks_after_each_completion_and_waiting_for_nothing_fails(lazy: bool) -> None:
    machine = s.SplitMachine(j.JoinRule(j.CUSTOM), None if lazy else 2)
    assert machine.opening() == j.WAIT
    assert [machine.next_start(), machine.next_start()] == [0, 1]
    assert machine.succeeded(1) == j.ASK
    assert machine.join.progress() == ((1, 0, None, None) if lazy else (1, 0, 1, 2))
    assert machine.next_start() == -1, "nothing starts before the answer"
    assert machine.answer(j.WAIT) == j.WAIT
    assert machine.failed(0) == j.ASK
    if lazy:
        assert machine.answer(j.WAIT) == j.WAIT
        machine.withdraw(machine.next_start())
        assert machine.source_ended() == j.ASK
        assert machine.join.progress() == (1, 1, 0, 2)
    assert machine.answer(j.WAIT) == j.FAIL
    assert machine.phase == s.FAILED


@pytest.mark.parametrize(("answer", "phase"), [(j.PROCEED, s.PROCEEDED), (j.FAIL, s.FAILED)])
def test_custom_answer_decides(answer: int, phase: int) -> None:
    machine = s.SplitMachine(j.JoinRule(j.CUSTOM), 3)
    machine.opening()
    machine.succeeded(machine.next_start())
    assert machine.answer(answer) == answer
    assert machine.phase == phase
    assert machine.cancelled == 2


def test_custom_of_nothing_is_asked_once() -> None:
    machine = s.SplitMachine(j.JoinRule(j.CUSTOM), 0)
    assert machine.opening() == j.ASK
    assert machine.answer(j.PROCEED) == j.PROCEED


def test_a_branch_in_back_off_holds_no_permit_and_goes_before_fresh_ones() -> None:
    machine = s.SplitMachine(j.JoinRule(j.ALL), 3, bulkhead=1)
    machine.opening()
    assert machine.next_start() == 0
    assert machine.next_start() == -1
    machine.backing_off(0)
    assert machine.next_start() == 1
    machine.retry_due(0)
    assert machine.next_again() == -1, "the permit is taken"
    assert machine.succeeded(1) == j.WAIT
    assert machine.next_start() == -1, "a retry goes first"
    assert machine.next_again() == 0
    assert machine.succeeded(0) == j.WAIT
    assert machine.next_start() == 2
    assert machine.succeeded(2) == j.PROCEED
    assert machine.ok_order == [1, 0, 2]


def test_hedging_starts_the_next_branch_when_the_newest_is_slow_or_has_failed() -> None:
    machine = s.SplitMachine(j.JoinRule(j.ANY), 4, hedged=True)
    machine.opening()
    assert [machine.next_start(), machine.next_start()] == [0, -1]
    machine.hedge_due()
    machine.hedge_due()  # two reports, one start
    assert [machine.next_start(), machine.next_start()] == [1, -1]
    assert machine.failed(0) == j.WAIT
    assert machine.next_start() == -1, "branch 1 still has its time"
    assert machine.failed(1) == j.WAIT
    assert [machine.next_start(), machine.next_start()] == [2, -1]
    assert machine.succeeded(2) == j.PROCEED
    assert (machine.cancelled, machine.bad_order) == (1, [0, 1])


def test_a_hedged_lazy_source_ends() -> None:
    machine = s.SplitMachine(j.JoinRule(j.ANY), None, hedged=True)
    machine.opening()
    assert machine.failed(machine.next_start()) == j.WAIT
    machine.withdraw(machine.next_start())
    assert machine.next_start() == 1, "withdrawn: handed out again"
    machine.withdraw(1)
    assert machine.source_ended() == j.FAIL


def test_learning_n_before_the_source_is_exhausted() -> None:
    machine = s.SplitMachine(j.JoinRule(j.ANY), None, hedged=True)
    machine.opening()
    assert machine.next_start() == 0
    assert machine.sized(2) == j.WAIT
    assert machine.next_start() == -1, "N is no reason to begin the next branch"
    assert machine.failed(0) == j.WAIT
    assert machine.next_start() == 1
    with pytest.raises(MachineError):
        machine.sized(3)
    assert machine.failed(1) == j.FAIL


@pytest.mark.parametrize(("total", "verdict"), [(1, j.ASK), (2, j.WAIT)])
def test_a_function_is_asked_again_when_n_leaves_nothing_to_wait_for(total: int, verdict: int) -> None:
    machine = s.SplitMachine(j.JoinRule(j.CUSTOM), None)
    machine.opening()
    assert machine.succeeded(machine.next_start()) == j.ASK
    machine.answer(j.WAIT)
    assert machine.sized(total) == verdict


def test_a_decision_drops_those_who_wait_for_a_retry() -> None:
    machine = s.SplitMachine(j.JoinRule(j.QUORUM, need=1), None)
    machine.opening()
    for _ in range(3):
        machine.next_start()
    machine.backing_off(0)
    machine.backing_off(1)
    machine.retry_due(1)
    assert machine.succeeded(2) == j.PROCEED
    assert machine.is_settled()
    assert (machine.total, machine.cancelled, machine.retrying) == (3, 2, 0)


def facts(machine: s.SplitMachine | m.RunMachine) -> dict[str, object]:
    """Everything a machine knows, as comparable values."""
    found: dict[str, object] = {}
    for name in type(machine).__slots__:
        value = getattr(machine, name)
        if isinstance(value, j.Join):
            found |= {f"join.{inner}": getattr(value, inner) for inner in j.Join.__slots__}
        else:
            found[name] = list(value) if hasattr(value, "popleft") or isinstance(value, list) else value
    return found


SPLIT_EVENTS = {
    "opening": (),
    "succeeded": (0,),
    "failed": (0,),
    "backing_off": (0,),
    "retry_due": (0,),
    "hedge_due": (),
    "withdraw": (0,),
    "source_ended": (),
    "sized": (3,),
    "deadline": (),
    "answer": (j.WAIT,),
    "dropped": (0,),
    "stop": (),
}
SPLIT_LEGAL = {
    s.NEW: {"opening", "stop"},
    s.OPEN: {
        "succeeded",
        "failed",
        "backing_off",
        "retry_due",
        "hedge_due",
        "withdraw",
        "source_ended",
        "sized",
        "deadline",
        "stop",
    },
    s.ASKING: {"answer", "stop"},
    s.PROCEEDED: {"dropped", "withdraw", "stop"},
    s.FAILED: {"dropped", "withdraw", "stop"},
    s.STOPPED: {"dropped", "withdraw", "stop"},
}


def split_in(phase: int, event: str) -> s.SplitMachine:
    """A machine in a phase, with a live branch 0 and whatever else `event` needs to be legal in OPEN."""
    machine = s.SplitMachine(j.JoinRule(j.CUSTOM), None, hedged=True)
    if phase == s.NEW:
        return machine
    machine.opening()
    assert machine.next_start() == 0
    if phase == s.OPEN and event == "retry_due":
        machine.backing_off(0)
    if phase == s.ASKING:
        machine.hedge_due()
        assert machine.succeeded(machine.next_start()) == j.ASK
    elif phase in (s.PROCEEDED, s.FAILED):
        if event != "withdraw":
            machine.hedge_due()
            machine.next_start()
            machine.succeeded(1)
            machine.answer(j.PROCEED if phase == s.PROCEEDED else j.FAIL)
        elif phase == s.FAILED:
            machine.deadline()
        else:
            machine = s.SplitMachine(j.JoinRule(j.ANY), None)
            machine.opening()
            machine.next_start()
            machine.next_start()
            machine.succeeded(0)
    elif phase == s.STOPPED:
        machine.stop()
    assert machine.phase == phase
    return machine


@pytest.mark.parametrize("phase", range(6), ids=s.PHASES)
@pytest.mark.parametrize("event", SPLIT_EVENTS)
def test_every_cell_of_the_split_machine(phase: int, event: str) -> None:
    machine = split_in(phase, event)
    arguments: tuple[int, ...] = SPLIT_EVENTS[event]
    if event == "withdraw":
        arguments = (max(machine.drawn - 1, 0),)
    if event in SPLIT_LEGAL[phase]:
        getattr(machine, event)(*arguments)
        check_counts(machine)
        return
    before = facts(machine)
    with pytest.raises(MachineError, match=event):
        getattr(machine, event)(*arguments)
    assert facts(machine) == before


@pytest.mark.parametrize("event", ["succeeded", "failed", "backing_off", "retry_due", "withdraw", "dropped"])
@pytest.mark.parametrize("index", [-1, 7])
def test_an_index_that_was_never_handed_out_is_refused(event: str, index: int) -> None:
    machine = split_in(s.STOPPED if event == "dropped" else s.OPEN, event)
    before = facts(machine)
    with pytest.raises(MachineError):
        getattr(machine, event)(index)
    assert facts(machine) == before


@pytest.mark.parametrize("answer", [j.ASK, 17])
def test_an_answer_that_is_none_is_refused(answer: int) -> None:
    machine = split_in(s.ASKING, "answer")
    before = facts(machine)
    with pytest.raises(MachineError, match="expected WAIT, PROCEED or FAIL"):
        machine.answer(answer)
    assert facts(machine) == before


# ---- retries ----


def test_fixed_and_none_count_retries() -> None:
    assert NO_RETRY.delay(1, 0.0, 0.0) is None
    policy = RetryPolicy.fixed(2, 0.5)
    assert [policy.delay(k, 0.0, 1.0) for k in (1, 2, 3)] == [0.5, 0.5, None]


def test_exponential_grows_to_its_ceiling_and_never_leaves_it() -> None:
    policy = RetryPolicy.exponential(10**9, base=0.1, factor=2.0, max_delay=30.0, jitter=0.1)
    assert [policy.delay(k, 0.0, 0.0) for k in (1, 2, 3)] == [0.1, 0.2, 0.4]
    for k in (1, 9, 10, 100, 10**6, 10**9):
        for unit in (-1.0, -0.5, 0.0, 1.0):
            delay = policy.delay(k, 0.0, unit)
            assert delay is not None
            assert 0.0 <= delay <= 30.0
            assert math.isfinite(delay)
    assert policy.delay(10**6, 0.0, -1.0) == 27.0
    assert (
        RetryPolicy.exponential(10**6, base=0.0, factor=2.0, max_delay=30.0, jitter=0.1).delay(10**6, 0.0, 1.0) == 0.0
    )


def test_no_attempt_starts_after_max_elapsed() -> None:
    policy = RetryPolicy.fixed(5, 1.0, max_elapsed=3.0)
    assert policy.delay(1, 2.0, 0.0) == 1.0
    assert policy.delay(2, 2.5, 0.0) is None


# ---- the run ----

PLAN = m.Plan(
    [
        m.StatePlan(m.KIND_TASK, retry=RetryPolicy.fixed(1, 0.25)),
        m.StatePlan(m.KIND_SPLIT, join_state=2),
        m.StatePlan(m.KIND_TASK, next={0, 3}),
        m.StatePlan(m.KIND_EXIT),
        m.StatePlan(m.KIND_MISSING),
    ],
    max_transitions=4,
)


def test_a_run_goes_through_its_states() -> None:
    run = m.RunMachine(PLAN)
    assert (run.begin(0), run.state, run.attempt) == (m.TASK, 0, 1)
    assert (run.finished(1), run.state) == (m.SPLIT, 1)
    assert (run.joined(), run.state) == (m.TASK, 2)
    assert (run.finished(0), run.state) == (m.TASK, 0)
    assert run.fan_out(3) == m.SPLIT
    assert (run.joined(), run.state, run.phase) == (m.EXIT, 3, m.DONE)
    assert (list(run.path), run.transitions) == ([0, 1, 2, 0, 3], 4)


def test_an_initial_exit_state_ends_the_run_before_any_handler_is_looked_up() -> None:
    run = m.RunMachine(PLAN)
    assert run.begin(3) == m.EXIT
    assert run.transitions == 0


def test_retries_of_a_state_are_counted_and_end() -> None:
    run = m.RunMachine(PLAN)
    run.begin(0)
    assert (run.failed(True, 0.0, 0.0), run.delay, run.attempt) == (m.BACK_OFF, 0.25, 2)
    assert (run.retry_due(), run.attempt) == (m.TASK, 2)
    assert (run.failed(True, 0.0, 0.0), run.failure, run.attempt) == (m.FAIL, m.FAILED_TASK, 2)


@pytest.mark.parametrize(
    ("steps", "failure", "state", "refused"),
    [
        ([("begin", 4)], m.FAILED_NO_HANDLER, 4, -1),
        ([("begin", 2), ("finished", 1)], m.FAILED_UNDECLARED, 2, 1),
        ([("begin", 0), *[("finished", 0)] * 5], m.FAILED_TOO_MANY_TRANSITIONS, 0, 0),
        ([("begin", 0), ("failed", False, 0.0, 0.0)], m.FAILED_TASK, 0, -1),
        ([("begin", 1), ("join_failed",)], m.FAILED_JOIN, 1, -1),
        ([("begin", 0), ("stop",)], m.FAILED_STOPPED, 0, -1),
        ([("stop",)], m.FAILED_STOPPED, -1, -1),
        ([("begin", 2), ("fan_out", 1), ("joined",)], m.FAILED_UNDECLARED, 2, 1),
    ],
)
def test_every_failure(steps: list[tuple[str, object]], failure: int, state: int, refused: int) -> None:
    run = m.RunMachine(PLAN)
    for event, *arguments in steps:
        action = getattr(run, event)(*arguments)
    assert (action, run.phase) == (m.FAIL, m.DONE)
    assert (run.failure, run.state, run.next_state) == (failure, state, refused)


RUN_EVENTS: dict[str, tuple[object, ...]] = {
    "begin": (0,),
    "finished": (0,),
    "failed": (True, 0.0, 0.0),
    "retry_due": (),
    "fan_out": (2,),
    "joined": (),
    "join_failed": (),
    "stop": (),
}
RUN_LEGAL = {
    m.NEW: {"begin", "stop"},
    m.RUNNING: {"finished", "failed", "fan_out", "stop"},
    m.SPLITTING: {"joined", "join_failed", "stop"},
    m.BACKING_OFF: {"retry_due", "stop"},
    m.DONE: set[str](),
}
RUN_INTO: dict[int, list[tuple[str, tuple[object, ...]]]] = {
    m.NEW: [],
    m.RUNNING: [("begin", (0,))],
    m.SPLITTING: [("begin", (1,))],
    m.BACKING_OFF: [("begin", (0,)), ("failed", (True, 0.0, 0.0))],
    m.DONE: [("begin", (3,))],
}


@pytest.mark.parametrize("phase", range(5), ids=m.PHASES)
@pytest.mark.parametrize("event", RUN_EVENTS)
def test_every_cell_of_the_run_machine(phase: int, event: str) -> None:
    run = m.RunMachine(PLAN)
    for earlier, arguments in RUN_INTO[phase]:
        getattr(run, earlier)(*arguments)
    assert run.phase == phase
    if event in RUN_LEGAL[phase]:
        assert getattr(run, event)(*RUN_EVENTS[event]) in (m.EXIT, m.TASK, m.SPLIT, m.BACK_OFF, m.FAIL)
        return
    before = facts(run)
    with pytest.raises(MachineError, match=event):
        getattr(run, event)(*RUN_EVENTS[event])
    assert facts(run) == before


@pytest.mark.parametrize(("phase", "event"), [(m.NEW, "begin"), (m.RUNNING, "finished"), (m.RUNNING, "fan_out")])
@pytest.mark.parametrize("state", [-1, 5])
def test_a_state_outside_the_plan_is_refused(phase: int, event: str, state: int) -> None:
    run = m.RunMachine(PLAN)
    for earlier, arguments in RUN_INTO[phase]:
        getattr(run, earlier)(*arguments)
    before = facts(run)
    with pytest.raises(MachineError, match="expected a state of the plan"):
        getattr(run, event)(state)
    assert facts(run) == before


def test_the_path_keeps_the_last_thousand() -> None:
    run = m.RunMachine(m.Plan([m.StatePlan(m.KIND_TASK), m.StatePlan(m.KIND_EXIT)]))
    run.begin(0)
    for _ in range(1500):
        run.finished(0)
    run.finished(1)
    assert len(run.path) == m.PATH_LIMIT
    assert (run.path[-1], run.transitions) == (1, 1501)
