//! The builder, and the ways to run what it built.

use std::fmt;
use std::fmt::Debug;
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use crate::driver::flow::{Flow, Handler, Registered};
use crate::driver::run::Run;
use crate::driver::split::{Branches, SplitSpec};
use crate::driver::{JoinConfig, MemoryStore, RunError, RunOptions, RunReport, TaskOptions};
use crate::host::{BoxError, SharedTask, Task};
use crate::policy::RetryPolicy;
use crate::trace::{Observed, Observer};

/// A typed state machine with split and join.
///
/// ```
/// use cano_engine::{JoinConfig, JoinStrategy, MemoryStore, RunError, TaskOutcome, TaskResult, Workflow};
///
/// #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
/// enum Step { Load, Fan, Sum, Done }
///
/// async fn load(store: MemoryStore) -> TaskOutcome<Step> {
///     store.put("rows", vec![1_u32, 2, 3]);
///     Ok(TaskResult::Single(Step::Fan))
/// }
///
/// async fn sum(store: MemoryStore) -> TaskOutcome<Step> {
///     let parts: Vec<u32> = store.get("parts")?;
///     store.put("sum", parts.iter().sum::<u32>());
///     Ok(TaskResult::Single(Step::Done))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let branches = (1..=3_u32).map(|factor| move |store: MemoryStore| async move {
///     let rows: Vec<u32> = store.get("rows")?;
///     store.append("parts", rows.iter().sum::<u32>() * factor)?;
///     Ok(TaskResult::output(factor))
/// });
/// let workflow = Workflow::new()
///     .register(Step::Load, load)
///     .register_split(Step::Fan, branches, JoinConfig::new(JoinStrategy::All, Step::Sum))
///     .register(Step::Sum, sum)
///     .add_exit_state(Step::Done);
/// assert_eq!(workflow.orchestrate(Step::Load).await?, Step::Done);
/// assert_eq!(workflow.store().get::<u32>("sum")?, 36);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Workflow<S> {
    store: MemoryStore,
    registered: Vec<Registered<S>>,
    exits: Vec<S>,
    max_transitions: Option<u64>,
    observer: Observed<S>,
    flow: OnceLock<Result<Arc<Flow<S>>, Vec<String>>>,
}

