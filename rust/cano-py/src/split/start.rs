//! Starting branches: the loop that every branch of every split passes through once.

use cano_engine::{SplitMachine, Start};
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyRange, PyTuple};

use super::entered::Entered;
use super::paused_collector::PausedCollector;
use super::{DEPTH, SLICE, STEPS, SplitDriver, State, is_final, tell};
use crate::branch::Outcome;
use crate::clock::Stopwatch;
use crate::columns::Row;
use crate::hook::restoring;
use crate::once::Once;
use crate::spec::{CallKind, CallSpec};
use crate::timers::Due;

/// The length of a source that is a list, a tuple or a range: what can be drawn from without running user code.
pub(super) fn plain_length(over: &Bound<'_, PyAny>) -> Option<u64> {
    let plain = over.cast_exact::<PyList>().is_ok()
        || over.cast_exact::<PyTuple>().is_ok()
        || over.cast_exact::<PyRange>().is_ok();
    if plain { over.len().ok().map(|length| length as u64) } else { None }
}

/// Whether drawing from an iterator runs no user code.
pub(super) fn is_plain_iterator(iterator: &Bound<'_, PyAny>) -> bool {
    static TYPES: Once<Vec<usize>> = Once::new();
    let py = iterator.py();
    let types = TYPES.get_or_init(py, || {
        let samples: [PyResult<Bound<'_, PyAny>>; 2] =
            [PyList::empty(py).try_iter().map(Bound::into_any), PyTuple::empty(py).try_iter().map(Bound::into_any)];
        samples.iter().flatten().map(|sample| sample.get_type().as_ptr() as usize).collect()
    });
    types.contains(&(iterator.get_type().as_ptr() as usize))
}

/// Whether an object is a coroutine and nothing else, so that stepping it is all there is to do.
#[inline]
pub(crate) fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: `object` is alive, and the type of coroutines is a static object of the interpreter.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == &raw mut ffi::PyCoro_Type }
}

/// Whether an object can be awaited, by the slot that `await` itself looks at.
#[inline]
pub(crate) fn is_awaitable(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive, and so is its type, whose table of asynchronous methods is null or valid.
    unsafe {
        let methods = (*ffi::Py_TYPE(object.as_ptr())).tp_as_async;
        !methods.is_null() && (*methods).am_await.is_some()
    }
}

impl SplitDriver {
    /// Starts what the machine lets start, for at most a time slice.
    pub(super) fn pump(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        state.pumping.set(true);
        DEPTH.set(DEPTH.get() + 1);
        let mut entered = Entered::new(slf, state);
        let started = restoring(
            || self.start_loop(slf, state, &mut entered),
            || {
                DEPTH.set(DEPTH.get() - 1);
                Ok(())
            },
        );
        let left = entered.leave();
        state.watch.set(None);
        state.pumping.set(false);
        let submitted = self.submit_jobs(slf.py(), state).and_then(|()| self.submit_items(slf, state));
        let refused = submitted.or_else(|error| self.without_threads(slf, error));
        started.and(left).and(refused)
    }

