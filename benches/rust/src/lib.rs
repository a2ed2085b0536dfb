//! What the benchmarks share: runtimes, and the same tasks for both engines.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use cano::prelude::{CanoError, Resources, Task as OriginalTask, TaskConfig, TaskResult as OriginalResult};
use cano_engine::{MemoryStore, Task, TaskOutcome, TaskResult};
use tokio::runtime::{Builder, Runtime};

/// States are numbers: cheap to clone, to compare and to hash, so that the engines are measured and not the states.
pub type State = u32;

/// The runtimes that are measured.
///
/// # Panics
///
/// Where the system has no threads left.
#[must_use]
pub fn runtimes() -> [(&'static str, Runtime); 2] {
    let one = Builder::new_current_thread().enable_time().build();
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build();
    [("current_thread", one.expect("a runtime")), ("two_workers", two.expect("a runtime"))]
}

/// Answers a state at once.
#[derive(Clone, Copy, Debug)]
pub struct Goto(pub State);

impl Task<State> for Goto {
    async fn run(&self, _: MemoryStore) -> TaskOutcome<State> {
        Ok(TaskResult::Single(self.0))
    }
}

/// Answers a state after it has let others run once.
#[derive(Clone, Copy, Debug)]
pub struct Yield(pub State);

impl Task<State> for Yield {
    async fn run(&self, _: MemoryStore) -> TaskOutcome<State> {
        tokio::task::yield_now().await;
        Ok(TaskResult::Single(self.0))
    }
}

/// Fails twice of three times.
#[derive(Debug)]
pub struct Flaky {
    calls: AtomicU32,
    next: State,
}

impl Flaky {
    /// A task that answers this state every third time.
    #[must_use]
    pub fn new(next: State) -> Self {
        Self { calls: AtomicU32::new(0), next }
    }

    fn fails(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % 3 != 2
    }
}

impl Task<State> for Flaky {
    async fn run(&self, _: MemoryStore) -> TaskOutcome<State> {
        if self.fails() { Err("not yet".into()) } else { Ok(TaskResult::Single(self.next)) }
    }
}

/// The same tasks for the original.
pub mod original {
    use super::{CanoError, Flaky, Goto, OriginalResult, OriginalTask, Resources, State, TaskConfig, Yield};
    use std::time::Duration;

    type Answer = Result<OriginalResult<State>, CanoError>;

    #[cano::task]
    impl OriginalTask<State> for Goto {
        fn config(&self) -> TaskConfig {
            TaskConfig::minimal()
        }

        async fn run(&self, _: &Resources) -> Answer {
            Ok(OriginalResult::Single(self.0))
        }
    }

    #[cano::task]
    impl OriginalTask<State> for Yield {
        fn config(&self) -> TaskConfig {
            TaskConfig::minimal()
        }

        async fn run(&self, _: &Resources) -> Answer {
            tokio::task::yield_now().await;
            Ok(OriginalResult::Single(self.0))
        }
    }

    #[cano::task]
    impl OriginalTask<State> for Flaky {
        fn config(&self) -> TaskConfig {
            TaskConfig::minimal().with_fixed_retry(2, Duration::ZERO)
        }

        async fn run(&self, _: &Resources) -> Answer {
            if self.fails() { Err(CanoError::task_execution("not yet")) } else { Ok(OriginalResult::Single(self.next)) }
        }
    }
}