impl<S: Clone + Eq + Hash + Debug + Send + Sync + 'static> Workflow<S> {
    /// A workflow without states, with a store of its own.
    pub fn new() -> Self {
        Self::with_store(MemoryStore::new())
    }

    /// A workflow without states that shares this store.
    pub fn with_store(store: MemoryStore) -> Self {
        Self {
            store,
            registered: Vec::new(),
            exits: Vec::new(),
            max_transitions: None,
            observer: Observed(None),
            flow: OnceLock::new(),
        }
    }

    /// The store that runs share.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// Registers a state's task.
    #[must_use]
    pub fn register(self, state: S, task: impl Task<S>) -> Self {
        self.register_with(state, task, TaskOptions::new())
    }

    /// Registers a state's task, with options.
    #[must_use]
    pub fn register_with(self, state: S, task: impl Task<S>, options: TaskOptions<S>) -> Self {
        let handler = Handler::Task { task: SharedTask::new(task), attempt_timeout: options.attempt_timeout };
        self.add(state, handler, options)
    }

    /// Registers a split: one branch per task.
    #[must_use]
    pub fn register_split<T: Task<S>>(self, state: S, tasks: impl IntoIterator<Item = T>, join: JoinConfig<S>) -> Self {
        self.register_split_with(state, tasks, join, TaskOptions::new())
    }

    /// Registers a split, with options for each branch.
    #[must_use]
    pub fn register_split_with<T: Task<S>>(
        self,
        state: S,
        tasks: impl IntoIterator<Item = T>,
        join: JoinConfig<S>,
        options: TaskOptions<S>,
    ) -> Self {
        let tasks = tasks.into_iter().map(SharedTask::new).collect();
        self.add_split(state, Branches::List(tasks), join, options)
    }

    /// Registers a split whose branches are made when a run gets there, and drawn one by one as they may begin: how
    /// many there are in memory follows the bulkhead.
    #[must_use]
    pub fn register_split_source<I>(
        self,
        state: S,
        source: impl Fn(&MemoryStore) -> Result<I, BoxError> + Send + Sync + 'static,
        join: JoinConfig<S>,
        options: TaskOptions<S>,
    ) -> Self
    where
        I: Iterator<Item = SharedTask<S>> + Send + 'static,
    {
        let source = move |store: &MemoryStore| -> Result<crate::driver::split::BranchIter<S>, BoxError> {
            Ok(Box::new(source(store)?))
        };
        self.add_split(state, Branches::Source(Box::new(source)), join, options)
    }

    /// Adds a state where runs end.
    #[must_use]
    pub fn add_exit_state(mut self, state: S) -> Self {
        self.flow = OnceLock::new();
        self.exits.push(state);
        self
    }

    /// Adds states where runs end.
    #[must_use]
    pub fn add_exit_states(mut self, states: impl IntoIterator<Item = S>) -> Self {
        self.flow = OnceLock::new();
        self.exits.extend(states);
        self
    }

    /// How often a run may go from one state to another; any number of times if never set.
    #[must_use]
    pub fn with_max_transitions(mut self, limit: u64) -> Self {
        self.flow = OnceLock::new();
        self.max_transitions = Some(limit);
        self
    }

    /// Who is told what happens in the runs.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer<S>>) -> Self {
        self.observer = Observed(Some(observer));
        self
    }

    /// Checks the workflow; runs do so themselves, once.
    ///
    /// # Errors
    ///
    /// [`RunError::Configuration`] with every problem there is.
    pub fn validate(&self) -> Result<(), RunError<S>> {
        self.flow().map(drop)
    }

    /// Runs from `initial` to an exit state, which it returns.
    ///
    /// # Errors
    ///
    /// [`RunError`]. By then nothing of the run is running any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the run's tasks where they stand; branches that were spawned are aborted but not
    /// awaited. A [`CancelToken`](crate::CancelToken) awaits them.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled, as soon as something needs a timer or is spawned.
    pub async fn orchestrate(&self, initial: S) -> Result<S, RunError<S>> {
        let store = self.store.clone();
        let mut run = Run::new(self.flow()?, initial, store, None, None, self.observer.clone(), false);
        poll_fn(|cx| run.poll(cx)).await
    }

    /// Like [`orchestrate`](Self::orchestrate), with options, and tells what happened.
    ///
    /// # Errors
    ///
    /// [`RunError`]. By then nothing of the run is running any more.
    ///
    /// # Cancel safety
    ///
    /// As for [`orchestrate`](Self::orchestrate).
    pub async fn execute(&self, initial: S, options: RunOptions) -> Result<RunReport<S>, RunError<S>> {
        let RunOptions { store, timeout, cancel } = options;
        let store = store.unwrap_or_else(|| self.store.clone());
        let mut run = Run::new(self.flow()?, initial, store, timeout, cancel, self.observer.clone(), true);
        let state = poll_fn(|cx| run.poll(cx)).await?;
        Ok(run.report(state))
    }

    fn add(mut self, state: S, handler: Handler<S>, options: TaskOptions<S>) -> Self {
        self.flow = OnceLock::new();
        self.registered.push(Registered { state, handler, options });
        self
    }

    fn add_split(self, state: S, branches: Branches<S>, join: JoinConfig<S>, options: TaskOptions<S>) -> Self {
        let spec = SplitSpec { branches, join, retry: options.retry, attempt_timeout: options.attempt_timeout };
        // The retries are the branches', not the state's.
        self.add(state, Handler::Split(Arc::new(spec)), TaskOptions { retry: RetryPolicy::none(), ..options })
    }

    fn flow(&self) -> Result<Arc<Flow<S>>, RunError<S>> {
        let compile = || Flow::compile(&self.registered, &self.exits, self.max_transitions).map(Arc::new);
        self.flow.get_or_init(compile).clone().map_err(RunError::Configuration)
    }
}

impl<S: Clone + Eq + Hash + Debug + Send + Sync + 'static> Default for Workflow<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Debug> Debug for Workflow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states: Vec<&S> = self.registered.iter().map(|entry| &entry.state).collect();
        f.debug_struct("Workflow").field("states", &states).field("exits", &self.exits).finish_non_exhaustive()
    }
}
