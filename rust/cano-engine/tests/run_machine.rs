//! The run machine: every cell of its table, random runs against a model, and every failure.

use std::sync::Arc;

use cano_engine::{
    Action, Failure, MachineError, PATH_LIMIT, Plan, PlanError, RetryPolicy, RunEvent, RunMachine, RunPhase, StatePlan,
};
use proptest::prelude::*;

/// 0: task with one retry, 1: split to 2, 2: task that may go to 0 and 3, 3: exit, 4: registered nowhere.
fn plan(max_transitions: Option<u64>) -> Arc<Plan> {
    let states = vec![
        StatePlan::task(RetryPolicy::fixed(1, 0.25)),
        StatePlan::split(2),
        StatePlan::task(RetryPolicy::none()).with_next([0, 3]),
        StatePlan::exit(),
        StatePlan::missing(),
    ];
    Arc::new(Plan::new(states, max_transitions).unwrap())
}

const EVENTS: [RunEvent; 8] = [
    RunEvent::Begin,
    RunEvent::Finished,
    RunEvent::Failed,
    RunEvent::RetryDue,
    RunEvent::FanOut,
    RunEvent::Joined,
    RunEvent::JoinFailed,
    RunEvent::Stop,
];

fn legal(phase: RunPhase) -> &'static [RunEvent] {
    match phase {
        RunPhase::New => &[RunEvent::Begin, RunEvent::Stop],
        RunPhase::Running => &[RunEvent::Finished, RunEvent::Failed, RunEvent::FanOut, RunEvent::Stop],
        RunPhase::Splitting => &[RunEvent::Joined, RunEvent::JoinFailed, RunEvent::Stop],
        RunPhase::BackingOff => &[RunEvent::RetryDue, RunEvent::Stop],
        RunPhase::Done => &[],
    }
}

fn report(run: &mut RunMachine, event: RunEvent, state: u32, retryable: bool) -> Result<Action, MachineError> {
    match event {
        RunEvent::Begin => run.begin(state),
        RunEvent::Finished => run.finished(state),
        RunEvent::Failed => run.failed(retryable, 0.0, 0.0),
        RunEvent::RetryDue => run.retry_due(),
        RunEvent::FanOut => run.fan_out(state),
        RunEvent::Joined => run.joined(),
        RunEvent::JoinFailed => run.join_failed(),
        RunEvent::Stop => run.stop(),
    }
}

/// Everything a machine knows that can be seen.
fn facts(run: &RunMachine) -> (RunPhase, Option<u32>, u32, u64, Vec<u32>) {
    (run.phase(), run.state(), run.attempt(), run.transitions(), run.path().collect())
}

fn run_in(phase: RunPhase) -> RunMachine {
    let mut run = RunMachine::new(plan(None));
    match phase {
        RunPhase::New => {}
        RunPhase::Running => assert!(run.begin(0).is_ok()),
        RunPhase::Splitting => assert!(run.begin(1).is_ok()),
        RunPhase::BackingOff => assert!(run.begin(0).is_ok() && run.failed(true, 0.0, 0.0).is_ok()),
        RunPhase::Done => assert!(run.begin(3).is_ok()),
    }
    assert_eq!(run.phase(), phase);
    run
}

#[test]
fn every_cell_is_legal_or_refused_as_the_table_says() {
    let phases = [RunPhase::New, RunPhase::Running, RunPhase::Splitting, RunPhase::BackingOff, RunPhase::Done];
    for phase in phases {
        for event in EVENTS {
            let mut run = run_in(phase);
            let before = facts(&run);
            let answer = report(&mut run, event, 0, true);
            if legal(phase).contains(&event) {
                assert!(answer.is_ok(), "{phase:?} {event:?}");
            } else {
                assert_eq!(answer, Err(MachineError::Run { event, phase }));
                assert_eq!(facts(&run), before, "{phase:?} {event:?}");
            }
        }
    }
}

#[test]
fn a_state_that_the_plan_does_not_have_is_refused() {
    for (phase, event) in [
        (RunPhase::New, RunEvent::Begin),
        (RunPhase::Running, RunEvent::Finished),
        (RunPhase::Running, RunEvent::FanOut),
    ] {
        let mut run = run_in(phase);
        let before = facts(&run);
        let refused = report(&mut run, event, 5, true).unwrap_err();
        assert_eq!(refused, MachineError::UnknownState { event, state: 5, states: 5 });
        assert!(refused.to_string().contains("one of the plan's 5 states, got number 5"));
        assert_eq!(facts(&run), before);
    }
}

#[test]
fn a_run_goes_through_its_states() {
    let mut run = RunMachine::new(plan(Some(4)));
    assert_eq!(run.begin(0), Ok(Action::Task { state: 0, attempt: 1 }));
    assert_eq!(run.finished(1), Ok(Action::Split { state: 1 }));
    assert_eq!((run.state(), run.attempt()), (Some(1), 0), "a split has no attempts");
    assert_eq!(run.joined(), Ok(Action::Task { state: 2, attempt: 1 }));
    assert_eq!((run.state(), run.attempt()), (Some(2), 1));
    assert_eq!(run.finished(0), Ok(Action::Task { state: 0, attempt: 1 }));
    assert_eq!(run.fan_out(3), Ok(Action::Split { state: 0 }));
    assert_eq!(run.joined(), Ok(Action::Exit(3)));
    assert_eq!(run.path().collect::<Vec<_>>(), [0, 1, 2, 0, 3]);
}

