//! Branches that wait for the same future, one after the other, share one callback on it.
//!
//! A callback is an object of the loop's, and costs as much as the rest of a branch that waits; for a future that all
//! branches wait for, one wakes them all. Nobody can tell: a future calls its callbacks one after the other, and a branch
//! joins only while the shared callback is the future's last, so that nothing has come between.

use std::cell::Cell;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{Key, SplitDriver, State};
use crate::branch::park::{add_done_callback, is_plain};
use crate::confined::Slot;
use crate::hook::Hook;

/// What the branches of a split wait for that waited last.
#[derive(Default)]
pub(crate) struct Awaited {
    future: Slot,
    /// The first of them, and the callback they share once there is a second.
    first: Cell<Key>,
    together: Slot<Hook>,
    /// So many wait for the future that looking through them, which copies them, would cost more than is saved.
    crowded: Cell<bool>,
}

const CROWD: usize = 64;

/// The last callback that a pending future will call, as far as it can be told.
enum Last<'py> {
    Is(Bound<'py, PyAny>),
    OfMany,
    Unknown,
}

impl Awaited {
    pub(super) fn forget(&self) {
        self.future.set(None);
        self.together.set(None);
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.future.visit(visit)?;
        self.together.visit(visit)
    }
}

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
        let awaited = &state.awaited;
        if !awaited.future.get(py).is_some_and(|last| last.is(future)) {
            // The first to wait for it has a callback of its own.
            awaited.future.set(Some(future.clone().unbind()));
            awaited.first.set(branch);
            awaited.together.set(None);
            awaited.crowded.set(false);
            return Ok(false);
        }
        if awaited.crowded.get() {
            return Ok(false);
        }
        let mut all = vec![branch];
        match (last_callback(future)?, awaited.together.get(py)) {
            (Last::OfMany, _) => {
                awaited.crowded.set(true);
                return Ok(false);
            }
            (Last::Is(last), Some(together)) if last.is(&together) => {
                together.get().join(branch);
                return Ok(true);
            }
            (Last::Is(last), None) if take_back(py, state, future, &last)? => all.insert(0, awaited.first.get()),
            _ => {}
        }
        let together = Hook::together(slf, all)?;
        add_done_callback(future, together.as_any(), self.snapshot(py))?;
        awaited.together.set(Some(together.unbind()));
        Ok(true)
    }
}

/// Takes the first branch's own callback back, if it is the last, so that the shared one may stand in its place: what it costs to
/// look at a future's callbacks grows with their number.
fn take_back(py: Python<'_>, state: &State, future: &Bound<'_, PyAny>, last: &Bound<'_, PyAny>) -> PyResult<bool> {
    let first = state.live.borrow().branch(py, state.awaited.first.get());
    let Some(first) = first.filter(|first| last.is(first) && is_plain(future)) else {
        return Ok(false);
    };
    future.call_method1(intern!(py, "remove_done_callback"), (first,))?.is_truthy()
}

fn last_callback<'py>(future: &Bound<'py, PyAny>) -> PyResult<Last<'py>> {
    let Some(callbacks) = future.getattr_opt(intern!(future.py(), "_callbacks"))? else {
        return Ok(Last::Unknown);
    };
    let Ok(callbacks) = callbacks.cast::<PyList>() else {
        return Ok(Last::Unknown); // done already, or no future of asyncio's
    };
    match callbacks.len() {
        0 => Ok(Last::Unknown),
        length if length > CROWD => Ok(Last::OfMany),
        length => Ok(Last::Is(callbacks.get_item(length - 1)?.get_item(0)?)),
    }
}
