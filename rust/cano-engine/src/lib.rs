//! Workflows as typed state machines with split and join.
//!
//! Two layers, one direction:
//!
//! - **Machines** ([`plan`], [`machine`], [`split`], [`join`], [`policy`]) hold all knowledge and do nothing: an event
//!   goes in, an action or a verdict comes out. No clock, no task, no thread, no randomness. A driver performs the
//!   actions and reports what happened; every decision is a function of what was reported, in that order.
//! - Beside them, [`handoff`] is what a driver with worker threads shares with them: queues, and who calls whom; and [`timers`]
//!   tells a driver on an event loop what is due.
//! - The **driver** ([`driver`], [`host`], [`trace`]; feature `driver`, on by default) runs workflows of Rust tasks on
//!   Tokio: [`Workflow`]. Other drivers stand on the same machines (the Python package's, for one) and do without it.
//!
//! Vocabulary: a *run* goes from *state* to state by *transitions*; a state has a *task* or a *split*; a split has
//! *branches*, and its *join* decides by their completions when the run moves on. A *bulkhead* limits how many branches
//! are *live*; a branch between two attempts is in *back-off* and holds no permit.

#![forbid(unsafe_code)]

#[cfg(feature = "driver")]
pub mod driver;
pub mod error;
pub mod handoff;
#[cfg(feature = "driver")]
pub mod host;
pub mod join;
pub mod machine;
pub mod plan;
pub mod policy;
pub mod split;
pub mod timers;
#[cfg(feature = "driver")]
pub mod trace;

/// What [`handoff`] is made of, in a place where `tests/interleavings` can put something that tries every order.
mod sync {
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use std::sync::{Mutex, MutexGuard};
}

#[cfg(feature = "driver")]
pub use driver::{
    CancelToken, JoinConfig, JoinProgress, JoinStrategy, MemoryStore, RunError, RunOptions, RunReport, SplitResult,
    SplitTaskResult, StateVisit, StoreError, TaskFailure, TaskOptions, Workflow,
};
pub use error::MachineError;
pub use handoff::{Landing, WakeFlag, WorkQueue};
#[cfg(feature = "driver")]
pub use host::{BoxError, SharedTask, Task, TaskOutcome, TaskResult};
pub use join::{Join, JoinRule, Progress, Strategy, Verdict, percentage_need};
pub use machine::{Action, Failure, PATH_LIMIT, RunEvent, RunMachine, RunPhase};
pub use plan::{Plan, PlanError, StateId, StateKind, StatePlan};
pub use policy::{Backoff, RetryPolicy};
pub use split::{SplitEvent, SplitMachine, SplitPhase, Start};
pub use timers::{TimerId, Timers};
