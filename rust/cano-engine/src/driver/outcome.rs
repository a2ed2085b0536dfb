//! What splits and runs come to, and the errors of the driver.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::StoreError;
use crate::host::{BoxError, TaskResult};

/// Why an attempt of a task failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskFailure {
    /// The task's own error.
    Error(BoxError),
    /// The task panicked with this message. Never retried.
    Panicked(String),
    /// The attempt took longer than its limit.
    TimedOut(Duration),
    /// The task answered with something that does not fit where it stands. Never retried.
    Unfit(&'static str),
}

impl TaskFailure {
    /// A caught panic, with its message where it has one.
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panicked(message.unwrap_or_else(|| "a value that is no text".to_owned()))
    }

    /// Whether another attempt may go better.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Error(_) | Self::TimedOut(_))
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panicked(message) => write!(f, "the task panicked: {message}"),
            Self::TimedOut(limit) => write!(f, "the attempt took longer than {limit:?}"),
            Self::Unfit(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for TaskFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Error(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl From<StoreError> for TaskFailure {
    fn from(error: StoreError) -> Self {
        Self::Error(Box::new(error))
    }
}

/// How one branch ended.
#[derive(Debug)]
pub struct SplitTaskResult<S> {
    /// The branch's index.
    pub task_index: u32,
    /// What it answered, or its last failure.
    pub result: Result<TaskResult<S>, TaskFailure>,
    /// How often it was tried.
    pub attempts: u32,
    /// From the beginning of its last attempt to its end.
    pub duration: Duration,
}

/// How a split ended. `successes`, `errors` and `cancelled` together are all its branches.
#[derive(Debug)]
pub struct SplitResult<S> {
    /// The branches that succeeded, in order of completion.
    pub successes: Vec<SplitTaskResult<S>>,
    /// The branches that failed, in order of completion.
    pub errors: Vec<SplitTaskResult<S>>,
    /// The branches that were cancelled or never begun, ascending.
    pub cancelled: Vec<u32>,
}

impl<S> SplitResult<S> {
    /// Branches that ended by themselves.
    pub fn completed_count(&self) -> usize {
        self.successes.len() + self.errors.len()
    }

    /// All branches.
    pub fn total_count(&self) -> usize {
        self.completed_count() + self.cancelled.len()
    }

    /// How one branch ended; `None` for a cancelled one.
    pub fn by_index(&self, task_index: u32) -> Option<&SplitTaskResult<S>> {
        self.successes.iter().chain(&self.errors).find(|branch| branch.task_index == task_index)
    }

    /// The outputs of the successful branches that are of this type, in index order.
    pub fn outputs<T: Any>(&self) -> Vec<&T> {
        let mut branches: Vec<_> = self.successes.iter().collect();
        branches.sort_unstable_by_key(|branch| branch.task_index);
        branches.iter().filter_map(|branch| branch.result.as_ref().ok()?.downcast_ref()).collect()
    }
}

/// One state that a run entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateVisit<S> {
    /// The state.
    pub state: S,
    /// From entering it to leaving it.
    pub duration: Duration,
    /// How often its task was tried; 0 where it has none.
    pub attempts: u32,
}

/// What [`Workflow::execute`](crate::Workflow::execute) tells of a run.
#[derive(Debug)]
pub struct RunReport<S> {
    /// The exit state.
    pub state: S,
    /// Every state entered, first to last, the exit state included.
    pub visits: Vec<StateVisit<S>>,
    /// Every split, in order.
    pub splits: Vec<Arc<SplitResult<S>>>,
    /// From the first state to the last.
    pub elapsed: Duration,
}

/// Why a run did not reach an exit state.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError<S> {
    /// The workflow contradicts itself; every problem is listed.
    Configuration(Vec<String>),
    /// Nothing is registered for this state.
    NoHandler {
        /// The state.
        state: S,
    },
    /// The limit of transitions is used up.
    TooManyTransitions {
        /// The limit.
        limit: u64,
        /// The last states entered.
        path: Vec<S>,
    },
    /// A state declares its transitions, and this is none of them.
    Undeclared {
        /// The state that was left.
        state: S,
        /// The state that was refused.
        next: S,
    },
    /// A state's task failed, and no retry was left.
    Task {
        /// The state.
        state: S,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        failure: TaskFailure,
    },
    /// The branches did not come to what the join wanted.
    Join {
        /// The split's state.
        state: S,
        /// How the branches ended.
        result: Arc<SplitResult<S>>,
    },
    /// The split was undecided at its deadline.
    SplitTimeout {
        /// The split's state.
        state: S,
        /// How the branches ended.
        result: Arc<SplitResult<S>>,
    },
    /// The source of a split, or its user's join function, failed.
    Source {
        /// The split's state.
        state: S,
        /// Why.
        failure: TaskFailure,
        /// How the branches ended.
        result: Arc<SplitResult<S>>,
    },
    /// The run took longer than its limit.
    Timeout {
        /// The limit.
        limit: Duration,
        /// The last states entered.
        path: Vec<S>,
    },
    /// The run's token was set.
    Cancelled {
        /// The last states entered.
        path: Vec<S>,
    },
    /// A fault of the engine.
    Internal(crate::MachineError),
}

impl<S: fmt::Debug> fmt::Display for RunError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let branches = |f: &mut fmt::Formatter<'_>, result: &SplitResult<S>| {
            let (ok, bad, cancelled) = (result.successes.len(), result.errors.len(), result.cancelled.len());
            write!(f, ": {ok} branches succeeded, {bad} failed, {cancelled} were cancelled")?;
            match result.errors.first() {
                Some(SplitTaskResult { task_index, result: Err(failure), .. }) => {
                    write!(f, "; the first failure was branch {task_index}: {failure}")
                }
                _ => Ok(()),
            }
        };
        match self {
            Self::Configuration(problems) => write!(f, "the workflow cannot run: {}", problems.join("; ")),
            Self::NoHandler { state } => {
                write!(f, "nothing is registered for {state:?}: register a task or a split, or add it as an exit state")
            }
            Self::TooManyTransitions { limit, path } => {
                write!(f, "more than {limit} transitions; the last states were {:?}", tail(path))
            }
            Self::Undeclared { state, next } => {
                write!(f, "{state:?} declares its transitions, and {next:?} is none of them")
            }
            Self::Task { state, attempts, failure } => {
                write!(f, "the task of {state:?} failed (attempts: {attempts}): {failure}")
            }
            Self::Join { state, result } => {
                write!(f, "the join of {state:?} failed")?;
                branches(f, result)
            }
            Self::SplitTimeout { state, result } => {
                write!(f, "the split of {state:?} was undecided at its deadline")?;
                branches(f, result)
            }
            Self::Source { state, failure, .. } => write!(f, "the split of {state:?} failed: {failure}"),
            Self::Timeout { limit, path } => {
                write!(f, "the run took longer than {limit:?}; the last states were {:?}", tail(path))
            }
            Self::Cancelled { path } => write!(f, "the run was cancelled; the last states were {:?}", tail(path)),
            Self::Internal(error) => write!(f, "a fault of the engine: {error}"),
        }
    }
}

/// The last few states: a thousand are no message.
fn tail<S>(path: &[S]) -> &[S] {
    &path[path.len().saturating_sub(5)..]
}

impl<S: fmt::Debug> std::error::Error for RunError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Task { failure, .. } | Self::Source { failure, .. } => Some(failure),
            Self::Internal(error) => Some(error),
            _ => None,
        }
    }
}

impl<S> From<crate::MachineError> for RunError<S> {
    fn from(error: crate::MachineError) -> Self {
        Self::Internal(error)
    }
}
