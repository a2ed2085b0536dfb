//! Options of a state, and of a run.

use std::time::Duration;

use crate::driver::{CancelToken, MemoryStore};
use crate::policy::RetryPolicy;

/// Options of a state's task; on a split they hold for each branch.
#[derive(Clone, Debug)]
pub struct TaskOptions<S> {
    pub(crate) retry: RetryPolicy,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) next: Option<Vec<S>>,
}

impl<S> Default for TaskOptions<S> {
    fn default() -> Self {
        Self { retry: RetryPolicy::none(), attempt_timeout: None, next: None }
    }
}

impl<S> TaskOptions<S> {
    /// No retries, no limit, no declared transitions.
    pub fn new() -> Self {
        Self::default()
    }

    /// When a failed attempt is made again.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How long one attempt may take.
    #[must_use]
    pub fn with_attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = Some(limit);
        self
    }

    /// The states that may follow; another one fails the run.
    #[must_use]
    pub fn with_next(mut self, next: impl IntoIterator<Item = S>) -> Self {
        self.next = Some(next.into_iter().collect());
        self
    }
}

/// Options of one run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub(crate) store: Option<MemoryStore>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancel: Option<CancelToken>,
}

impl RunOptions {
    /// The workflow's store, no limit, no token.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of this run's own.
    #[must_use]
    pub fn with_store(mut self, store: MemoryStore) -> Self {
        self.store = Some(store);
        self
    }

    /// How long the run may take.
    #[must_use]
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// What cancels the run. One that is set already stops it before its first state.
    #[must_use]
    pub fn with_cancel(mut self, token: CancelToken) -> Self {
        self.cancel = Some(token);
        self
    }
}