#[test]
fn an_initial_exit_state_ends_the_run_at_once() {
    assert_eq!(RunMachine::new(plan(Some(0))).begin(3), Ok(Action::Exit(3)));
}

#[test]
fn a_retry_is_a_new_attempt_and_retries_end() {
    let mut run = run_in(RunPhase::New);
    assert_eq!(run.state(), None);
    run.begin(0).unwrap();
    assert_eq!(run.failed(true, 0.0, 0.0), Ok(Action::BackOff { delay: 0.25, attempt: 2 }));
    assert_eq!(run.attempt(), 2);
    assert_eq!(run.retry_due(), Ok(Action::Task { state: 0, attempt: 2 }));
    assert_eq!(run.failed(true, 0.0, 0.0), Ok(Action::Fail(Failure::Task { state: 0, attempts: 2 })));
}

#[test]
fn every_failure() {
    type Script = &'static [(RunEvent, u32)];
    let cases: [(Script, Failure); 8] = [
        (&[(RunEvent::Begin, 4)], Failure::NoHandler { state: 4 }),
        (&[(RunEvent::Begin, 2), (RunEvent::Finished, 1)], Failure::Undeclared { state: 2, next: 1 }),
        (
            &[(RunEvent::Begin, 2), (RunEvent::FanOut, 1), (RunEvent::Joined, 0)],
            Failure::Undeclared { state: 2, next: 1 },
        ),
        (
            &[(RunEvent::Begin, 0), (RunEvent::Finished, 0), (RunEvent::Finished, 0), (RunEvent::Finished, 2)],
            Failure::TooManyTransitions { state: 0, next: 2 },
        ),
        (&[(RunEvent::Begin, 0), (RunEvent::Failed, 0)], Failure::Task { state: 0, attempts: 1 }),
        (&[(RunEvent::Begin, 1), (RunEvent::JoinFailed, 0)], Failure::Join { state: 1 }),
        (&[(RunEvent::Begin, 0), (RunEvent::Stop, 0)], Failure::Stopped),
        (&[(RunEvent::Stop, 0)], Failure::Stopped),
    ];
    for (script, failure) in cases {
        let mut run = RunMachine::new(plan(Some(2)));
        let last = script.iter().map(|&(event, state)| report(&mut run, event, state, false).unwrap()).last();
        assert_eq!(last, Some(Action::Fail(failure)));
        assert_eq!(run.phase(), RunPhase::Done);
    }
}

#[test]
fn the_path_keeps_the_last_thousand() {
    let mut run = RunMachine::new(plan(None));
    run.begin(0).unwrap();
    for _ in 0..2_500 {
        run.finished(0).unwrap();
    }
    run.finished(2).unwrap();
    run.finished(3).unwrap();
    let path: Vec<u32> = run.path().collect();
    assert_eq!((path.len(), &path[PATH_LIMIT - 3..]), (PATH_LIMIT, &[0, 2, 3][..]));
    assert_eq!(run.transitions(), 2_502);
}

#[test]
fn a_plan_that_contradicts_itself_is_refused() {
    let join_nowhere = StatePlan { join_state: None, ..StatePlan::split(0) };
    assert_eq!(Plan::new(vec![join_nowhere], None), Err(PlanError::NoJoinState { state: 0 }));
    let names = PlanError::UnknownState { state: 1, named: 9 };
    assert_eq!(Plan::new(vec![StatePlan::exit(), StatePlan::split(9)], None), Err(names));
    assert_eq!(Plan::new(vec![StatePlan::exit(), StatePlan::exit().with_next([0, 9])], None), Err(names));
    assert_eq!(names.to_string(), "state 1 names state 9, which the plan does not have");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 2_000 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is reported, in whatever order: refused events change nothing, others move as the model says.
    #[test]
    fn random_reports_agree_with_the_model(
        limit in prop::option::of(0..6_u64),
        script in prop::collection::vec((prop::sample::select(EVENTS.to_vec()), 0..6_u32, any::<bool>()), 0..60),
    ) {
        let plan = plan(limit);
        let mut run = RunMachine::new(plan.clone());
        let mut path = Vec::new();
        for (event, state, retryable) in script {
            let before = facts(&run);
            let is_legal = legal(run.phase()).contains(&event);
            let names_state = matches!(event, RunEvent::Begin | RunEvent::Finished | RunEvent::FanOut);
            match report(&mut run, event, state, retryable) {
                Err(_) => {
                    prop_assert!(!is_legal || (names_state && state == 5));
                    prop_assert_eq!(facts(&run), before);
                    continue;
                }
                Ok(action) => {
                    prop_assert!(is_legal);
                    let entered = match action {
                        Action::Split { .. } if event == RunEvent::FanOut => None,
                        Action::Task { state, attempt: 1 }
                        | Action::Split { state }
                        | Action::Exit(state)
                        | Action::Fail(Failure::NoHandler { state }) => Some(state),
                        _ => None,
                    };
                    path.extend(entered);
                    let ended = matches!(action, Action::Exit(_) | Action::Fail(_));
                    prop_assert_eq!(run.phase() == RunPhase::Done, ended);
                }
            }
            prop_assert_eq!(run.path().collect::<Vec<_>>(), path.clone());
            prop_assert_eq!(run.transitions(), path.len().saturating_sub(1) as u64);
            prop_assert!(limit.is_none_or(|limit| run.transitions() <= limit));
            for step in path.windows(2) {
                prop_assert!(plan.states()[step[0] as usize].allows(step[1]));
            }
        }
    }
}
