//! The one place where what went wrong in Rust becomes a Python exception, and where Python's error builders are found.

use std::any::Any;

use cano_engine::MachineError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

use crate::once::Once;

/// `cano._engine.failures`: the errors both engines raise, in the same words.
pub(crate) fn failures(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: Once<Py<PyModule>> = Once::new();
    Ok(MODULE.get_or_try_init(py, || py.import("cano._engine.failures").map(Bound::unbind))?.bind(py))
}

/// `InternalError` with a message; a defect of this package.
pub(crate) fn internal(py: Python<'_>, message: &str) -> PyErr {
    let made = py
        .import("cano.errors")
        .and_then(|errors| errors.getattr("InternalError"))
        .and_then(|class| class.call1((message,)));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// What a caught panic becomes.
pub(crate) fn internal_error(py: Python<'_>, panic: &Box<dyn Any + Send>) -> PyErr {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    internal(py, &format!("a panic in the native engine: {said}. This is a defect of cano; please report it"))
}

/// A machine refused an event: a driver reported what cannot have happened.
pub(crate) fn machine_error(py: Python<'_>, error: MachineError) -> PyErr {
    internal(py, &format!("the native engine contradicted itself: {error}. This is a defect of cano; please report it"))
}

/// Builds keyword arguments.
pub(crate) fn facts<'py>(py: Python<'py>, pairs: &[(&str, Bound<'py, PyAny>)]) -> PyResult<Bound<'py, PyDict>> {
    let facts = PyDict::new(py);
    for (name, value) in pairs {
        facts.set_item(*name, value)?;
    }
    Ok(facts)
}

/// The exception as a user may see it. On Python 3.11 a `PyErr` has the traceback apart until it is raised.
pub(crate) fn exception<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyAny> {
    error.clone_ref(py).into_value(py).into_any().into_bound(py)
}

/// What ends an awaitable of ours with an answer: the `StopIteration` that carries it.
///
/// It is made here, where it may fail. One that PyO3 makes while it leaves, from a `new_err`, has nobody to tell that there is no
/// memory for it, and ends the process.
pub(crate) fn answer(value: &Bound<'_, PyAny>) -> PyErr {
    match value.py().get_type::<pyo3::exceptions::PyStopIteration>().call1((value,)) {
        Ok(stop) => PyErr::from_value(stop),
        Err(error) => error,
    }
}

/// What leaves an awaitable of ours with an error: a `StopIteration` of the user's (of a state's `__eq__`, say) would be taken for the
/// answer. A coroutine makes a `RuntimeError` of it, and so does this.
pub(crate) fn leaving(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<pyo3::exceptions::PyStopIteration>(py) {
        return error;
    }
    let instead = pyo3::exceptions::PyRuntimeError::new_err("coroutine raised StopIteration");
    instead.set_cause(py, Some(error));
    instead
}
