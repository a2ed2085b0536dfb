//! What a run knows, and how it tells the machine and the observers.

use std::cell::{Cell, RefCell};

use cano_engine::{MachineError, RunMachine, StateId};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::Doing;
use crate::clock::Clock;
use crate::confined::Slot;
use crate::plan::PlanSpec;
use crate::split::events::{Facts, Wants};

/// The state of one run of a plan.
pub(super) struct State {
    pub(super) plan: Py<PlanSpec>,
    pub(super) initial: StateId,
    pub(super) store: Py<PyAny>,
    pub(super) timeout: Option<f64>,
    pub(super) token: Option<Py<PyAny>>,
    pub(super) dispatcher: Option<Py<PyAny>>,
    pub(super) wants: Wants,
    pub(super) machine: RefCell<RunMachine>,
    pub(super) doing: Cell<Doing>,
    pub(super) event_loop: Slot,
    pub(super) clock: RefCell<Option<Clock>>,
    pub(super) began: Cell<f64>,
    pub(super) slice_end: Cell<f64>,
    /// How many transitions were made in this slice.
    pub(super) steps: Cell<u32>,
    /// When the present state was entered, if somebody wants to know.
    pub(super) entered: Cell<f64>,
    pub(super) tries: Cell<u32>,
    pub(super) first_attempt: Cell<f64>,
    /// The run's `Alarm`.
    pub(super) alarm: Slot,
    /// The present attempt's.
    pub(super) attempt_alarm: Slot,
}

impl State {
    pub(super) fn now(&self, py: Python<'_>) -> PyResult<f64> {
        // Reading a clock runs Python only for loops with a clock of their own, which have no way to this cell.
        match &*self.clock.borrow() {
            Some(clock) => clock.now(py),
            None => Ok(0.0),
        }
    }

    pub(super) fn tell<T>(
        &self,
        py: Python<'_>,
        event: impl FnOnce(&mut RunMachine) -> Result<T, MachineError>,
    ) -> PyResult<T> {
        crate::fail::point();
        let answer = event(&mut self.machine.borrow_mut());
        answer.map_err(|error| crate::errors::machine_error(py, error))
    }

    pub(super) fn current(&self) -> Option<StateId> {
        self.machine.borrow().state()
    }

    pub(super) fn state_of(&self, py: Python<'_>, index: StateId) -> Py<PyAny> {
        self.plan.get().states[index as usize].state.clone_ref(py)
    }

    pub(super) fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let indices: Vec<StateId> = self.machine.borrow().path().collect();
        PyTuple::new(py, indices.into_iter().map(|index| self.state_of(py, index)))
    }

    pub(super) fn emit(
        &self,
        py: Python<'_>,
        kind: usize,
        index: Option<StateId>,
        task: Option<&Bound<'_, PyAny>>,
        facts: Facts<'_, '_>,
    ) -> PyResult<()> {
        let Some(dispatcher) = &self.dispatcher else { return Ok(()) };
        if !self.wants.has(kind) {
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "at"), self.now(py)? - self.began.get())?;
        if let Some(index) = index {
            keywords.set_item(intern!(py, "state"), self.state_of(py, index))?;
        }
        if let Some(task) = task {
            keywords.set_item(intern!(py, "task"), task)?;
        }
        facts.write(&keywords)?;
        dispatcher.bind(py).call_method(intern!(py, "emit"), (Wants::name(kind),), Some(&keywords)).map(drop)
    }

    pub(super) fn enter(&self, py: Python<'_>) -> PyResult<()> {
        self.tries.set(0);
        if self.wants.any() {
            self.entered.set(self.now(py)?);
            self.emit(py, Wants::STATE_ENTER, self.current(), None, Facts::default())?;
        }
        Ok(())
    }

    pub(super) fn leave(&self, py: Python<'_>, index: StateId, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if !self.wants.has(Wants::STATE_EXIT) {
            return Ok(());
        }
        let value = Some((self.now(py)? - self.entered.get()).into_pyobject(py)?.into_any());
        let attempt = Some(self.tries.get());
        self.emit(py, Wants::STATE_EXIT, Some(index), None, Facts { branch: None, attempt, value, error })
    }

    /// The run ends where no task of its state is running: in a back-off, or between states.
    pub(super) fn interrupted(&self, py: Python<'_>, error: PyErr) -> PyResult<PyErr> {
        self.tell(py, RunMachine::stop)?;
        if let Some(index) = self.current() {
            self.leave(py, index, Some(&crate::errors::exception(py, &error)))?;
        }
        Ok(error)
    }
}
