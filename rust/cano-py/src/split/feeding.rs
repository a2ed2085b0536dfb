//! What `feed` (`_engine/feed.py`) needs of a split whose source is asynchronous.

use cano_engine::{SplitMachine, Start};
use pyo3::intern;
use pyo3::prelude::*;

use super::{SplitDriver, State, is_final, tell};
use crate::branch::Outcome;

impl SplitDriver {
    /// Whether a fresh branch may start; `None` when the split is decided.
    fn has_room(&self, py: Python<'_>, state: &State) -> PyResult<Option<bool>> {
        let (decided, may_start, retrying) = {
            let machine = state.machine.borrow();
            (machine.is_decided(), machine.may_start() && !machine.has_retries_due(), machine.retrying())
        };
        if decided {
            return Ok(None);
        }
        match &state.outbox {
            Some(outbox) if may_start => {
                outbox.bind(py).call_method1(intern!(py, "room"), (retrying,))?.is_truthy().map(Some)
            }
            _ => Ok(Some(may_start)),
        }
    }

    /// A future that is done when a fresh branch may start (true) or the split is decided (false).
    pub(super) fn make_room<'py>(&self, slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let state = self.state()?;
        let future = self.event_loop.bind(py).call_method0(intern!(py, "create_future"))?;
        match self.has_room(py, state)? {
            Some(false) => state.room.set(Some(future.clone().unbind())),
            answer => {
                future.call_method1(intern!(py, "set_result"), (answer.is_some(),))?;
            }
        }
        Ok(future)
    }

    /// Tells the feeder that there is room now, or that it is over.
    pub(super) fn give_room(&self, py: Python<'_>, state: &State) -> PyResult<()> {
        if !state.room.is_set() {
            return Ok(());
        }
        let answer = self.has_room(py, state)?;
        if answer == Some(false) {
            return Ok(());
        }
        if let Some(room) = state.room.take() {
            let room = room.bind(py);
            if !room.call_method0(intern!(py, "done"))?.is_truthy()? {
                room.call_method1(intern!(py, "set_result"), (answer.is_some(),))?;
            }
        }
        Ok(())
    }

    /// Starts a branch on an item that `feed` drew; false when nothing may start now.
    pub(super) fn take_offer(&self, slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        let state = self.state()?;
        let start = state.machine.borrow_mut().next_start();
        let Start::Fresh(index) = start else {
            return Ok(false);
        };
        self.fresh(slf, state)?;
        match &state.spec.get().call {
            Some(call) => self.launch(slf, state, index, call, item)?,
            None => match self.examine(py, state, item)? {
                Ok(call) => self.launch(slf, state, index, &call, item)?,
                Err(error) => self.ended(slf, state, index, 1, state.entered, Outcome::Error, error, None)?,
            },
        }
        self.submit_jobs(py, state).or_else(|error| self.without_threads(slf, error))?;
        self.end_turn(slf)?;
        Ok(true)
    }

    /// The source turned out to have a length.
    pub(super) fn take_total(&self, slf: &Bound<'_, Self>, total: u64) -> PyResult<()> {
        let py = slf.py();
        let state = self.state()?;
        let decided = state.machine.borrow().is_decided();
        if decided {
            return Ok(());
        }
        let total = u32::try_from(total).unwrap_or(u32::MAX - 1);
        let verdict = tell(py, state, |machine| machine.sized(total))?;
        if is_final(verdict) { self.obey(slf, state, verdict) } else { Ok(()) }
    }

    /// The feeder's task has ended.
    pub(crate) fn fed(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let state = self.state()?;
        let Some(feeder) = state.feeder.get(py) else { return Ok(()) };
        let decided = state.machine.borrow().is_decided();
        // A feeder that was cancelled by somebody else raises its CancelledError here.
        let error = match feeder.call_method0(intern!(py, "exception")) {
            Ok(error) if error.is_none() => None,
            Ok(error) => Some(PyErr::from_value(error)),
            Err(_) if decided => None,
            Err(error) => Some(error),
        };
        if let Some(error) = &error
            && crate::branch::is_fatal(py, error)
        {
            // Its task has raised it through the loop.
            state.fatal_raised.set(true);
            state.fatal.set(Some(crate::errors::exception(py, error).unbind()));
        }
        match error {
            None if decided => self.wake(slf, state),
            Some(_) if decided && state.fatal_raised.get() => self.wake(slf, state),
            None => {
                let verdict = tell(py, state, SplitMachine::source_ended)?;
                if is_final(verdict) { self.obey(slf, state, verdict) } else { Ok(()) }
            }
            Some(error) if decided => {
                let value = error.into_value(py).into_any();
                state.loser_errors.borrow_mut().push((-1, value));
                self.wake(slf, state)
            }
            Some(error) => self.source_failed(slf, state, error),
        }
    }
}
