//! The interned form of a workflow, and the check that it makes sense.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::TaskOptions;
use crate::driver::split::{Branches, SplitSpec};
use crate::host::SharedTask;
use crate::plan::{Plan, StateId, StatePlan};

/// Up to so many states are looked for one by one, which is faster than hashing.
const FEW: usize = 16;

/// What was registered, in the user's words.
pub(crate) struct Registered<S> {
    pub(crate) state: S,
    pub(crate) handler: Handler<S>,
    pub(crate) options: TaskOptions<S>,
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

impl<S: Clone + Eq + Hash + Debug> Flow<S> {
    /// Interns the states and looks for everything that is wrong.
    pub(crate) fn compile(
        entries: &[Registered<S>],
        exits: &[S],
        max_transitions: Option<u64>,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut interner = Interner { states: Vec::new(), ids: HashMap::new() };
        let registered: Vec<StateId> = entries.iter().map(|entry| interner.id(&entry.state)).collect();
        let exits: Vec<StateId> = exits.iter().map(|state| interner.id(state)).collect();
        if exits.is_empty() {
            problems.push("there is no exit state: add_exit_state says where a run ends".to_owned());
        }
        let mut plans: HashMap<StateId, StatePlan> = HashMap::new();
        let mut handlers: HashMap<StateId, Handler<S>> = HashMap::new();
        for (entry, &id) in entries.iter().zip(&registered) {
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
            max_transitions,
        );
        match plan {
            Ok(plan) if problems.is_empty() => Ok(Flow {
                plan: Arc::new(plan),
                handlers: (0..count).map(|id| handlers.remove(&id).unwrap_or(Handler::Nothing)).collect(),
                states: interner.states,
                ids: interner.ids,
            }),
            Ok(_) => Err(problems),
            Err(error) => {
                problems.push(error.to_string());
                Err(problems)
            }
        }
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
