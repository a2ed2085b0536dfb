//! The Tokio driver: runs workflows of Rust tasks on the machines.
//!
//! A run is one future that polls its tasks and branches **in place**, each with a first poll where it begins: what
//! does not suspend costs no task of the runtime and no wake-up. Branches that burn processor time can be
//! [spawned](JoinConfig::spawned) instead. Dropping a run's future drops everything it runs.

mod attempt;
mod cancel;
mod flow;
mod join;
mod options;
mod outcome;
mod run;
mod slice;
mod split;
mod store;
mod timers;
mod workflow;

pub use cancel::CancelToken;
pub use join::{JoinConfig, JoinProgress, JoinStrategy};
pub use options::{RunOptions, TaskOptions};
pub use outcome::{RunError, RunReport, SplitResult, SplitTaskResult, StateVisit, TaskFailure};
pub use store::{MemoryStore, StoreError};
pub use workflow::Workflow;
