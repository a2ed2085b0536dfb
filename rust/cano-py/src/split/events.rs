//! Telling observers; costs a bit test where nobody listens.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{SplitDriver, State};

/// Which kinds of events anybody wants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants(u32);

/// The kinds a split and a run emit, in the order of their bits.
const KINDS: [&str; 16] = [
    "split_start",
    "branch_start",
    "branch_success",
    "branch_failure",
    "branch_cancelled",
    "retry",
    "join",
    "timeout",
    "workflow_start",
    "workflow_end",
    "state_enter",
    "state_exit",
    "task_start",
    "task_success",
    "task_failure",
    "cancelled",
];

impl Wants {
    pub(crate) const SPLIT_START: usize = 0;
    pub(crate) const BRANCH_START: usize = 1;
    pub(crate) const BRANCH_SUCCESS: usize = 2;
    pub(crate) const BRANCH_FAILURE: usize = 3;
    pub(crate) const BRANCH_CANCELLED: usize = 4;
    pub(crate) const RETRY: usize = 5;
    pub(crate) const JOIN: usize = 6;
    pub(crate) const TIMEOUT: usize = 7;
    pub(crate) const WORKFLOW_START: usize = 8;
    pub(crate) const WORKFLOW_END: usize = 9;
    pub(crate) const STATE_ENTER: usize = 10;
    pub(crate) const STATE_EXIT: usize = 11;
    pub(crate) const TASK_START: usize = 12;
    pub(crate) const TASK_SUCCESS: usize = 13;
    pub(crate) const TASK_FAILURE: usize = 14;
    pub(crate) const CANCELLED: usize = 15;

    /// Reads the `wants` of a scope or dispatcher.
    pub(crate) fn of(owner: &Bound<'_, PyAny>) -> PyResult<Self> {
        let wants = owner.getattr(intern!(owner.py(), "wants"))?;
        let mut bits = 0;
        if wants.len()? > 0 {
            for (bit, kind) in KINDS.iter().enumerate() {
                if wants.contains(*kind)? {
                    bits |= 1 << bit;
                }
            }
        }
        Ok(Self(bits))
    }

    #[inline]
    pub(crate) fn has(self, kind: usize) -> bool {
        self.0 & (1 << kind) != 0
    }

    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }

    pub(crate) fn name(kind: usize) -> &'static str {
        KINDS[kind]
    }
}

/// The facts of an event that may be absent.
#[derive(Default)]
pub(crate) struct Facts<'a, 'py> {
    pub(crate) branch: Option<u32>,
    pub(crate) attempt: Option<u32>,
    pub(crate) value: Option<Bound<'py, PyAny>>,
    pub(crate) error: Option<&'a Bound<'py, PyAny>>,
}

impl Facts<'_, '_> {
    pub(crate) fn write(self, facts: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = facts.py();
        if let Some(branch) = self.branch {
            facts.set_item(intern!(py, "branch"), branch)?;
        }
        if let Some(attempt) = self.attempt {
            facts.set_item(intern!(py, "attempt"), attempt)?;
        }
        if let Some(value) = self.value {
            facts.set_item(intern!(py, "value"), value)?;
        }
        if let Some(error) = self.error {
            facts.set_item(intern!(py, "error"), error)?;
        }
        Ok(())
    }
}

impl SplitDriver {
    /// Emits an event if anybody wants it.
    pub(super) fn emit(&self, py: Python<'_>, state: &State, kind: usize, facts: Facts<'_, '_>) -> PyResult<()> {
        if !state.wants.has(kind) {
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "task"), &state.spec.get().name)?;
        facts.write(&keywords)?;
        state.scope.get(py)?.call_method(intern!(py, "emit"), (Wants::name(kind),), Some(&keywords)).map(drop)
    }
}
