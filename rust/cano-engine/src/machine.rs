//! The run as a state machine over a [`Plan`]: an event goes in, one action comes out.
//!
//! | phase        | legal events                                | leads to                          |
//! |--------------|---------------------------------------------|-----------------------------------|
//! | `New`        | `Begin`, `Stop`                             | the phase of the initial state    |
//! | `Running`    | `Finished`, `Failed`, `FanOut`, `Stop`      | the next state's, `BackingOff`, `Splitting` |
//! | `Splitting`  | `Joined`, `JoinFailed`, `Stop`              | the join state's                  |
//! | `BackingOff` | `RetryDue`, `Stop`                          | `Running`                         |
//! | `Done`       | –                                           |                                   |
//!
//! Any other event returns a [`MachineError`] and changes nothing. An exit state is looked for before a handler is,
//! the initial state included. No clock, no task, no randomness in here.

use std::sync::Arc;

use crate::error::MachineError;
use crate::plan::{Plan, StateId, StateKind};

/// How many of the last states a run remembers for its errors.
pub const PATH_LIMIT: usize = 1_000;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunPhase {
    /// It has not begun.
    New,
    /// An attempt of the state's task runs.
    Running,
    /// The branches of the state's split run.
    Splitting,
    /// The state's task waits for its next attempt.
    BackingOff,
    /// It has ended.
    Done,
}

/// What a driver reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunEvent {
    /// [`RunMachine::begin`]
    Begin,
    /// [`RunMachine::finished`]
    Finished,
    /// [`RunMachine::failed`]
    Failed,
    /// [`RunMachine::retry_due`]
    RetryDue,
    /// [`RunMachine::fan_out`]
    FanOut,
    /// [`RunMachine::joined`]
    Joined,
    /// [`RunMachine::join_failed`]
    JoinFailed,
    /// [`RunMachine::stop`]
    Stop,
}

/// What the driver has to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// The run has ended in this exit state.
    Exit(StateId),
    /// Run an attempt of the state's task.
    Task {
        /// The state.
        state: StateId,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// Run the split of the state.
    Split {
        /// The state.
        state: StateId,
    },
    /// Wait, then report [`RunMachine::retry_due`].
    BackOff {
        /// Seconds.
        delay: f64,
        /// The attempt that comes after it.
        attempt: u32,
    },
    /// The run has failed.
    Fail(Failure),
}

/// Why a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The state is registered nowhere.
    NoHandler {
        /// The state.
        state: StateId,
    },
    /// The plan's limit of transitions is used up.
    TooManyTransitions {
        /// The state the run is in.
        state: StateId,
        /// The state it did not get to.
        next: StateId,
    },
    /// The state declares its transitions, and this is none of them.
    Undeclared {
        /// The state the run is in.
        state: StateId,
        /// The state that was refused.
        next: StateId,
    },
    /// The state's task failed, and no retry is left.
    Task {
        /// The state.
        state: StateId,
        /// How often it was tried.
        attempts: u32,
    },
    /// The state's split failed.
    Join {
        /// The state.
        state: StateId,
    },
    /// The driver ended the run: cancelled, out of time, or an error that is nobody's to retry.
    Stopped,
}

/// One run of a plan.
///
/// ```
/// use std::sync::Arc;
/// use cano_engine::{Action, Plan, RetryPolicy, RunMachine, StatePlan};
///
/// let plan = Plan::new(vec![StatePlan::task(RetryPolicy::none()), StatePlan::exit()], None)?;
/// let mut run = RunMachine::new(Arc::new(plan));
/// assert_eq!(run.begin(0)?, Action::Task { state: 0, attempt: 1 });
/// assert_eq!(run.finished(1)?, Action::Exit(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunMachine {
    plan: Arc<Plan>,
    phase: RunPhase,
    /// The state the run is in; meaningless in `New`.
    state: StateId,
    attempt: u32,
    /// Where the split that runs goes on; only looked at in `Splitting`.
    join_state: StateId,
    transitions: u64,
    /// A ring once it holds [`PATH_LIMIT`] states; `path_start` is its oldest.
    path: Vec<StateId>,
    path_start: usize,
}

