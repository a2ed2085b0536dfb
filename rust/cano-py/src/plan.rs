//! A workflow's plan: the machine's form of it, and what the driver needs to call each state's task.

use std::collections::HashMap;
use std::sync::Arc;

use cano_engine::{StateId, StateKind, StatePlan};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::indices::Hasher;
use crate::spec::{CallSpec, SplitSpec, read_retry};

/// A state's task.
pub(crate) struct TaskSpec {
    /// The `TaskPlan` it was read from.
    pub(crate) plan: Py<PyAny>,
    pub(crate) call: CallSpec,
    pub(crate) name: Py<PyString>,
    pub(crate) retry_object: Py<PyAny>,
    pub(crate) retries: bool,
    pub(crate) attempt_timeout: Option<f64>,
}

/// One state.
pub(crate) struct StateSpec {
    pub(crate) state: Py<PyAny>,
    pub(crate) task: Option<TaskSpec>,
    pub(crate) split: Option<Py<SplitSpec>>,
}

/// A workflow's plan, compiled once and shared by its runs.
#[pyclass(frozen, module = "cano._core")]
pub(crate) struct PlanSpec {
    pub(crate) machine: Arc<cano_engine::Plan>,
    pub(crate) states: Vec<StateSpec>,
    pub(crate) introspect: bool,
    pub(crate) max_transitions: Option<u64>,
    /// States by the address of the object, which `states` keeps alive: most tasks return the very same one.
    by_identity: HashMap<usize, StateId, Hasher>,
    by_value: Py<PyDict>,
}

impl PlanSpec {
    /// The number of a state; `None` for what is no state of this plan.
    #[inline]
    pub(crate) fn find(&self, state: &Bound<'_, PyAny>) -> PyResult<Option<StateId>> {
        if let Some(&index) = self.by_identity.get(&(state.as_ptr() as usize)) {
            return Ok(Some(index));
        }
        if state.is_none() {
            return Ok(None);
        }
        match self.by_value.bind(state.py()).get_item(state) {
            Ok(found) => found.map(|index| index.extract()).transpose(),
            // Not hashable: no state.
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyTypeError>(state.py()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn read_task(task: &Bound<'_, PyAny>) -> PyResult<Option<TaskSpec>> {
    if task.is_none() {
        return Ok(None);
    }
    let py = task.py();
    let retry = task.getattr(intern!(py, "retry"))?;
    Ok(Some(TaskSpec {
        plan: task.clone().unbind(),
        call: CallSpec::read(&task.getattr(intern!(py, "call"))?)?,
        name: task.getattr(intern!(py, "name"))?.cast_into::<PyString>()?.unbind(),
        retries: !matches!(read_retry(&retry)?.backoff, cano_engine::Backoff::None),
        retry_object: retry.unbind(),
        attempt_timeout: task.getattr(intern!(py, "attempt_timeout"))?.extract()?,
    }))
}

#[pymethods]
impl PlanSpec {
    /// Compiles a `Plan` of `_engine/contract.py`.
    #[new]
    fn new(plan: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = plan.py();
        let by_value = plan.getattr(intern!(py, "index_of"))?.cast_into::<PyDict>()?;
        let mut states = Vec::new();
        let mut machine = Vec::new();
        let mut by_identity = HashMap::default();
        for state in plan.getattr(intern!(py, "states"))?.try_iter()? {
            let state = state?;
            let value = state.getattr(intern!(py, "state"))?;
            by_identity.insert(value.as_ptr() as usize, states.len() as StateId);
            let task = read_task(&state.getattr(intern!(py, "task"))?)?;
            let split = state.getattr(intern!(py, "split"))?;
            let split = if split.is_none() { None } else { Some(SplitSpec::read(&split)?) };
            let kind: u8 = state.getattr(intern!(py, "kind"))?.extract()?;
            let mut entry = match (kind, &task, &split) {
                (0, _, _) => StatePlan::exit(),
                (1, Some(task), _) => StatePlan::task(read_retry(task.retry_object.bind(py))?),
                (2, _, Some(split)) => {
                    let join = split.plan.bind(py).getattr(intern!(py, "join"))?;
                    let join_state = join.getattr(intern!(py, "join_state"))?;
                    StatePlan::split(by_value.as_any().get_item(join_state)?.extract()?)
                }
                _ => StatePlan::missing(),
            };
            let next = state.getattr(intern!(py, "next"))?;
            if !next.is_none() {
                let next: Vec<StateId> = next.try_iter()?.map(|one| one?.extract()).collect::<PyResult<_>>()?;
                entry = entry.with_next(next);
            }
            debug_assert!(entry.kind != StateKind::Task || task.is_some());
            machine.push(entry);
            states.push(StateSpec {
                state: value.unbind(),
                task,
                split: split.map(|split| Py::new(py, split)).transpose()?,
            });
        }
        let max_transitions: Option<u64> = plan.getattr(intern!(py, "max_transitions"))?.extract()?;
        let machine = cano_engine::Plan::new(machine, max_transitions)
            .map_err(|error| crate::errors::internal(py, &error.to_string()))?;
        Ok(Self {
            machine: Arc::new(machine),
            states,
            introspect: plan.getattr(intern!(py, "introspect"))?.is_truthy()?,
            max_transitions,
            by_identity,
            by_value: by_value.unbind(),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.by_value)?;
        for state in &self.states {
            visit.call(&state.state)?;
            visit.call(&state.split)?;
            if let Some(task) = &state.task {
                visit.call(&task.plan)?;
                visit.call(&task.call.function)?;
                visit.call(&task.retry_object)?;
            }
        }
        Ok(())
    }
}
