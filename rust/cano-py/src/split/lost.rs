//! Looking again: what a `KeyboardInterrupt` has lost in the loop's own Python code, or in ours, a cancelled run makes up for.

use pyo3::intern;
use pyo3::prelude::*;

use super::{Attempt, SplitDriver, State};
use crate::branch;
use crate::current::call_soon;
use crate::hook::Hook;

/// How many attempts are looked at in a turn of the loop.
const LOOKS: usize = 1000;

impl SplitDriver {
    /// Sees to it that all that still runs goes on, whatever was to resume it.
    pub(super) fn look_again(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        state.pump_scheduled.set(false);
        state.slice_due.set(false);
        let nobody = state.live.borrow().is_empty();
        if nobody {
            return Ok(());
        }
        self.arm_loop(slf, state)?;
        self.schedule_batch(slf, state)?;
        self.schedule_release(slf, state)?;
        if self.has_backlog()? {
            self.schedule_backlog(slf, state)?;
        }
        if state.looks.borrow().is_empty() {
            self.look_at_all(slf, state)
        } else {
            // There it goes on, unless that has been lost, too.
            state.looks_again.set(true);
            self.schedule_looks(slf, state)
        }
    }

    /// Has the loop look again: here somebody may be half-way through something.
    pub(super) fn look_later(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let nobody = state.live.borrow().is_empty();
        if nobody { Ok(()) } else { call_soon(self.event_loop.bind(slf.py()), Hook::look(slf)?.as_any()) }
    }

    /// The loop calls for that.
    pub(crate) fn look(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        self.look_again(slf, self.state()?)
    }

    pub(super) fn look_at_all(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        state.looks_again.set(false);
        let all = state.live.borrow().losers();
        *state.looks.borrow_mut() = all;
        self.look_at_some(slf, state)
    }

    fn look_at_some(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        for _ in 0..LOOKS {
            let Some(name) = state.looks.borrow_mut().pop_front() else { break };
            let attempt = state.live.borrow().loser(slf.py(), name);
            if let Some(attempt) = attempt {
                self.look_at(slf, &attempt)?;
            }
        }
        if state.looks.borrow().is_empty() { self.look_once_more(slf, state) } else { self.schedule_looks(slf, state) }
    }

    fn look_at(&self, slf: &Bound<'_, Self>, attempt: &Attempt) -> PyResult<()> {
        let py = slf.py();
        match attempt {
            Attempt::Branch(branch) => {
                let branch = branch.bind(py);
                branch::look_again(slf, branch)?;
                match branch.get().state()?.inner(py) {
                    Some(inner) => inner.get().look_again(&inner, inner.get().state()?),
                    None => Ok(()),
                }
            }
            Attempt::Other(other) => other.bind(py).call_method0(intern!(py, "look_again")).map(drop),
        }
    }

    fn schedule_looks(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let left = state.looks.borrow().len();
        call_soon(self.event_loop.bind(slf.py()), Hook::look_on(slf, left)?.as_any())
    }

    /// The loop calls for the others; unless others than `left` are left: then somebody else has been here since.
    pub(crate) fn look_on(&self, slf: &Bound<'_, Self>, left: usize) -> PyResult<()> {
        let state = self.state()?;
        let there = state.looks.borrow().len();
        if there != left {
            Ok(())
        } else if left == 0 {
            self.look_at_all(slf, state)
        } else {
            self.look_at_some(slf, state)
        }
    }

    /// Looks at all again, if somebody wants it and there is no other work under way.
    pub(super) fn look_once_more(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        if !state.looks_again.get() || !state.looks.borrow().is_empty() || self.has_backlog()? {
            return Ok(());
        }
        self.schedule_looks(slf, state)
    }

    /// Whether branches wait for their turn, the one that asks perhaps among them; afterwards all are looked at again.
    pub(crate) fn turns_are_due(&self) -> PyResult<bool> {
        let due = self.has_backlog()?;
        if due {
            self.state()?.looks_again.set(true);
        }
        Ok(due)
    }
}