impl RunMachine {
    /// A run of `plan` that has not begun.
    pub fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            phase: RunPhase::New,
            state: 0,
            attempt: 0,
            join_state: 0,
            transitions: 0,
            path: Vec::new(),
            path_start: 0,
        }
    }

    /// Enters the initial state.
    ///
    /// # Errors
    ///
    /// The run has begun already, or the plan has no such state.
    pub fn begin(&mut self, initial: StateId) -> Result<Action, MachineError> {
        self.expect(RunPhase::New, RunEvent::Begin)?;
        self.expect_state(initial, RunEvent::Begin)?;
        Ok(self.enter(initial))
    }

    /// The state's task has answered with the next state.
    ///
    /// # Errors
    ///
    /// No task runs, or the plan has no such state.
    #[inline]
    pub fn finished(&mut self, next: StateId) -> Result<Action, MachineError> {
        self.expect(RunPhase::Running, RunEvent::Finished)?;
        self.expect_state(next, RunEvent::Finished)?;
        Ok(self.advance(next))
    }

    /// An attempt of the state's task has failed; `retryable` says whether this failure may be tried again at all.
    ///
    /// `elapsed` is seconds since the first attempt began, `unit` randomness for the jitter in [-1, 1].
    ///
    /// # Errors
    ///
    /// No task runs.
    pub fn failed(&mut self, retryable: bool, elapsed: f64, unit: f64) -> Result<Action, MachineError> {
        self.expect(RunPhase::Running, RunEvent::Failed)?;
        let policy = &self.plan.states()[self.state as usize].retry;
        let delay = if retryable { policy.delay(self.attempt, elapsed, unit) } else { None };
        Ok(match delay {
            Some(delay) => {
                self.phase = RunPhase::BackingOff;
                self.attempt += 1;
                Action::BackOff { delay, attempt: self.attempt }
            }
            None => self.fail(Failure::Task { state: self.state, attempts: self.attempt }),
        })
    }

    /// The back-off is over.
    ///
    /// # Errors
    ///
    /// No task waits for its next attempt.
    pub fn retry_due(&mut self) -> Result<Action, MachineError> {
        self.expect(RunPhase::BackingOff, RunEvent::RetryDue)?;
        self.phase = RunPhase::Running;
        Ok(Action::Task { state: self.state, attempt: self.attempt })
    }

    /// The state's task has answered with a split that goes on at `join_state`.
    ///
    /// # Errors
    ///
    /// No task runs, or the plan has no such state.
    pub fn fan_out(&mut self, join_state: StateId) -> Result<Action, MachineError> {
        self.expect(RunPhase::Running, RunEvent::FanOut)?;
        self.expect_state(join_state, RunEvent::FanOut)?;
        self.phase = RunPhase::Splitting;
        self.join_state = join_state;
        Ok(Action::Split { state: self.state })
    }

    /// The split proceeds.
    ///
    /// # Errors
    ///
    /// No split runs.
    pub fn joined(&mut self) -> Result<Action, MachineError> {
        self.expect(RunPhase::Splitting, RunEvent::Joined)?;
        Ok(self.advance(self.join_state))
    }

    /// The split has failed. It is not retried: its branches were.
    ///
    /// # Errors
    ///
    /// No split runs.
    pub fn join_failed(&mut self) -> Result<Action, MachineError> {
        self.expect(RunPhase::Splitting, RunEvent::JoinFailed)?;
        Ok(self.fail(Failure::Join { state: self.state }))
    }

    /// The run ends from outside: cancelled, out of time, or with an error that nobody may retry.
    ///
    /// # Errors
    ///
    /// The run has ended already.
    pub fn stop(&mut self) -> Result<Action, MachineError> {
        if self.phase == RunPhase::Done {
            return Err(MachineError::Run { event: RunEvent::Stop, phase: self.phase });
        }
        Ok(self.fail(Failure::Stopped))
    }

    /// Where the run stands.
    pub fn phase(&self) -> RunPhase {
        self.phase
    }

    /// The state the run is in, once it has begun.
    pub fn state(&self) -> Option<StateId> {
        if self.path.is_empty() { None } else { Some(self.state) }
    }

    /// Which attempt of the state's task runs or comes next, from 1; 0 where there is no task.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often the run has gone from one state to another.
    pub fn transitions(&self) -> u64 {
        self.transitions
    }

    /// The last [`PATH_LIMIT`] states entered, oldest first.
    pub fn path(&self) -> impl Iterator<Item = StateId> {
        let (newer, older) = self.path.split_at(self.path_start);
        older.iter().chain(newer).copied()
    }

    /// What the run runs.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    #[inline]
    fn expect(&self, phase: RunPhase, event: RunEvent) -> Result<(), MachineError> {
        if self.phase == phase { Ok(()) } else { Err(MachineError::Run { event, phase: self.phase }) }
    }

    #[inline]
    fn expect_state(&self, state: StateId, event: RunEvent) -> Result<(), MachineError> {
        let states = self.plan.states().len() as u32;
        if state < states { Ok(()) } else { Err(MachineError::UnknownState { event, state, states }) }
    }

    #[inline]
    fn advance(&mut self, next: StateId) -> Action {
        let state = self.state;
        if !self.plan.states()[state as usize].allows(next) {
            return self.fail(Failure::Undeclared { state, next });
        }
        if self.plan.max_transitions().is_some_and(|limit| self.transitions >= limit) {
            return self.fail(Failure::TooManyTransitions { state, next });
        }
        self.transitions += 1;
        self.enter(next)
    }

    #[inline]
    fn enter(&mut self, state: StateId) -> Action {
        self.state = state;
        self.remember(state);
        let plan = &self.plan.states()[state as usize];
        if plan.kind == StateKind::Task {
            self.phase = RunPhase::Running;
            self.attempt = 1;
            return Action::Task { state, attempt: 1 };
        }
        self.attempt = 0;
        match (plan.kind, plan.join_state) {
            (StateKind::Exit, _) => {
                self.phase = RunPhase::Done;
                Action::Exit(state)
            }
            (StateKind::Split, Some(join_state)) => {
                self.phase = RunPhase::Splitting;
                self.join_state = join_state;
                Action::Split { state }
            }
            _ => self.fail(Failure::NoHandler { state }),
        }
    }

    #[inline]
    fn remember(&mut self, state: StateId) {
        if self.path.len() < PATH_LIMIT {
            self.path.push(state);
        } else {
            self.path[self.path_start] = state;
            self.path_start = if self.path_start + 1 == PATH_LIMIT { 0 } else { self.path_start + 1 };
        }
    }

    fn fail(&mut self, failure: Failure) -> Action {
        self.phase = RunPhase::Done;
        Action::Fail(failure)
    }
}
