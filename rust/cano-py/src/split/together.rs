//! Branches that wait for the same future, one after the other, share one callback on it.
//!
//! A callback is an object of the loop's, and costs as much as the rest of a branch that waits; for a future that all
//! branches wait for, one wakes them all. Nobody can tell: a future calls its callbacks one after the other, and a branch
//! joins only while the shared callback is the future's last, so that nothing has come between.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{Key, SplitDriver};
use crate::branch::park::add_done_callback;
use crate::hook::Hook;

impl SplitDriver {
    /// Has `branch` woken together with the one that waited before it, if both wait for `future`; whether it will be.
    pub(crate) fn wait_together<'py>(
        &self,
        slf: &Bound<'py, Self>,
        branch: Key,
        future: &Bound<'py, PyAny>,
    ) -> PyResult<bool> {
        let py = slf.py();
        let state = self.state()?;
        if !state.awaited.get(py).is_some_and(|last| last.is(future)) {
            // The first to wait for it has a callback of its own.
            state.awaited.set(Some(future.clone().unbind()));
            state.together.set(None);
            return Ok(false);
        }
        if let Some(together) = state.together.get(py)
            && is_last_callback(future, &together)?
        {
            together.get().join(branch);
            return Ok(true);
        }
        let together = Hook::together(slf, vec![branch])?;
        add_done_callback(future, together.as_any(), self.snapshot(py))?;
        state.together.set(Some(together.unbind()));
        Ok(true)
    }
}

/// Whether a callback is the last that a pending future will call.
fn is_last_callback(future: &Bound<'_, PyAny>, callback: &Bound<'_, Hook>) -> PyResult<bool> {
    let Some(callbacks) = future.getattr_opt(intern!(future.py(), "_callbacks"))? else {
        return Ok(false);
    };
    let Ok(callbacks) = callbacks.cast::<PyList>() else {
        return Ok(false); // done already, or no future of asyncio's
    };
    match callbacks.len() {
        0 => Ok(false),
        length => Ok(callbacks.get_item(length - 1)?.get_item(0)?.is(callback)),
    }
}