    fn start_loop<'py>(&self, slf: &Bound<'py, Self>, state: &State, entered: &mut Entered<'_, 'py>) -> PyResult<()> {
        let py = slf.py();
        let spec = state.spec.get();
        let watch = self.clock.stopwatch(py)?;
        state.watch.set(Some(watch));
        let mut now = watch.started();
        let slice_end = now + SLICE;
        let mut steps = 0;
        let mut collector = PausedCollector::default();
        let source = state.items_left.get(py);
        // The usual case has no bookkeeping of its own: no event, no timer, no retry, no task of asyncio's.
        let simple = !state.wants.any()
            && !spec.retries()
            && !state.real_tasks
            && state.outbox.is_none()
            && spec.hedge_delay.is_none();
        loop {
            steps += 1;
            match self.next_start(py, state, source.is_some())? {
                Start::Blocked => return Ok(()),
                Start::Again(index) => {
                    entered.leave()?;
                    let again = state.again.borrow_mut().remove(&index);
                    if let Some((call, item)) = again {
                        self.launch(slf, state, index, &call, item.bind(py))?;
                    }
                    now = watch.now(&self.clock, py)?;
                }
                Start::Fresh(index) => {
                    let Some(source) = &source else { return Ok(()) };
                    let item = match self.draw(state, source, entered) {
                        Ok(Some(item)) => item,
                        drawn => return self.drawn_out(slf, state, index, drawn.err()),
                    };
                    collector.count();
                    now = self.start_fresh(slf, state, entered, &watch, index, &item, now, simple)?;
                }
            }
            if now >= slice_end || steps >= STEPS {
                return self.pause_pump(slf, state);
            }
        }
    }

    /// What may start now.
    #[inline]
    fn next_start(&self, py: Python<'_>, state: &State, may_draw: bool) -> PyResult<Start> {
        let mut machine = state.machine.borrow_mut();
        if let Some(outbox) = &state.outbox
            && machine.may_start()
            && !machine.has_retries_due()
        {
            let retrying = machine.retrying();
            drop(machine);
            if !outbox.bind(py).call_method1(intern!(py, "room"), (retrying,))?.is_truthy()? {
                return Ok(Start::Blocked);
            }
            machine = state.machine.borrow_mut();
        }
        // Where a feeder draws, fresh branches are its business.
        Ok(if may_draw || machine.has_retries_due() { machine.next_start() } else { Start::Blocked })
    }

    /// There was no item for a fresh branch: the source is exhausted, or has raised.
    fn drawn_out(&self, slf: &Bound<'_, Self>, state: &State, index: u32, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        tell(py, state, |machine| machine.withdraw(index))?;
        if let Some(error) = error {
            return self.source_failed(slf, state, error);
        }
        state.items_left.set(None);
        let verdict = tell(py, state, SplitMachine::source_ended)?;
        if is_final(verdict) { self.obey(slf, state, verdict) } else { Ok(()) }
    }

    /// Starts a branch on an item. Returns the time.
    #[allow(clippy::too_many_arguments)] // the innermost loop: everything it needs is at hand in the caller
    #[inline]
    fn start_fresh<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        entered: &mut Entered<'_, 'py>,
        watch: &Stopwatch,
        index: u32,
        item: &Bound<'py, PyAny>,
        now: f64,
        simple: bool,
    ) -> PyResult<f64> {
        let py = slf.py();
        let spec = state.spec.get();
        let examined;
        let (call, simple) = match &spec.call {
            Some(call) => (call, simple),
            None => {
                entered.leave()?;
                match self.examine(py, state, item)? {
                    Ok(call) => {
                        examined = call;
                        (&examined, simple && examined.own.is_none())
                    }
                    Err(error) => {
                        self.fresh(slf, state)?;
                        self.ended(slf, state, index, 1, state.entered, Outcome::Error, error, None)?;
                        return watch.now(&self.clock, py);
                    }
                }
            }
        };
        match call.kind {
            CallKind::Coroutine if simple => {
                return self.start_coroutine(slf, state, entered, watch, index, call, item, now);
            }
            CallKind::Inline if simple => {
                return self.start_inline(slf, state, entered, watch, index, call, item, now);
            }
            CallKind::Thread if simple && spec.call.is_some() && spec.attempt_timeout.is_none() => {
                self.fresh(slf, state)?;
                state.to_threads.borrow_mut().push((index, item.clone().unbind()));
            }
            kind => {
                self.fresh(slf, state)?;
                // What runs on a thread finds nothing entered here: no need to leave either.
                if kind != CallKind::Thread {
                    entered.leave()?;
                }
                self.launch(slf, state, index, call, item)?;
            }
        }
        watch.now(&self.clock, py)
    }

    /// The slice is over: the rest starts in another turn of the loop.
    fn pause_pump(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let more = state.machine.borrow().may_start();
        if more { self.schedule_pump(slf, state) } else { Ok(()) }
    }

    /// Draws the next item; `None` when the source is exhausted.
    fn draw<'py>(
        &self,
        state: &State,
        source: &Bound<'py, PyAny>,
        entered: &mut Entered<'_, 'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !state.plain_source.get() {
            // Its code is the user's, and runs in the run's own context, as its own task.
            entered.leave()?;
        }
        let py = source.py();
        // SAFETY: attached; `source` came from `iter()`, so it is an iterator; a new reference, or null with or without
        // an error set.
        let item = unsafe { ffi::PyIter_Next(source.as_ptr()) };
        if item.is_null() {
            return match PyErr::take(py) {
                Some(error) => Err(error),
                None => Ok(None),
            };
        }
        // SAFETY: not null, and ours.
        Ok(Some(unsafe { Bound::from_owned_ptr(py, item) }))
    }

    /// Examines a task that was chosen at run time; what it answers with otherwise, the branch has failed with.
    pub(super) fn examine<'py>(
        &self,
        py: Python<'py>,
        state: &State,
        task: &Bound<'py, PyAny>,
    ) -> PyResult<Result<CallSpec, Bound<'py, PyAny>>> {
        static EXAMINE: Once<Py<PyAny>> = Once::new();
        let examined = EXAMINE
            .get_or_try_init(py, || py.import("cano._engine.calls")?.getattr("examine_branch").map(Bound::unbind))?
            .bind(py)
            .call1((task, &state.spec.get().plan))
            .and_then(|call| CallSpec::read(&call));
        match examined {
            Ok(call) => Ok(Ok(call)),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                Ok(Err(error.into_value(py).into_any().into_bound(py)))
            }
            Err(error) => Err(error),
        }
    }

    /// A branch comes into being.
    #[inline]
    pub(super) fn fresh(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        if state.outbox.is_none() {
            state.table.borrow_mut().rows.push(Row::default());
        }
        match state.spec.get().hedge_delay {
            None => Ok(()),
            Some(delay) => {
                let py = slf.py();
                let old = state.hedge.replace(0);
                if old != 0 {
                    self.cancel_timer(py, old)?;
                }
                state.hedge.set(self.add_timer(slf, self.now_at(py)? + delay, Due::Hedge)?);
                Ok(())
            }
        }
    }
}
