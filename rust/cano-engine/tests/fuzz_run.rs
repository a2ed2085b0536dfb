//! The run machine under ten million events on random plans, against a model; `CANO_FUZZ_EVENTS` says how many.

#![allow(clippy::print_stderr, reason = "the seed of a script that fails")]

#[path = "common/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

use cano_engine::{
    Action, Failure, MachineError, PATH_LIMIT, Plan, RetryPolicy, RunEvent, RunMachine, RunPhase, StateId, StateKind,
    StatePlan,
};
use random::{Named, Random, events};

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

/// What there is of phase, event and action, and of phase and event that is refused.
const CELLS: usize = 57;

/// Enough to get everywhere.
const QUICK: u64 = 60_000;

const DELAY: f64 = 0.5;

/// One report: which event, about which state, and what a failed attempt says of itself.
#[derive(Clone, Copy, Debug)]
struct Report {
    event: RunEvent,
    state: StateId,
    retryable: bool,
    elapsed: f64,
}

fn report(run: &mut RunMachine, report: Report) -> Result<Action, MachineError> {
    match report.event {
        RunEvent::Begin => run.begin(report.state),
        RunEvent::Finished => run.finished(report.state),
        RunEvent::Failed => run.failed(report.retryable, report.elapsed, 0.0),
        RunEvent::RetryDue => run.retry_due(),
        RunEvent::FanOut => run.fan_out(report.state),
        RunEvent::Joined => run.joined(),
        RunEvent::JoinFailed => run.join_failed(),
        RunEvent::Stop => run.stop(),
    }
}

fn plan(random: &mut Random) -> Plan {
    let count = 1 + random.below(8);
    let limit = random.percent(30).then(|| u64::from(random.below(30)));
    let mut states = Vec::new();
    for _ in 0..count {
        let state = match random.below(20) {
            0 => StatePlan::exit(),
            1 => StatePlan::missing(),
            2..=6 => StatePlan::split(random.below(count)),
            _ => {
                let policy = RetryPolicy::fixed(random.below(4), DELAY);
                StatePlan::task(if random.percent(30) { policy.within(2.0) } else { policy })
            }
        };
        let declares = random.percent(20);
        states.push(if declares { state.with_next((0..count).filter(|_| random.percent(85))) } else { state });
    }
    Plan::new(states, limit).expect("a plan of known states")
}

/// What the run machine should be, said once more.
struct Model {
    plan: Arc<Plan>,
    phase: RunPhase,
    path: Vec<StateId>,
    attempt: u32,
    join_state: StateId,
}

impl Model {
    fn state(&self) -> StateId {
        *self.path.last().expect("it has begun")
    }

    /// What must follow, or why it must be refused.
    fn apply(&mut self, report: Report) -> Result<Action, MachineError> {
        let Report { event, state, retryable, elapsed } = report;
        let is_legal = match event {
            RunEvent::Begin => self.phase == RunPhase::New,
            RunEvent::Finished | RunEvent::Failed | RunEvent::FanOut => self.phase == RunPhase::Running,
            RunEvent::RetryDue => self.phase == RunPhase::BackingOff,
            RunEvent::Joined | RunEvent::JoinFailed => self.phase == RunPhase::Splitting,
            RunEvent::Stop => self.phase != RunPhase::Done,
        };
        if !is_legal {
            return Err(MachineError::Run { event, phase: self.phase });
        }
        let states = self.plan.states().len() as u32;
        if matches!(event, RunEvent::Begin | RunEvent::Finished | RunEvent::FanOut) && state >= states {
            return Err(MachineError::UnknownState { event, state, states });
        }
        Ok(match event {
            RunEvent::Begin => self.enter(state),
            RunEvent::Finished => self.advance(state),
            RunEvent::Joined => self.advance(self.join_state),
            RunEvent::Failed => {
                let policy = self.plan.states()[self.state() as usize].retry;
                let in_time = policy.max_elapsed.is_none_or(|most| elapsed + DELAY <= most);
                if retryable && self.attempt <= policy.retries() && in_time {
                    self.phase = RunPhase::BackingOff;
                    self.attempt += 1;
                    Action::BackOff { delay: DELAY, attempt: self.attempt }
                } else {
                    self.fail(Failure::Task { state: self.state(), attempts: self.attempt })
                }
            }
            RunEvent::RetryDue => {
                self.phase = RunPhase::Running;
                Action::Task { state: self.state(), attempt: self.attempt }
            }
            RunEvent::FanOut => {
                (self.phase, self.join_state) = (RunPhase::Splitting, state);
                Action::Split { state: self.state() }
            }
            RunEvent::JoinFailed => self.fail(Failure::Join { state: self.state() }),
            RunEvent::Stop => self.fail(Failure::Stopped),
        })
    }

    fn advance(&mut self, next: StateId) -> Action {
        let state = self.state();
        if self.plan.states()[state as usize].next.as_deref().is_some_and(|declared| !declared.contains(&next)) {
            self.fail(Failure::Undeclared { state, next })
        } else if self.plan.max_transitions() == Some(self.path.len() as u64 - 1) {
            self.fail(Failure::TooManyTransitions { state, next })
        } else {
            self.enter(next)
        }
    }

