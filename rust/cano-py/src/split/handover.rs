//! What goes to worker threads, and how they wake the loop when something has landed.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{SplitDriver, State};
use crate::once::Once;

impl SplitDriver {
    /// Hands the sync attempts of this turn to the worker threads.
    pub(super) fn submit_jobs(&self, py: Python<'_>, state: &State) -> PyResult<()> {
        let jobs = std::mem::take(&mut *state.jobs.borrow_mut());
        if jobs.is_empty() { Ok(()) } else { submit(py, &jobs) }
    }

    /// Hands the items of this turn to the worker threads.
    pub(super) fn submit_items(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        let items = std::mem::take(&mut *state.to_threads.borrow_mut());
        let Some(call) = state.spec.get().call.as_ref().filter(|_| !items.is_empty()) else {
            return Ok(());
        };
        if !self.exchange.items.offer(items) {
            return Ok(());
        }
        static CLASS: Once<Py<PyAny>> = Once::new();
        let drain = CLASS
            .get_or_try_init(py, || py.import("cano._engine.drain")?.getattr("Drain").map(Bound::unbind))?
            .bind(py)
            .call1((slf, &call.function, call.store, &state.store))?
            .unbind();
        submit(py, &[drain])
    }

    /// What the loop has to call to take in what has landed, unless it is going to; from any thread.
    ///
    /// It is the Python below that hands it to the loop. On 3.13 and older a thread that meets interpreter shutdown while it
    /// runs Python code, as `call_soon_threadsafe` is, is unwound by force, and aborts the process if there are native
    /// frames on its stack.
    pub(crate) fn wake_up(&self, slf: &Bound<'_, Self>) -> PyResult<Option<Py<crate::hook::Hook>>> {
        if self.landing.is_raised() {
            return Ok(None);
        }
        // Made before the flag goes up: were there no memory for it, nobody would ever call.
        let hook = crate::hook::Hook::drain(slf)?;
        Ok(self.landing.raise().then(|| hook.unbind()))
    }

    /// Takes in, on a worker thread, that a sync attempt has ended; one wake-up serves all that land meanwhile.
    pub(super) fn land(&self, slf: &Bound<'_, Self>, attempt: Py<PyAny>) -> PyResult<Option<Py<crate::hook::Hook>>> {
        self.landed.push(attempt);
        crate::fail::point();
        self.wake_up(slf)
    }
}

/// The process's worker threads.
fn pool(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static POOL: Once<Py<PyAny>> = Once::new();
    Ok(POOL.get_or_try_init(py, || py.import("cano._engine.threads")?.getattr("pool").map(Bound::unbind))?.bind(py))
}

fn submit(py: Python<'_>, jobs: &[Py<PyAny>]) -> PyResult<()> {
    pool(py)?.call_method1(intern!(py, "submit_many"), (PyList::new(py, jobs)?,)).map(drop)
}
