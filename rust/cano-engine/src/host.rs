//! What the driver asks of a task: one attempt at a time, each a future of its own.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::driver::{JoinConfig, MemoryStore};

/// Any error of a user's task.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a task comes to.
pub type TaskOutcome<S> = Result<TaskResult<S>, BoxError>;

/// What a task answers.
#[non_exhaustive]
pub enum TaskResult<S> {
    /// The next state.
    Single(S),
    /// Branches chosen at run time, and how they are joined. Only a state's task may answer so, a branch may not.
    Split(Vec<SharedTask<S>>, JoinConfig<S>),
    /// A branch's output. A branch does not steer the run, so it needs no state; a state's task may not answer so.
    Output(Arc<dyn Any + Send + Sync>),
}

impl<S> TaskResult<S> {
    /// Wraps a branch's output.
    pub fn output(value: impl Any + Send + Sync) -> Self {
        Self::Output(Arc::new(value))
    }

    /// The output of a branch, if it is of this type.
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        match self {
            Self::Output(value) => value.downcast_ref(),
            Self::Single(_) | Self::Split(..) => None,
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for TaskResult<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(state) => f.debug_tuple("Single").field(state).finish(),
            Self::Split(tasks, join) => f.debug_tuple("Split").field(&tasks.len()).field(join).finish(),
            Self::Output(_) => f.write_str("Output(..)"),
        }
    }
}

/// One unit of work: a state's task, or a branch of a split.
///
/// Every closure `Fn(MemoryStore) -> Future<Output = TaskOutcome<S>>` is one.
///
/// # Cancel safety
///
/// A task is cancelled by dropping its future at the `await` it stands at; what it holds is dropped with it. A task that
/// must undo something does so in a guard's `Drop`.
///
/// # Panics
///
/// A panic in a task is caught and ends its attempt; it is never retried.
///
/// ```
/// use cano_engine::{MemoryStore, Task, TaskOutcome, TaskResult};
///
/// struct Load;
///
/// impl Task<&'static str> for Load {
///     async fn run(&self, store: MemoryStore) -> TaskOutcome<&'static str> {
///         store.put("rows", vec![1, 2, 3]);
///         Ok(TaskResult::Single("loaded"))
///     }
/// }
/// ```
pub trait Task<S>: Send + Sync + 'static {
    /// Makes one attempt.
    fn run(&self, store: MemoryStore) -> impl Future<Output = TaskOutcome<S>> + Send;
}

impl<S, F, Fut> Task<S> for F
where
    F: Fn(MemoryStore) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = TaskOutcome<S>> + Send,
{
    fn run(&self, store: MemoryStore) -> impl Future<Output = TaskOutcome<S>> + Send {
        self(store)
    }
}

/// An attempt that runs.
pub(crate) type AttemptFuture<S> = Pin<Box<dyn Future<Output = TaskOutcome<S>> + Send>>;

/// The object-safe face of [`Task`].
trait ErasedTask<S>: Send + Sync {
    fn start(self: Arc<Self>, store: MemoryStore) -> AttemptFuture<S>;
}

impl<S: 'static, T: Task<S>> ErasedTask<S> for T {
    fn start(self: Arc<Self>, store: MemoryStore) -> AttemptFuture<S> {
        Box::pin(async move { self.run(store).await })
    }
}

/// A task that states, branches and their retries share.
pub struct SharedTask<S>(Arc<dyn ErasedTask<S>>);

impl<S: 'static> SharedTask<S> {
    /// Shares a task.
    pub fn new(task: impl Task<S>) -> Self {
        Self(Arc::new(task))
    }

    /// Makes the future of one attempt; the user's code has not run yet.
    pub(crate) fn start(&self, store: MemoryStore) -> AttemptFuture<S> {
        Arc::clone(&self.0).start(store)
    }
}

impl<S> Clone for SharedTask<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for SharedTask<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTask(..)")
    }
}
