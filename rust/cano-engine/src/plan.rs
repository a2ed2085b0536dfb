//! The checked, interned form of a workflow: states are small numbers.

use std::fmt;

use crate::policy::RetryPolicy;

/// A state: its index in the plan.
pub type StateId = u32;

/// What is registered for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// A run ends here.
    Exit,
    /// A task runs and says what comes next.
    Task,
    /// Branches run; the join state comes next.
    Split,
    /// Nothing: it is named somewhere and registered nowhere.
    Missing,
}

/// What a [`RunMachine`](crate::RunMachine) knows about one state.
#[derive(Clone, Debug, PartialEq)]
pub struct StatePlan {
    /// What is registered for it.
    pub kind: StateKind,
    /// The states that may follow; `None` where nothing is declared.
    pub next: Option<Box<[StateId]>>,
    /// Where a registered split goes on.
    pub join_state: Option<StateId>,
    /// The policy of the state's task. The retries of a split belong to its branches.
    pub retry: RetryPolicy,
}

impl StatePlan {
    fn of(kind: StateKind) -> Self {
        Self { kind, next: None, join_state: None, retry: RetryPolicy::none() }
    }

    /// An exit state.
    pub fn exit() -> Self {
        Self::of(StateKind::Exit)
    }

    /// A state with a task.
    pub fn task(retry: RetryPolicy) -> Self {
        Self { retry, ..Self::of(StateKind::Task) }
    }

    /// A state with a split that goes on at `join_state`.
    pub fn split(join_state: StateId) -> Self {
        Self { join_state: Some(join_state), ..Self::of(StateKind::Split) }
    }

    /// A state that nothing is registered for.
    pub fn missing() -> Self {
        Self::of(StateKind::Missing)
    }

    /// The same state with the transitions that are allowed from it.
    #[must_use]
    pub fn with_next(mut self, next: impl IntoIterator<Item = StateId>) -> Self {
        self.next = Some(next.into_iter().collect());
        self
    }

    /// Whether a run may go from this state to `next`.
    #[inline]
    pub fn allows(&self, next: StateId) -> bool {
        self.next.as_deref().is_none_or(|declared| declared.contains(&next))
    }
}

/// A plan that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// A split does not say where it goes on.
    NoJoinState {
        /// The split's state.
        state: StateId,
    },
    /// A state names one that the plan does not have.
    UnknownState {
        /// The state that names it.
        state: StateId,
        /// The number it names.
        named: StateId,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoJoinState { state } => write!(f, "state {state} is a split without a join state"),
            Self::UnknownState { state, named } => {
                write!(f, "state {state} names state {named}, which the plan does not have")
            }
        }
    }
}

impl std::error::Error for PlanError {}

/// The states of a workflow. Immutable, so that any number of runs can share one.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    states: Box<[StatePlan]>,
    max_transitions: Option<u64>,
}

impl Plan {
    /// Checks the states and makes a plan of them; a state is its index in `states`.
    ///
    /// # Errors
    ///
    /// [`PlanError`] for a split without a join state, or a state number that is not in the list.
    pub fn new(states: Vec<StatePlan>, max_transitions: Option<u64>) -> Result<Self, PlanError> {
        let count = states.len();
        for (state, plan) in (0..).zip(&states) {
            if plan.kind == StateKind::Split && plan.join_state.is_none() {
                return Err(PlanError::NoJoinState { state });
            }
            let named = plan.next.iter().flatten().chain(&plan.join_state);
            if let Some(&named) = named.into_iter().find(|&&named| named as usize >= count) {
                return Err(PlanError::UnknownState { state, named });
            }
        }
        Ok(Self { states: states.into_boxed_slice(), max_transitions })
    }

    /// The states, in the order of their numbers.
    pub fn states(&self) -> &[StatePlan] {
        &self.states
    }

    /// How often a run may go from one state to another; `None`: any number of times.
    pub fn max_transitions(&self) -> Option<u64> {
        self.max_transitions
    }
}
