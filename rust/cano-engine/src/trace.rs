//! The ordered record of a run: what every engine that stands on the machines must agree on.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// One thing that happened in a run. What a failure was is in the error or the split's result, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceEvent<S> {
    /// A state was entered.
    StateEnter(S),
    /// An attempt of a state's task began.
    TaskStart(S, u32),
    /// A state's task answered.
    TaskSuccess(S),
    /// A state's task failed for good.
    TaskFailure(S),
    /// A task (`None`) or a branch failed and waits for this attempt.
    Retry(S, Option<u32>, u32),
    /// A split was entered.
    SplitStart(S),
    /// A branch began.
    BranchStart(S, u32),
    /// A branch answered.
    BranchSuccess(S, u32),
    /// A branch failed for good.
    BranchFailure(S, u32),
    /// A branch was cancelled, or never began.
    BranchCancelled(S, u32),
    /// A split's deadline came.
    SplitTimeout(S),
    /// A split was decided: whether it proceeds.
    Join(S, bool),
    /// The run ended: whether in an exit state.
    WorkflowEnd(bool),
}

/// Is told what happens, while it happens, on the thread that drives the run. It must not block. One
/// that panics loses the event; the run goes on.
pub trait Observer<S>: Send + Sync {
    /// Something happened.
    fn event(&self, event: TraceEvent<S>);
}

/// An observer that keeps what it is told.
///
/// ```
/// use cano_engine::trace::{Observer, Trace, TraceEvent};
///
/// let trace = Trace::new();
/// trace.event(TraceEvent::StateEnter("loading"));
/// assert_eq!(trace.take(), [TraceEvent::StateEnter("loading")]);
/// ```
pub struct Trace<S> {
    events: Mutex<Vec<TraceEvent<S>>>,
}

impl<S> Trace<S> {
    /// An empty record.
    pub fn new() -> Self {
        Self { events: Mutex::new(Vec::new()) }
    }

    /// What was recorded since the last call.
    pub fn take(&self) -> Vec<TraceEvent<S>> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S> Default for Trace<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> fmt::Debug for Trace<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace(..)")
    }
}

impl<S: Send> Observer<S> for Trace<S> {
    fn event(&self, event: TraceEvent<S>) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Who is told, if anybody: nothing is built for nobody.
pub(crate) struct Observed<S>(pub(crate) Option<Arc<dyn Observer<S>>>);

impl<S> Clone for Observed<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Tells the observer, if there is one. An observer that panics loses that event and changes nothing else.
#[inline]
pub(crate) fn tell<S>(observed: &Observed<S>, event: impl FnOnce() -> TraceEvent<S>) {
    if let Some(observer) = &observed.0 {
        // The event is discarded with the panic, and the run's own state is not in the closure.
        let _ = catch_unwind(AssertUnwindSafe(|| observer.event(event())));
    }
}