    fn enter(&mut self, state: StateId) -> Action {
        self.path.push(state);
        let plan = &self.plan.states()[state as usize];
        self.attempt = u32::from(plan.kind == StateKind::Task);
        match plan.kind {
            StateKind::Task => {
                self.phase = RunPhase::Running;
                Action::Task { state, attempt: 1 }
            }
            StateKind::Split => {
                (self.phase, self.join_state) = (RunPhase::Splitting, plan.join_state.expect("a split has one"));
                Action::Split { state }
            }
            StateKind::Exit => {
                self.phase = RunPhase::Done;
                Action::Exit(state)
            }
            StateKind::Missing => self.fail(Failure::NoHandler { state }),
        }
    }

    fn fail(&mut self, failure: Failure) -> Action {
        self.phase = RunPhase::Done;
        Action::Fail(failure)
    }

    fn check(&self, run: &RunMachine) {
        assert_eq!((run.phase(), run.attempt()), (self.phase, self.attempt));
        assert_eq!(run.state(), self.path.last().copied());
        assert_eq!(run.transitions(), (self.path.len() as u64).saturating_sub(1));
        assert!(self.plan.max_transitions().is_none_or(|most| run.transitions() <= most));
    }

    /// The path as a whole, which is too long to be looked at after each event.
    fn check_path(&self, run: &RunMachine) {
        let remembered = &self.path[self.path.len().saturating_sub(PATH_LIMIT)..];
        assert!(run.path().eq(remembered.iter().copied()));
        for step in self.path.windows(2) {
            assert!(self.plan.states()[step[0] as usize].allows(step[1]));
        }
    }
}

/// An event to report: mostly one that is legal.
fn event(random: &mut Random, model: &Model) -> Report {
    let states = model.plan.states().len() as u32;
    let event = if random.percent(10) {
        random.pick(&EVENTS)
    } else {
        match model.phase {
            RunPhase::New => RunEvent::Begin,
            RunPhase::Running => {
                random.pick(&[RunEvent::Finished, RunEvent::Failed, RunEvent::Finished, RunEvent::FanOut])
            }
            RunPhase::BackingOff => RunEvent::RetryDue,
            RunPhase::Splitting if random.percent(2) => RunEvent::JoinFailed,
            RunPhase::Splitting => RunEvent::Joined,
            RunPhase::Done => random.pick(&EVENTS),
        }
    };
    // A run that comes to its end at once goes through little: what ends it is rare here.
    let event = if event == RunEvent::Stop && random.percent(90) { RunEvent::RetryDue } else { event };
    let state = if random.percent(2) { states + random.below(3) } else { random.below(states) };
    Report { event, state, retryable: random.percent(95), elapsed: f64::from(random.below(4)) / 2.0 }
}

/// Plays one run and returns how many events it reported.
fn play(seed: u64, reached: &mut BTreeSet<String>) -> u64 {
    let _named = Named(seed);
    let random = &mut Random::new(seed);
    let plan = Arc::new(plan(random));
    let mut run = RunMachine::new(Arc::clone(&plan));
    let mut model = Model { plan, phase: RunPhase::New, path: Vec::new(), attempt: 0, join_state: 0 };
    let (mut reported, mut ended) = (0, 0);
    while reported < 6_000 && !(model.phase == RunPhase::Done && random.percent(30)) {
        reported += 1;
        let what = event(random, &model);
        let before = (model.phase, format!("{run:?}"));
        let expected = model.apply(what);
        let answer = report(&mut run, what);
        assert_eq!(answer, expected, "{what:?}");
        match &answer {
            Ok(action) => {
                ended += u32::from(matches!(action, Action::Exit(_) | Action::Fail(_)));
                let action = format!("{action:?}");
                let name: String =
                    action.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == '(').collect();
                reached.insert(format!("{:?} {:?} {name}", before.0, what.event));
            }
            Err(_) => {
                assert_eq!(format!("{run:?}"), before.1, "a refused event changes nothing: {what:?}");
                reached.insert(format!("{:?} {:?} refused", before.0, what.event));
            }
        }
        model.check(&run);
    }
    assert!(ended <= 1, "a run ends once");
    model.check_path(&run);
    reported
}

#[test]
fn whatever_is_reported_a_run_ends_once() {
    let (most, mut reached, mut done, mut seed) = (events(QUICK), BTreeSet::new(), 0, 0);
    while done < most {
        done += play(seed, &mut reached);
        seed += 1;
    }
    // The harness captures what `println!` writes, but not this: how much was tried is worth a line.
    writeln!(std::io::stderr(), "run machine: {done} events in {seed} runs").unwrap();
    if most < QUICK {
        return; // too few to get everywhere
    }
    assert_eq!(reached.len(), CELLS, "{reached:#?}");
}
