//! The limits of a run or an attempt: `_engine/alarm.py`, from here.

use pyo3::intern;
use pyo3::prelude::*;

pub(super) fn make<'py>(py: Python<'py>, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    py.import(intern!(py, "cano._engine.alarm"))?.getattr(intern!(py, "Alarm"))?.call1((event_loop,))
}

/// What has fired it; empty if nothing has.
pub(super) fn fired(alarm: &Bound<'_, PyAny>) -> PyResult<String> {
    alarm.getattr(intern!(alarm.py(), "fired"))?.extract()
}

/// Nothing may fire it any more.
pub(super) fn disarm(alarm: &Bound<'_, PyAny>) -> PyResult<()> {
    alarm.setattr(intern!(alarm.py(), "over"), true)
}

/// What was limited has ended well; whether the cancellation is still on its way, and has to be absorbed.
pub(super) fn is_on_its_way(alarm: &Bound<'_, PyAny>) -> PyResult<bool> {
    disarm(alarm)?;
    Ok(!fired(alarm)?.is_empty() && alarm.call_method0(intern!(alarm.py(), "undelivered"))?.is_truthy()?)
}

/// What was limited has ended: takes back a cancellation of ours, if there was one, and whether there was no other.
pub(super) fn settle(alarm: &Bound<'_, PyAny>) -> PyResult<bool> {
    alarm.call_method0(intern!(alarm.py(), "settle"))?.is_truthy()
}

/// Forgets the timer and the token.
pub(super) fn close(alarm: &Bound<'_, PyAny>) -> PyResult<()> {
    alarm.call_method0(intern!(alarm.py(), "close")).map(drop)
}
