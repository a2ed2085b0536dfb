//! Where a split happens, and the `Scope` (`_engine/scope.py`) that says so to Python: made when something asks for it.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use crate::confined::Slot;
use crate::once::Once;
use crate::run::Run;

/// The state of a run that a split belongs to.
pub(crate) struct Place {
    pub(crate) state: Py<PyAny>,
    pub(crate) run: Py<Run>,
    pub(crate) dispatcher: Option<Py<PyAny>>,
    pub(crate) began: f64,
    pub(crate) introspect: bool,
}

/// A scope that is made at its first use: most splits end without an error or anybody to tell.
pub(crate) struct LazyScope {
    /// `None` outside a workflow.
    place: Option<Place>,
    made: Slot,
}

impl LazyScope {
    pub(super) fn new(place: Option<Place>) -> Self {
        Self { place, made: Slot::default() }
    }

    pub(super) fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: Once<Py<PyAny>> = Once::new();
        if let Some(scope) = self.made.get(py) {
            return Ok(scope);
        }
        let class = CLASS
            .get_or_try_init(py, || py.import("cano._engine.scope")?.getattr("Scope").map(Bound::unbind))?
            .bind(py);
        let scope = match &self.place {
            None => class.call0()?,
            Some(place) => {
                let run = place.run.bind(py);
                class.call1((
                    &place.state,
                    run.getattr(intern!(py, "path"))?,
                    &place.dispatcher,
                    run.getattr(intern!(py, "now"))?,
                    place.began,
                    place.introspect,
                ))?
            }
        };
        self.made.set(Some(scope.clone().unbind()));
        Ok(scope)
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(place) = &self.place {
            visit.call(&place.state)?;
            visit.call(&place.run)?;
            visit.call(&place.dispatcher)?;
        }
        self.made.visit(visit)
    }

    pub(super) fn clear(&self) {
        self.made.set(None);
    }
}
