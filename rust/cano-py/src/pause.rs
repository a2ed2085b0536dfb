//! `cano.sleep`: inside a branch it parks in the split's timers, elsewhere it is `asyncio.sleep`.

use std::cell::Cell;

use pyo3::exceptions::PyStopIteration;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::branch::{Branch, State};
use crate::confined::{Confined, Slot};
use crate::current::current_task;
use crate::hook::Hook;
use crate::timers::{Due, TimerId};

/// A sleep; awaited once, in whichever thread.
#[pyclass(frozen, module = "cano._core")]
pub(crate) struct Pause {
    #[pyo3(get)]
    delay: f64,
    result: Py<PyAny>,
    inner: Confined<Inner>,
}

#[derive(Default)]
struct Inner {
    yielded: Cell<bool>,
    timer: Cell<TimerId>,
    /// The branch that waits.
    branch: Slot<Branch>,
}

#[pymethods]
impl Pause {
    #[new]
    fn new(delay: f64, result: Py<PyAny>) -> Self {
        Self { delay, result, inner: Confined::unclaimed(Inner::default()) }
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.delay <= 0.0 || current_task(py)?.cast_exact::<Branch>().is_ok() {
            this.inner.get()?.yielded.set(false);
            return Ok(slf.clone().into_any());
        }
        // A task of asyncio's, or a branch of the pure engine.
        py.import("cano._engine.pure.branch")?
            .getattr("Pause")?
            .call1((this.delay, &this.result))?
            .call_method0("__await__")
    }

    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.inner.get()?.yielded.replace(true) {
            return Err(PyStopIteration::new_err((this.result.clone_ref(py),)));
        }
        Ok(if this.delay <= 0.0 { py.None().into_bound(py) } else { slf.clone().into_any() })
    }

    fn send<'py>(slf: &Bound<'py, Self>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::__next__(slf)
    }

    #[pyo3(signature = (*error))]
    #[allow(clippy::unused_self)] // the protocol's shape
    fn throw(&self, error: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(crate::run::thrown(error)?)
    }

    #[allow(clippy::unused_self)] // the protocol's shape
    fn close(&self) {}

    /// Wakes the branch with `CancelledError` in the next turn of the loop, as a cancelled future would.
    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let inner = slf.get().inner.get()?;
        let Some(branch) = inner.branch.take() else {
            return Ok(false);
        };
        let branch = branch.bind(py);
        let state = branch.get().state()?;
        let timer = inner.timer.replace(0);
        if timer != 0
            && let Some(driver) = state.driver.get(py)
        {
            driver.get().cancel_timer(py, timer)?;
        }
        let error = match msg {
            None => CancelledError::new_err(()),
            Some(message) => CancelledError::new_err((message,)),
        };
        let hook = Hook::throw(py, branch, error.into_value(py))?;
        crate::current::call_soon(state.event_loop(py), hook.as_any())?;
        Ok(true)
    }

    /// Whether the pause is over (asked by libraries that look at what a task waits for).
    fn done(&self) -> PyResult<bool> {
        Ok(!self.inner.get()?.branch.is_set())
    }

    fn __repr__(&self) -> String {
        format!("<cano.sleep({})>", self.delay)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.result)?;
        self.inner.get_for_gc().branch.visit(&visit)
    }

    fn __clear__(&self) {
        self.inner.get_for_gc().branch.set(None);
    }
}

/// Has `branch` resumed by the split's timers.
pub(crate) fn park(pause: &Bound<'_, Pause>, branch: &Bound<'_, Branch>, state: &State) -> PyResult<()> {
    let py = branch.py();
    let inner = pause.get().inner.get()?;
    inner.branch.set(Some(branch.clone().unbind()));
    state.set_waiter(pause.as_any());
    if state.take_must_cancel() {
        let message = state.take_cancel_message();
        return Pause::cancel(pause, message).map(drop);
    }
    if let Some(driver) = state.driver.get(py) {
        let now = driver.get().now_at(py)?;
        let timer = driver.get().add_timer(&driver, now + pause.get().delay, Due::Pause(branch.clone().unbind()))?;
        inner.timer.set(timer);
    }
    Ok(())
}

/// The pause of a branch is over.
pub(crate) fn wake(branch: &Bound<'_, Branch>) -> PyResult<()> {
    let py = branch.py();
    if let Some(waiter) = branch.get().state()?.waiter(py)
        && let Ok(pause) = waiter.cast_exact::<Pause>()
    {
        let inner = pause.get().inner.get()?;
        inner.timer.set(0);
        inner.branch.set(None);
    }
    crate::branch::resume(branch, None)
}
