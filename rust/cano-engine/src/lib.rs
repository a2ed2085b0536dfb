//! Workflows as typed state machines with split and join.
//!
//! Two layers, one direction:
//!
//! - **Machines** ([`plan`], [`machine`], [`split`], [`join`], [`policy`]) hold all knowledge and do nothing: an event
//!   goes in, an action or a verdict comes out. No clock, no task, no thread, no randomness. A driver performs the
//!   actions and reports what happened; every decision is a function of what was reported, in that order.
//! - A **driver** runs them. Other drivers stand on the same machines (the Python package's, for one), so this crate
//!   never depends on what a driver needs.
//!
//! Vocabulary: a *run* goes from *state* to state by *transitions*; a state has a *task* or a *split*; a split has
//! *branches*, and its *join* decides by their completions when the run moves on. A *bulkhead* limits how many branches
//! are *live*; a branch between two attempts is in *back-off* and holds no permit.

#![forbid(unsafe_code)]

pub mod error;
pub mod join;
pub mod machine;
pub mod plan;
pub mod policy;
pub mod split;

pub use error::MachineError;
pub use join::{Join, JoinRule, Progress, Strategy, Verdict, percentage_need};
pub use machine::{Action, Failure, PATH_LIMIT, RunEvent, RunMachine, RunPhase};
pub use plan::{Plan, PlanError, StateId, StateKind, StatePlan};
pub use policy::{Backoff, RetryPolicy};
pub use split::{SplitEvent, SplitMachine, SplitPhase, Start};
