//! A split's own timers; the driver arms one `call_at` of the loop for the earliest. The mirror of `pure/timers.py`.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

pub(crate) use cano_engine::TimerId;

use crate::split::Key;

/// What a timer is for.
#[derive(Debug)]
pub(crate) enum Due {
    /// The split's time is up.
    Deadline,
    /// The newest branch has not answered in time.
    Hedge,
    /// The back-off of a branch is over.
    Retry(u32),
    /// An attempt's time is up: of a suspended branch.
    Attempt(Key),
    /// An attempt's time is up: one of `_engine/attempts.py`.
    OtherAttempt(Py<PyAny>),
    /// A `cano.sleep` is over.
    Pause(Key),
    /// Cancelled branches have had their time to end.
    StillRunning,
}

#[derive(Default)]
pub(crate) struct Timers {
    pub(crate) all: cano_engine::Timers<Due>,
    /// When the loop's handle fires, if one is armed.
    pub(crate) armed: Option<(f64, Py<PyAny>)>,
}

impl Timers {
    /// Takes everything out, for the caller to let go of outside of any borrow. Names of timers are not given again.
    pub(crate) fn clear(&mut self) -> (Vec<Due>, Option<(f64, Py<PyAny>)>) {
        (self.all.clear(), self.armed.take())
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for due in self.all.iter() {
            if let Due::OtherAttempt(attempt) = due {
                visit.call(attempt)?;
            }
        }
        if let Some((_, handle)) = &self.armed {
            visit.call(handle)?;
        }
        Ok(())
    }
}
