//! The error of the machines: a driver reported something that cannot have happened.

use std::fmt;

use crate::machine::{RunEvent, RunPhase};
use crate::split::{SplitEvent, SplitPhase};

/// An event that is illegal in the machine's present phase.
///
/// It is a fault of the driver, never of the user's workflow. The machine that returned it is exactly as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// A [`SplitMachine`](crate::SplitMachine) refused an event.
    Split {
        /// What was reported.
        event: SplitEvent,
        /// The phase it came in.
        phase: SplitPhase,
        /// The branch it was about.
        branch: Option<u32>,
    },
    /// A [`RunMachine`](crate::RunMachine) refused an event.
    Run {
        /// What was reported.
        event: RunEvent,
        /// The phase it came in.
        phase: RunPhase,
    },
    /// A state that the plan does not have.
    UnknownState {
        /// What was reported.
        event: RunEvent,
        /// The state that came.
        state: u32,
        /// How many states the plan has.
        states: u32,
    },
    /// A source cannot have fewer branches than have already ended.
    Total {
        /// The number of branches that was reported.
        total: u32,
        /// How many have ended.
        ended: u32,
    },
    /// `Ask` is no answer to `Ask`.
    NotAnAnswer,
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Split { event, phase, branch: Some(branch) } => {
                write!(f, "{event:?} of branch {branch} is illegal in phase {phase:?}")
            }
            Self::Split { event, phase, branch: None } => {
                write!(f, "{event:?} is illegal in phase {phase:?}")
            }
            Self::Run { event, phase } => write!(f, "{event:?} is illegal in phase {phase:?}"),
            Self::UnknownState { event, state, states } => {
                write!(f, "{event:?} expects one of the plan's {states} states, got number {state}")
            }
            Self::Total { total, ended } => {
                write!(f, "{ended} branches have ended, so the source cannot have had {total}")
            }
            Self::NotAnAnswer => f.write_str("expected the answer Wait, Proceed or Fail, got Ask"),
        }
    }
}

impl std::error::Error for MachineError {}
