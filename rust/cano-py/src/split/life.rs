//! The life of a split: opening, being awaited, finishing.

use cano_engine::{SplitMachine, SplitPhase};
use pyo3::exceptions::PyException;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::events::{Facts, Wants};
use super::{DEPTH, DEPTH_LIMIT, SplitDriver, State, is_final, tell};
use crate::branch::Branch;
use crate::columns::Columns;
use crate::current::{call_soon, handled_exception, task_of};
use crate::errors::{facts, failures};
use crate::hook::{Hook, protected};
use crate::timers::Due;

/// For so many branches there is room from the beginning; for more it is made as they come, since an early decision may keep
/// most of them from ever starting.
const ROOM: u64 = 16_384;

/// What awaiting a split gives at one step.
pub(crate) enum Poll<'py> {
    /// A future to wait for.
    Pending(Bound<'py, PyAny>),
    /// The `SplitResult`.
    Ready(Bound<'py, PyAny>),
}

impl SplitDriver {
    /// Takes a step of whoever awaits the split: resumed, or with an error thrown in.
    pub(crate) fn poll<'py>(&self, slf: &Bound<'py, Self>, error: Option<PyErr>) -> PyResult<Poll<'py>> {
        let state = self.state()?;
        state.polling.set(true);
        let answer = self.take_step(slf, state, error);
        state.polling.set(false);
        // For `look_again`: where a branch is who awaits, its own split finds this one through it.
        let waits = matches!(answer, Ok(Poll::Pending(_)));
        if waits != state.is_awaited.get()
            && let Ok(task) = task_of(self.event_loop.bind(slf.py())) // there is none where a coroutine is closed as it is dropped
            && let Ok(branch) = task.cast::<Branch>()
        {
            branch.get().state()?.awaits(waits.then_some(slf));
            state.is_awaited.set(waits);
        }
        answer
    }

    fn take_step<'py>(&self, slf: &Bound<'py, Self>, state: &State, error: Option<PyErr>) -> PyResult<Poll<'py>> {
        let py = slf.py();
        if state.opened.replace(true) {
            state.waiter.set(None);
            if let Some(error) = error {
                protected(slf, || self.interrupted(slf, state, error))?;
            }
        } else {
            if let Some(error) = error {
                return Err(error);
            }
            match protected(slf, || self.open(slf, state)) {
                Ok(()) => {}
                Err(error) if state.machine.borrow().phase() != SplitPhase::New => {
                    self.breaks_off(slf, state, error)?;
                }
                Err(error) => {
                    // Nothing has begun; but a source may have been opened, and the loop asked to call.
                    let closed = self.close(py, state);
                    return Err(match closed {
                        Ok(()) => error,
                        Err(closing) => {
                            closing.set_context(py, Some(error));
                            closing
                        }
                    });
                }
            }
        }
        if self.settled(py, state)? {
            return self.finish(slf, state).map(Poll::Ready);
        }
        let waiter = match self.event_loop.bind(py).call_method0(intern!(py, "create_future")) {
            Ok(waiter) => waiter,
            Err(error) => {
                self.breaks_off(slf, state, error)?;
                if self.settled(py, state)? {
                    return self.finish(slf, state).map(Poll::Ready);
                }
                self.event_loop.bind(py).call_method0(intern!(py, "create_future"))?
            }
        };
        waiter.setattr(intern!(py, "_asyncio_future_blocking"), PyBool::new(py, true))?;
        state.waiter.set(Some(waiter.clone().unbind()));
        Ok(Poll::Pending(waiter))
    }

    /// A `KeyboardInterrupt` came where whoever awaits the split took a step of it: it goes on to him when everything has ended
    /// that had begun. Any other error is his at once.
    fn breaks_off(&self, slf: &Bound<'_, Self>, state: &State, error: PyErr) -> PyResult<()> {
        if !crate::branch::is_fatal(slf.py(), &error) {
            return Err(error);
        }
        protected(slf, || self.break_off(slf, &error, false))?;
        protected(slf, || self.look_again(slf, state))
    }

    /// An error was thrown into whoever awaits: a cancellation, or the caller was dropped.
    fn interrupted(&self, slf: &Bound<'_, Self>, state: &State, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if error.is_instance_of::<CancelledError>(py) {
            if !state.cancelled.is_set() {
                state.cancelled.set(Some(error.into_value(py).into_any()));
                if let Err(error) = self.stop(slf, state) {
                    return self.breaks_off(slf, state, error);
                }
            }
            return self.look_again(slf, state);
        }
        self.abandon(slf, state)?;
        Err(error)
    }

    /// The caller is gone and nobody will wait: cancel everything, and close.
    pub(super) fn abandon(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        if self.event_loop.bind(py).call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            // Nothing can be cancelled on it: coroutines are closed as they are dropped, or before, while the collector is at work
            // and takes apart what they refer to.
            state.closed.set(true);
            crate::collector::close_hidden(py, self);
            let live = std::mem::take(&mut *state.live.borrow_mut());
            drop(live); // no longer borrowed: what is closed runs the user's clean-up
            return Ok(());
        }
        if !state.cancelled.is_set() {
            state.cancelled.set(Some(CancelledError::new_err(()).into_value(py).into_any()));
        }
        self.stop(slf, state)?;
        let left = state.losers.borrow().len();
        self.release_some(slf, state, left)?; // nobody may be there to see to it that the loop goes on
        // Told to the observers, and then to nobody.
        drop(self.finish(slf, state));
        Ok(())
    }

    fn open(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        let spec = state.spec.get();
        let (total, pending) = match self.open_source(py, state) {
            Ok(found) => found,
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let failure = self.source_failure(py, state, error)?;
                state.failure.set(Some(failure.unbind()));
                (Some(0), None)
            }
            Err(error) => return Err(error),
        };
        if let (Some(total), None) = (total, &state.outbox) {
            state.table.borrow_mut().rows.reserve(total.min(ROOM) as usize);
        }
        let count = total.map(|total: u64| u32::try_from(total).unwrap_or(u32::MAX - 1));
        *state.machine.borrow_mut() = SplitMachine::new(spec.rule, count, spec.bulkhead, spec.hedge_delay.is_some());
        if state.wants.has(Wants::SPLIT_START) {
            let value = match total {
                Some(total) => total.into_pyobject(py)?.into_any(),
                None => py.None().into_bound(py),
            };
            self.emit(py, state, Wants::SPLIT_START, Facts { value: Some(value), ..Facts::default() })?;
        }
        if state.failure.is_set() {
            state.machine.borrow_mut().stop();
            return Ok(());
        }
        if let Some(timeout) = spec.timeout {
            self.add_timer(slf, state.entered + timeout, Due::Deadline)?;
        }
        if let Some(outbox) = &state.outbox {
            outbox.bind(py).setattr(intern!(py, "resume"), slf.getattr(intern!(py, "end_turn"))?)?;
        }
        let verdict = tell(py, state, SplitMachine::opening)?;
        if is_final(verdict) {
            return self.obey(slf, state, verdict);
        }
        if let Some(pending) = pending {
            return self.start_feeder(slf, state, &pending);
        }
        // In the caller's stack a branch would see the exception the caller is handling.
        if DEPTH.get() >= DEPTH_LIMIT || handled_exception(py).is_some() {
            self.schedule_pump(slf, state)
        } else {
            self.end_turn(slf)
        }
    }

    /// Opens the source: its length, if it has one, and what only `feed` can draw from.
    fn open_source<'py>(&self, py: Python<'py>, state: &State) -> PyResult<(Option<u64>, Option<Bound<'py, PyAny>>)> {
        let plan = state.spec.get().plan.bind(py);
        let over = plan.getattr(intern!(py, "over"))?;
        // Sequences need none of the examination in `_engine/feed.py`.
        if let Some(length) = super::start::plain_length(&over) {
            state.items_left.set(Some(over.try_iter()?.into_any().unbind()));
            state.plain_source.set(true);
            return Ok((Some(length), None));
        }
        let source = py
            .import(intern!(py, "cano._engine.feed"))?
            .call_method1(intern!(py, "open_source"), (plan, &state.store))?;
        let close = source.getattr(intern!(py, "close"))?;
        if !close.is_none() {
            state.close_source.set(Some(close.unbind()));
        }
        let pending = source.getattr(intern!(py, "pending"))?;
        if !pending.is_none() {
            return Ok((None, Some(pending)));
        }
        let iterator = source.getattr(intern!(py, "iterator"))?;
        state.plain_source.set(super::start::is_plain_iterator(&iterator));
        state.items_left.set(Some(iterator.unbind()));
        Ok((source.getattr(intern!(py, "total"))?.extract()?, None))
    }

    fn start_feeder(&self, slf: &Bound<'_, Self>, state: &State, pending: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let feed = py.import(intern!(py, "cano._engine.feed"))?.call_method1(intern!(py, "feed"), (slf, pending))?;
        let feeder = self.event_loop.bind(py).call_method1(intern!(py, "create_task"), (feed,))?;
        state.feeder.set(Some(feeder.clone().unbind()));
        feeder.call_method1(intern!(py, "add_done_callback"), (Hook::fed(slf)?,)).map(drop)
    }

    pub(super) fn schedule_pump(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        if state.pump_scheduled.replace(true) {
            return Ok(());
        }
        call_soon(self.event_loop.bind(slf.py()), Hook::pump(slf)?.as_any())
    }

    /// Everything has ended: close, tell, and answer.
    fn finish<'py>(&self, slf: &Bound<'py, Self>, state: &State) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        self.close(py, state)?;
        let spec = state.spec.get();
        let phase = state.machine.borrow().phase();
        // In a workflow nobody may ask what came of a split that proceeds.
        let proceeds = phase == SplitPhase::Proceeded;
        let asked = state.answers || spec.store_partial_results || state.wants.has(Wants::JOIN);
        let result = if proceeds && !asked { py.None().into_bound(py) } else { self.result(py, state)? };
        let losers = std::mem::take(&mut *state.loser_errors.borrow_mut());
        if !losers.is_empty() {
            py.import(intern!(py, "cano._engine.losers"))?
                .call_method1(intern!(py, "report_losers"), (state.scope.get(py)?, &spec.name, losers))?;
        }
        let cancelled = state.cancelled.take();
        let fatal = state.fatal.take();
        let failure = state.failure.take();
        let was_cancelled = cancelled.is_some();
        let mut error = if fatal.is_some() && state.fatal_raised.get() {
            // Raised once: what has left through the loop already ends the run as a cancelled one.
            Some(match cancelled {
                Some(cancelled) => cancelled.into_bound(py),
                None => CancelledError::new_err(()).into_value(py).into_any().into_bound(py),
            })
        } else if let Some(fatal) = fatal {
            Some(fatal.into_bound(py))
        } else if let Some(cancelled) = cancelled {
            Some(cancelled.into_bound(py))
        } else if let Some(failure) = failure {
            Some(failure.into_bound(py))
        } else if phase == SplitPhase::Proceeded || (state.outbox.is_some() && !state.timed_out.get()) {
            None // to whom results are handed one by one, no verdict matters
        } else if state.timed_out.get() {
            let error = self.timed_out_error(py, state, &result)?;
            let value = spec.timeout.unwrap_or(0.0).into_pyobject(py)?.into_any();
            self.emit(py, state, Wants::TIMEOUT, Facts { value: Some(value), ..Facts::default() })?;
            Some(error)
        } else {
            Some(self.join_error(py, state, &result)?)
        };
        if spec.store_partial_results && !was_cancelled {
            let kept = py
                .import(intern!(py, "cano._engine.keeping"))?
                .getattr(intern!(py, "keep_result"))?
                .call((&state.store, &result, error), Some(&facts(py, &self.place(py, state)?)?))?;
            error = (!kept.is_none()).then_some(kept);
        }
        if state.wants.has(Wants::JOIN) {
            let value = Some(result.clone());
            self.emit(py, state, Wants::JOIN, Facts { value, error: error.as_ref(), ..Facts::default() })?;
        }
        match error {
            Some(error) => Err(raised_here(error)),
            None => Ok(result),
        }
    }

    pub(super) fn place<'py>(
        &self,
        py: Python<'py>,
        state: &State,
    ) -> PyResult<[(&'static str, Bound<'py, PyAny>); 3]> {
        let scope = state.scope.get(py)?;
        Ok([
            ("state", scope.getattr(intern!(py, "state"))?),
            ("path", scope.call_method0(intern!(py, "path"))?),
            ("task", state.spec.get().name.bind(py).clone().into_any()),
        ])
    }

    fn join_error<'py>(
        &self,
        py: Python<'py>,
        state: &State,
        result: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let place = facts(py, &self.place(py, state)?)?;
        failures(py)?.getattr(intern!(py, "join_failed"))?.call((result, &state.spec.get().strategy), Some(&place))
    }

    fn timed_out_error<'py>(
        &self,
        py: Python<'py>,
        state: &State,
        result: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let place = facts(py, &self.place(py, state)?)?;
        let limit = state.spec.get().timeout.unwrap_or(0.0);
        failures(py)?.getattr(intern!(py, "split_timed_out"))?.call((result, limit), Some(&place))
    }

    /// What an error of the source, or of the strategy's function, makes the state fail with.
    pub(super) fn source_failure<'py>(
        &self,
        py: Python<'py>,
        state: &State,
        error: PyErr,
    ) -> PyResult<Bound<'py, PyAny>> {
        let place = facts(py, &self.place(py, state)?)?;
        failures(py)?.getattr(intern!(py, "source_failed"))?.call((error.into_value(py),), Some(&place))
    }

    /// Writes into an error where it happened.
    pub(super) fn locate(&self, py: Python<'_>, state: &State, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let place = facts(py, &self.place(py, state)?)?;
        failures(py)?.getattr(intern!(py, "locate"))?.call((error,), Some(&place)).map(drop)
    }

    fn result<'py>(&self, py: Python<'py>, state: &State) -> PyResult<Bound<'py, PyAny>> {
        let (total, ok_order, bad_order) = {
            let machine = state.machine.borrow();
            let total = machine.total().unwrap_or(machine.drawn());
            (total, machine.ok_order().to_vec(), machine.bad_order().to_vec())
        };
        let table = std::mem::take(&mut *state.table.borrow_mut());
        let columns = Bound::new(py, Columns::new(total, ok_order, bad_order, table))?;
        static CLASS: crate::once::Once<Py<PyAny>> = crate::once::Once::new();
        CLASS
            .get_or_try_init(py, || py.import("cano.results")?.getattr("SplitResult").map(Bound::unbind))?
            .bind(py)
            .call1((columns,))
    }

    fn close(&self, py: Python<'_>, state: &State) -> PyResult<()> {
        if state.closed.replace(true) {
            return Ok(());
        }
        let (dues, armed) = state.timers.borrow_mut().clear();
        drop(dues);
        if let Some((_, handle)) = armed {
            handle.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        let (own, again) =
            (std::mem::take(&mut *state.own.borrow_mut()), std::mem::take(&mut *state.again.borrow_mut()));
        drop((own, again));
        if let Some(outbox) = &state.outbox {
            outbox.bind(py).setattr(intern!(py, "resume"), py.None())?;
        }
        state.losers.borrow_mut().clear();
        state.looks.borrow_mut().clear();
        state.items_left.set(None);
        state.awaited.forget();
        if let Some(close) = state.close_source.take()
            && let Err(error) = close.bind(py).call0()
        {
            if !error.is_instance_of::<PyException>(py) {
                return Err(error);
            }
            let value = error.into_value(py).into_any();
            state.loser_errors.borrow_mut().push((-1, value));
        }
        Ok(())
    }
}

/// An error raised now: what the caller is handling is its context, as it would be of one raised in Python.
fn raised_here(error: Bound<'_, PyAny>) -> PyErr {
    let py = error.py();
    let error = PyErr::from_value(error);
    if let Some(handled) = handled_exception(py)
        && !handled.is(error.value(py))
        && error.context(py).is_none()
    {
        error.set_context(py, Some(PyErr::from_value(handled)));
    }
    error
}
