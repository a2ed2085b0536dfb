//! Branches that need no bookkeeping of their own: no event, no retry, no task of asyncio's. Nearly all are like that, and what is
//! done for each of them here is what a split costs.

use pyo3::prelude::*;

use super::entered::Entered;
use super::start::{is_awaitable, is_coroutine};
use super::{SplitDriver, State, is_final, tell};
use crate::branch::{self, Outcome, Stepped};
use crate::clock::Stopwatch;
use crate::columns::Row;
use crate::spec::CallSpec;

impl SplitDriver {
    /// Starts a branch that needs no bookkeeping: call, step, and if it returned at once, count. Returns the time.
    #[allow(clippy::too_many_arguments)] // the innermost loop: everything it needs is at hand in the caller
    #[inline]
    pub(super) fn start_coroutine<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        entered: &mut Entered<'_, 'py>,
        watch: &Stopwatch,
        index: u32,
        call: &CallSpec,
        item: &Bound<'py, PyAny>,
        began: f64,
    ) -> PyResult<f64> {
        let py = slf.py();
        let item = if call.item { Some(item) } else { None };
        let coro = match call.call(py, item, &state.store) {
            Ok(coro) => coro,
            Err(error) => {
                self.fresh(slf, state)?;
                entered.leave()?;
                let error = error.into_value(py).into_any().into_bound(py);
                self.ended(slf, state, index, 1, began, Outcome::Error, error, None)?;
                return watch.now(&self.clock, py);
            }
        };
        if !is_coroutine(&coro) {
            self.fresh(slf, state)?;
            entered.leave()?;
            self.begin(slf, state, index, 1, &coro, None, began)?;
            return watch.now(&self.clock, py);
        }
        let branch = entered.fresh()?;
        let its = branch.get().state()?;
        its.assign(index, 1, began, &coro);
        match branch::step(&coro, None) {
            Stepped::Returned(value) if entered.is_unshared(&branch, its) => {
                self.returned(slf, state, entered, watch, index, value, began)
            }
            stepped => {
                drop(coro);
                self.fresh(slf, state)?;
                let began_well = self.first_step(slf, state, entered, &branch, stepped);
                let now = watch.now(&self.clock, py)?;
                if began_well.is_err() || state.machine.borrow().is_decided() {
                    entered.leave()?;
                }
                began_well?;
                Ok(now)
            }
        }
    }

    /// Calls a sync branch in place that needs no bookkeeping. Returns the time.
    #[allow(clippy::too_many_arguments)] // as above
    #[inline]
    pub(super) fn start_inline<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        entered: &mut Entered<'_, 'py>,
        watch: &Stopwatch,
        index: u32,
        call: &CallSpec,
        item: &Bound<'py, PyAny>,
        began: f64,
    ) -> PyResult<f64> {
        let py = slf.py();
        entered.enter_shared()?;
        let item = if call.item { Some(item) } else { None };
        let outcome = call.call(py, item, &state.store);
        let own = entered.called();
        match outcome {
            Ok(value) if !is_awaitable(&value) => self.returned(slf, state, entered, watch, index, value, began),
            outcome => {
                self.fresh(slf, state)?;
                entered.leave()?;
                match outcome {
                    Ok(awaitable) => self.begin(slf, state, index, 1, &awaitable, own.as_ref(), began)?,
                    Err(error) => {
                        let error = error.into_value(py).into_any().into_bound(py);
                        self.ended(slf, state, index, 1, began, Outcome::Error, error, None)?;
                    }
                }
                watch.now(&self.clock, py)
            }
        }
    }

    /// Takes in what a branch returned that began just now. Returns the time.
    #[allow(clippy::too_many_arguments)] // as above
    #[inline]
    fn returned<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        entered: &mut Entered<'_, 'py>,
        watch: &Stopwatch,
        index: u32,
        value: Bound<'py, PyAny>,
        began: f64,
    ) -> PyResult<f64> {
        let py = slf.py();
        let now = watch.now(&self.clock, py)?;
        // Where `fresh` would have made room for it.
        let row = Row { value: Some(value.unbind()), duration: now - began };
        state.table.borrow_mut().rows.push(row);
        let verdict = tell(py, state, |machine| machine.succeeded(index))?;
        if is_final(verdict) {
            entered.leave()?;
            self.obey(slf, state, verdict)?;
        }
        Ok(now)
    }
}
