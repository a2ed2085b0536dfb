//! One attempt of a task, in place or as a task of the runtime.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::driver::{MemoryStore, TaskFailure};
use crate::host::{AttemptFuture, SharedTask, TaskResult};

/// What an attempt comes to.
pub(crate) type AttemptOutcome<S> = Result<TaskResult<S>, TaskFailure>;

type BoundedFuture<S> = Pin<Box<dyn Future<Output = AttemptOutcome<S>> + Send>>;

/// A running attempt. Dropping it cancels it: at once in place, at its next suspension where it was spawned.
pub(crate) enum Work<S> {
    Plain(AttemptFuture<S>),
    Bounded(BoundedFuture<S>),
    Spawned(AbortOnDrop<AttemptOutcome<S>>),
}

/// A task of the runtime that ends with its owner.
pub(crate) struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<S: Send + Sync + 'static> Work<S> {
    /// Makes an attempt that runs in place; the user's code begins with the first poll.
    #[inline]
    pub(crate) fn in_place(task: &SharedTask<S>, store: &MemoryStore, limit: Option<Duration>) -> Self {
        let attempt = task.start(store.clone());
        match limit {
            None => Self::Plain(attempt),
            Some(limit) => Self::Bounded(Box::pin(bounded(attempt, limit))),
        }
    }

    /// Begins an attempt as a task of the runtime.
    pub(crate) fn spawned(task: &SharedTask<S>, store: &MemoryStore, limit: Option<Duration>) -> Self {
        let attempt = task.start(store.clone());
        let handle = match limit {
            None => tokio::spawn(async move { attempt.await.map_err(TaskFailure::Error) }),
            Some(limit) => tokio::spawn(bounded(attempt, limit)),
        };
        Self::Spawned(AbortOnDrop(handle))
    }

    /// Polls it; a panic is a failure.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<AttemptOutcome<S>> {
        // Nothing of ours is looked at after a panic but the future itself, and that is dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Plain(future) => future.as_mut().poll(cx).map_err(TaskFailure::Error),
            Self::Bounded(future) => future.as_mut().poll(cx),
            Self::Spawned(AbortOnDrop(handle)) => Pin::new(handle).poll(cx).map(|ended| match ended {
                Ok(outcome) => outcome,
                Err(error) if error.is_panic() => Err(TaskFailure::panicked(error.into_panic().as_ref())),
                Err(error) => Err(TaskFailure::Error(Box::new(error))),
            }),
        }));
        polled.unwrap_or_else(|payload| Poll::Ready(Err(TaskFailure::panicked(payload.as_ref()))))
    }

    /// Cancels it. Returns it where its end must still be waited for.
    pub(crate) fn cancel(self) -> Option<Self> {
        if let Self::Spawned(AbortOnDrop(handle)) = &self {
            handle.abort();
            return Some(self);
        }
        // A loser's `Drop` that panics is a loser's error: it does not change the run.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(self)));
        None
    }
}

async fn bounded<S>(attempt: AttemptFuture<S>, limit: Duration) -> AttemptOutcome<S> {
    match timeout(limit, attempt).await {
        Ok(outcome) => outcome.map_err(TaskFailure::Error),
        Err(_) => Err(TaskFailure::TimedOut(limit)),
    }
}

/// Which attempt of which branch, and since when.
#[derive(Clone, Copy)]
pub(crate) struct AttemptFacts {
    pub(crate) index: u32,
    pub(crate) attempt: u32,
    /// When the branch's first attempt began.
    pub(crate) first: Instant,
    /// When this attempt began.
    pub(crate) started: Instant,
}

/// An attempt of a branch.
pub(crate) struct BranchAttempt<S> {
    pub(crate) facts: AttemptFacts,
    pub(crate) work: Work<S>,
}

impl<S: Send + Sync + 'static> Future for BranchAttempt<S> {
    type Output = (AttemptFacts, AttemptOutcome<S>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let facts = self.facts;
        self.work.poll(cx).map(|outcome| (facts, outcome))
    }
}
