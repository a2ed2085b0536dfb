//! What the machines' errors say, and what only a direct caller of a join can get wrong.

use std::sync::Arc;

use cano_engine::{
    Join, JoinRule, MachineError, Plan, PlanError, RunEvent, RunMachine, RunPhase, StatePlan, Strategy, Verdict,
};

#[test]
fn a_source_cannot_have_had_fewer_than_have_ended() {
    let mut join = Join::new(JoinRule::new(Strategy::Quorum(3)), None);
    assert_eq!([join.succeeded(), join.failed()], [Verdict::Wait, Verdict::Wait]);
    let before = join.clone();
    let refused = join.source_ended(1).unwrap_err();
    assert_eq!(refused, MachineError::Total { total: 1, ended: 2 });
    assert_eq!(refused.to_string(), "2 branches have ended, so the source cannot have had 1");
    assert_eq!(join, before);
    assert_eq!(join.source_ended(2), Ok(Verdict::Fail));
}

#[test]
fn each_says_what_came_and_when() {
    let run = MachineError::Run { event: RunEvent::Joined, phase: RunPhase::New };
    assert_eq!(run.to_string(), "Joined is illegal in phase New");
    assert_eq!(MachineError::NotAnAnswer.to_string(), "expected the answer Wait, Proceed or Fail, got Ask");
    assert_eq!(PlanError::NoJoinState { state: 3 }.to_string(), "state 3 is a split without a join state");
}

#[test]
fn a_run_knows_its_plan() {
    let plan = Arc::new(Plan::new(vec![StatePlan::exit()], Some(7)).unwrap());
    assert!(Arc::ptr_eq(RunMachine::new(Arc::clone(&plan)).plan(), &plan));
}
