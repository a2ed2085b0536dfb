//! The builder, and the ways to run what it built.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Debug;
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::driver::run::Run;
use crate::driver::split::{Branches, SplitSpec};
use crate::driver::{CancelToken, JoinConfig, MemoryStore, RunError, RunReport};
use crate::host::{BoxError, SharedTask, Task};
use crate::plan::{Plan, StateId, StatePlan};
use crate::policy::RetryPolicy;
use crate::trace::{Observed, Observer};

/// Up to so many states are looked for one by one, which is faster than hashing.
const FEW: usize = 16;

/// Options of a state's task; on a split they hold for each branch.
#[derive(Clone, Debug)]
pub struct TaskOptions<S> {
    retry: RetryPolicy,
    attempt_timeout: Option<Duration>,
    next: Option<Vec<S>>,
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
    store: Option<MemoryStore>,
    timeout: Option<Duration>,
    cancel: Option<CancelToken>,
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

/// What is done in a state.
pub(crate) enum Handler<S> {
    Nothing,
    Task { task: SharedTask<S>, attempt_timeout: Option<Duration> },
    Split(Arc<SplitSpec<S>>),
}

impl<S> Clone for Handler<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Task { task, attempt_timeout } => {
                Self::Task { task: task.clone(), attempt_timeout: *attempt_timeout }
            }
            Self::Split(spec) => Self::Split(Arc::clone(spec)),
        }
    }
}

/// The interned form of a workflow: a state is its index in `states` and in `handlers`.
pub(crate) struct Flow<S> {
    pub(crate) plan: Arc<Plan>,
    pub(crate) states: Vec<S>,
    pub(crate) handlers: Vec<Handler<S>>,
    ids: HashMap<S, StateId>,
}

impl<S: Eq + Hash> Flow<S> {
    /// The number of a state; `None` for one that the workflow never names.
    #[inline]
    pub(crate) fn id(&self, state: &S) -> Option<StateId> {
        if self.states.len() <= FEW {
            return self.states.iter().position(|known| known == state).map(|index| index as StateId);
        }
        self.ids.get(state).copied()
    }
}

struct Registered<S> {
    state: S,
    handler: Handler<S>,
    options: TaskOptions<S>,
}

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
    /// awaited. A [`CancelToken`] awaits them.
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
        self.flow.get_or_init(|| self.compile()).clone().map_err(RunError::Configuration)
    }

    /// Interns the states and looks for everything that is wrong.
    fn compile(&self) -> Result<Arc<Flow<S>>, Vec<String>> {
        let mut problems = Vec::new();
        let mut interner = Interner { states: Vec::new(), ids: HashMap::new() };
        let registered: Vec<StateId> = self.registered.iter().map(|entry| interner.id(&entry.state)).collect();
        let exits: Vec<StateId> = self.exits.iter().map(|state| interner.id(state)).collect();
        if exits.is_empty() {
            problems.push("there is no exit state: add_exit_state says where a run ends".to_owned());
        }
        let mut plans: HashMap<StateId, StatePlan> = HashMap::new();
        let mut handlers: HashMap<StateId, Handler<S>> = HashMap::new();
        for (entry, &id) in self.registered.iter().zip(&registered) {
            let state = &entry.state;
            let mut plan = match &entry.handler {
                Handler::Split(spec) => {
                    let total = match &spec.branches {
                        Branches::List(tasks) => Some(tasks.len()),
                        Branches::Source(_) => None,
                    };
                    problems
                        .extend(spec.join.problems(total).into_iter().map(|problem| format!("{state:?}: {problem}")));
                    let join_state = interner.id(&spec.join.join_state);
                    if !registered.contains(&join_state) && !exits.contains(&join_state) {
                        let join_state = &spec.join.join_state;
                        problems.push(format!(
                            "{state:?}: the join state {join_state:?} is neither registered nor an exit"
                        ));
                    }
                    StatePlan::split(join_state)
                }
                _ => StatePlan::task(entry.options.retry),
            };
            if entry.options.attempt_timeout.is_some_and(|limit| limit.is_zero()) {
                problems.push(format!("{state:?}: expected an attempt timeout longer than 0"));
            }
            if let Some(next) = &entry.options.next {
                plan = plan.with_next(next.iter().map(|next| interner.id(next)));
            }
            if plans.insert(id, plan).is_some() {
                problems.push(format!("{state:?} is registered twice"));
            }
            handlers.insert(id, entry.handler.clone());
        }
        for exit in exits {
            // An exit state is looked for before a handler is.
            plans.insert(exit, StatePlan::exit());
        }
        let count = interner.states.len() as StateId;
        let plan = Plan::new(
            (0..count).map(|id| plans.remove(&id).unwrap_or_else(StatePlan::missing)).collect(),
            self.max_transitions,
        );
        match plan {
            Ok(plan) if problems.is_empty() => Ok(Arc::new(Flow {
                plan: Arc::new(plan),
                handlers: (0..count).map(|id| handlers.remove(&id).unwrap_or(Handler::Nothing)).collect(),
                states: interner.states,
                ids: interner.ids,
            })),
            Ok(_) => Err(problems),
            Err(error) => {
                problems.push(error.to_string());
                Err(problems)
            }
        }
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

struct Interner<S> {
    states: Vec<S>,
    ids: HashMap<S, StateId>,
}

impl<S: Clone + Eq + Hash> Interner<S> {
    fn id(&mut self, state: &S) -> StateId {
        *self.ids.entry(state.clone()).or_insert_with(|| {
            self.states.push(state.clone());
            self.states.len() as StateId - 1
        })
    }
}
