//! The loop's clock. A standard loop's `time()` is the monotonic clock, which Rust reads without calling Python.

use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

#[derive(Debug)]
pub(crate) enum Clock {
    /// The monotonic clock, and what the loop's clock showed at an instant.
    Monotonic { origin: Instant, shown: f64 },
    /// Whatever the loop says (virtual time, uvloop's cached time).
    Loop(Py<PyAny>),
}

static STANDARD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

impl Clock {
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let time = event_loop.get_type().getattr(intern!(py, "time"))?;
        let standard = STANDARD.get_or_try_init(py, || {
            py.import("asyncio.base_events")?.getattr("BaseEventLoop")?.getattr("time").map(Bound::unbind)
        })?;
        // On Windows Python's monotonic clock is a coarser one than Rust's.
        if cfg!(unix) && time.is(standard) {
            let shown = event_loop.call_method0(intern!(py, "time"))?.extract()?;
            Ok(Self::Monotonic { origin: Instant::now(), shown })
        } else {
            Ok(Self::Loop(event_loop.clone().unbind()))
        }
    }

    /// The time on the loop's clock, in seconds.
    #[inline]
    pub(crate) fn now(&self, py: Python<'_>) -> PyResult<f64> {
        match self {
            Self::Monotonic { origin, shown } => Ok(shown + origin.elapsed().as_secs_f64()),
            Self::Loop(event_loop) => event_loop.bind(py).call_method0(intern!(py, "time"))?.extract(),
        }
    }
}
