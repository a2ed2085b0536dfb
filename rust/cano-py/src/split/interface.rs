//! What Python calls: the attempts and the feeder of `_engine/`, which are Python under both engines.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::SplitDriver;
use crate::branch::Outcome;
use crate::threads::Cursor;
use crate::timers::{Due, TimerId};

#[pymethods]
impl SplitDriver {
    /// The loop the split runs on.
    #[getter(r#loop)]
    fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// The `SplitPlan`.
    #[getter]
    fn plan(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.state()?.spec.get().plan.clone_ref(py))
    }

    /// The time on the loop's clock; from any thread.
    fn now(&self, py: Python<'_>) -> PyResult<f64> {
        self.clock.now(py)
    }

    /// Whether all that lives is a loser; from any thread.
    #[getter]
    fn released(&self) -> bool {
        self.is_released()
    }

    /// Has an attempt told when its time is up.
    fn arm(slf: &Bound<'_, Self>, attempt: Py<PyAny>, due: f64) -> PyResult<TimerId> {
        slf.get().add_timer(slf, due, Due::OtherAttempt(attempt))
    }

    /// Forgets a timer.
    #[pyo3(name = "cancel_timer")]
    fn forget_timer(&self, py: Python<'_>, timer: TimerId) -> PyResult<()> {
        self.cancel_timer(py, timer)
    }

    /// Takes in that an attempt of `_engine/attempts.py` has ended.
    fn attempt_ended(
        slf: &Bound<'_, Self>,
        attempt: &Bound<'_, PyAny>,
        outcome: u8,
        result: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (outcome, payload) = match outcome {
            0 => (Outcome::Ok, result),
            1 => (Outcome::Error, error),
            _ => (Outcome::Cancelled, error),
        };
        let answer = crate::hook::protected(slf, || slf.get().other_ended(slf, attempt, outcome, payload.clone()));
        if answer.is_err() && slf.get().is_called_by_the_loop()? {
            // The machine may not have been told: it has to count anew.
            return crate::hook::or_break_off(slf, answer);
        }
        answer
    }

    /// Notes that a task of asyncio's has raised a `KeyboardInterrupt` or `SystemExit` through the loop.
    #[pyo3(name = "raises_fatal")]
    fn python_raises_fatal(&self) -> bool {
        self.raises_fatal()
    }

    /// Ends a turn of the engine's.
    #[pyo3(name = "end_turn")]
    fn python_end_turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        crate::hook::protected(slf, || slf.get().end_turn(slf))
    }

    /// Takes in, on a worker thread, that a sync attempt has ended. What comes back, the loop is to be woken with.
    #[pyo3(name = "landed")]
    fn python_landed(slf: &Bound<'_, Self>, attempt: Py<PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        match crate::hook::caught(py, || slf.get().land(slf, attempt)) {
            Ok(hook) => Ok(hook.map(Py::into_any)),
            // The thread has nobody to raise it to, and the attempt would never end: the loop has to hear of it.
            Err(error) => {
                let partial = py.import("functools")?.getattr("partial")?;
                partial.call1((slf.getattr("worker_failed")?, error.into_value(py))).map(|call| Some(call.unbind()))
            }
        }
    }

    /// A worker begins; whether another worker's job must be submitted.
    fn take_up(&self, py: Python<'_>) -> PyResult<bool> {
        crate::hook::caught(py, || {
            crate::fail::point();
            Ok(self.exchange.items.take_up())
        })
    }

    /// A worker's way through the items, in a context of its own.
    fn cursor(slf: &Bound<'_, Self>) -> PyResult<Cursor> {
        crate::hook::caught(slf.py(), || Cursor::new(slf))
    }

    /// A worker has failed, and no function of the user's: what it had in hand will never be reported.
    fn worker_failed(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        crate::hook::guarded(slf, || {
            let is_decided = slf.get().state()?.machine.borrow().is_decided();
            if is_decided { Ok(()) } else { slf.get().fail_internally(slf, PyErr::from_value(error.clone())) }
        })
    }

    /// Waits (as a future) until a fresh branch may start; true at once if it may.
    fn room<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().make_room(slf)
    }

    /// Starts a branch on an item drawn by `feed`; false when nothing may start now.
    fn offer(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<bool> {
        let answer = crate::hook::caught(slf.py(), || slf.get().take_offer(slf, item));
        // The machine has given out a branch that will never be: it has to count anew. The feeder's task raises the error.
        crate::hook::or_break_off(slf, answer)
    }

    /// The source turned out to have a length.
    fn known(slf: &Bound<'_, Self>, total: u64) -> PyResult<()> {
        crate::hook::caught(slf.py(), || slf.get().take_total(slf, total))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<cano split {}>", self.task_name(py)?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.snapshot)?;
        self.exchange.visit(&visit)?;
        self.landed.show(|attempt| visit.call(attempt))?;
        self.state.get_for_gc().visit(&visit)
    }

    fn __clear__(&self) {
        self.state.get_for_gc().clear();
    }
}
