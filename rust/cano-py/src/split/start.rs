//! Starting branches: the loop that every branch of every split passes through once.

use cano_engine::{SplitMachine, Start};
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyRange, PyTuple};

use super::collector::PausedCollector;
use super::entered::Entered;
use super::events::{Facts, Wants};
use super::{DEPTH, SLICE, SplitDriver, State, is_final, tell};
use crate::branch::{self, Branch, Outcome, Stepped, is_fatal};
use crate::clock::Stopwatch;
use crate::columns::Row;
use crate::current::copy_context;
use crate::hook::restoring;
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
    static TYPES: PyOnceLock<Vec<usize>> = PyOnceLock::new();
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
        let mut collector = PausedCollector::default();
        let source = state.items_left.get(py);
        // The usual case has no bookkeeping of its own: no event, no timer, no retry, no task of asyncio's.
        let simple = !state.wants.any()
            && !spec.retries()
            && !state.real_tasks
            && state.outbox.is_none()
            && spec.hedge_delay.is_none();
        loop {
            let start = {
                let mut machine = state.machine.borrow_mut();
                if let Some(outbox) = &state.outbox
                    && machine.may_start()
                    && !machine.has_retries_due()
                {
                    drop(machine);
                    if !outbox.bind(py).call_method0(intern!(py, "room"))?.is_truthy()? {
                        return Ok(());
                    }
                    machine = state.machine.borrow_mut();
                }
                // Where a feeder draws, fresh branches are its business.
                if source.is_none() && !machine.has_retries_due() { Start::Blocked } else { machine.next_start() }
            };
            let index = match start {
                Start::Blocked => return Ok(()),
                Start::Again(index) => {
                    entered.leave()?;
                    let again = state.again.borrow_mut().remove(&index);
                    if let Some((call, item)) = again {
                        self.launch(slf, state, index, &call, item.bind(py))?;
                    }
                    now = watch.now(&self.clock, py)?;
                    if now >= slice_end {
                        return self.pause_pump(slf, state);
                    }
                    continue;
                }
                Start::Fresh(index) => index,
            };
            let Some(source) = &source else {
                return Ok(());
            };
            let item = match self.draw(state, source, entered) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    tell(py, state, |machine| machine.withdraw(index))?;
                    state.items_left.set(None);
                    let verdict = tell(py, state, SplitMachine::source_ended)?;
                    return if is_final(verdict) { self.obey(slf, state, verdict) } else { Ok(()) };
                }
                Err(error) => {
                    tell(py, state, |machine| machine.withdraw(index))?;
                    return self.source_failed(slf, state, error);
                }
            };
            collector.count();
            match &spec.call {
                Some(call) if simple && call.kind == CallKind::Coroutine => {
                    now = self.start_coroutine(slf, state, entered, &watch, index, call, &item, now)?;
                    if now >= slice_end {
                        return self.pause_pump(slf, state);
                    }
                    continue;
                }
                _ => self.fresh(slf, state)?,
            }
            match &spec.call {
                Some(call) if simple && call.kind == CallKind::Thread && spec.attempt_timeout.is_none() => {
                    state.to_threads.borrow_mut().push((index, item.unbind()));
                    now = watch.now(&self.clock, py)?;
                }
                Some(call) if call.kind == CallKind::Thread => {
                    // What runs on a thread finds nothing entered here: no need to leave either.
                    self.launch(slf, state, index, call, &item)?;
                    now = watch.now(&self.clock, py)?;
                }
                Some(call) => {
                    entered.leave()?;
                    self.launch(slf, state, index, call, &item)?;
                    now = watch.now(&self.clock, py)?;
                }
                None => {
                    entered.leave()?;
                    if let Some(call) = self.examine(slf, state, index, &item)? {
                        self.launch(slf, state, index, &call, &item)?;
                    }
                    now = watch.now(&self.clock, py)?;
                }
            }
            if now >= slice_end {
                return self.pause_pump(slf, state);
            }
        }
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

    /// Examines a task that was chosen at run time; a bad one is a failed branch.
    pub(super) fn examine(
        &self,
        slf: &Bound<'_, Self>,
        state: &State,
        index: u32,
        task: &Bound<'_, PyAny>,
    ) -> PyResult<Option<CallSpec>> {
        static EXAMINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let examined = EXAMINE
            .get_or_try_init(py, || py.import("cano._engine.calls")?.getattr("examine_branch").map(Bound::unbind))?
            .bind(py)
            .call1((task, state.spec.get().inline))
            .and_then(|call| CallSpec::read(&call));
        match examined {
            Ok(call) => Ok(Some(call)),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let error = error.into_value(py).into_any().into_bound(py);
                self.ended(slf, state, index, 1, state.entered, Outcome::Error, error, None)?;
                Ok(None)
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

    /// Starts a branch that needs no bookkeeping: call, step, and if it returned at once, count. Returns the time.
    #[allow(clippy::too_many_arguments)] // the innermost loop: everything it needs is at hand in the caller
    #[inline]
    fn start_coroutine<'py>(
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

    /// Acts on what the first step of a branch came to; the branch is current.
    fn first_step<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        entered: &mut Entered<'_, 'py>,
        branch: &Bound<'py, Branch>,
        stepped: Stepped<'py>,
    ) -> PyResult<()> {
        let its = branch.get().state()?;
        if let Stepped::Yielded(_) = stepped {
            its.key.set(state.live.borrow_mut().keep(its.index.get(), branch.clone().unbind()));
        }
        let settled = branch::settle(branch, its, stepped);
        entered.stepped(its);
        settled?;
        if its.is_done() {
            return Ok(());
        }
        Entered::waits(branch, its);
        if state.machine.borrow().is_decided() {
            // Its own first step decided: it is the first of the losers.
            branch::release(branch)
        } else if let Some(limit) = state.spec.get().attempt_timeout {
            let due = self.now_in_turn(slf.py())? + limit;
            its.timer.set(self.add_timer(slf, due, Due::Attempt(its.key.get()))?);
            Ok(())
        } else {
            Ok(())
        }
    }

    pub(super) fn register(&self, state: &State, index: u32, attempt: Py<PyAny>) {
        let replaced = state.live.borrow_mut().keep_other(index, attempt);
        drop(replaced);
    }

    /// Starts an attempt of a branch that holds a permit, in whichever way its callable wants.
    pub(super) fn launch<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        index: u32,
        call: &CallSpec,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let spec = state.spec.get();
        let attempt = state.table.borrow().attempts.get(&index).copied().unwrap_or(1);
        if spec.retries() {
            let replaced = state.again.borrow_mut().insert(index, (call.clone_ref(py), item.clone().unbind()));
            drop(replaced);
        }
        if state.wants.has(Wants::BRANCH_START) {
            let place = Facts { branch: Some(index), attempt: Some(attempt), ..Facts::default() };
            self.emit(py, state, Wants::BRANCH_START, place)?;
        }
        let item = if call.item { Some(item) } else { None };
        if call.kind == CallKind::Thread {
            let context = copy_context(state.snapshot.bind(py))?;
            return self.launch_thread(slf, state, index, attempt, call, item, &context);
        }
        let started = self.now_in_turn(py)?;
        let mut context = None;
        let outcome = if call.kind == CallKind::Coroutine {
            call.call(py, item, &state.store)
        } else {
            let context = &*context.insert(copy_context(state.snapshot.bind(py))?);
            crate::current::enter_context(context)?;
            let outcome = call.call(py, item, &state.store);
            crate::current::exit_context(context)?;
            outcome
        };
        match outcome {
            Err(error) => {
                let error = error.into_value(py).into_any().into_bound(py);
                self.ended(slf, state, index, attempt, started, Outcome::Error, error, None)
            }
            Ok(value) if call.kind == CallKind::Coroutine || is_awaitable(&value) => {
                self.begin(slf, state, index, attempt, &value, context.as_ref(), started)
            }
            Ok(value) => self.ended(slf, state, index, attempt, started, Outcome::Ok, value, None),
        }
    }

    #[allow(clippy::too_many_arguments)] // the facts of one attempt
    fn launch_thread<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        index: u32,
        attempt: u32,
        call: &CallSpec,
        item: Option<&Bound<'py, PyAny>>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let store = state.store.bind(py);
        let arguments = match (item, call.store) {
            (Some(item), true) => PyTuple::new(py, [item, store])?,
            (Some(item), false) => PyTuple::new(py, [item])?,
            (None, true) => PyTuple::new(py, [store])?,
            (None, false) => PyTuple::empty(py),
        };
        let job = CLASS
            .get_or_try_init(py, || py.import("cano._engine.attempts")?.getattr("ThreadAttempt").map(Bound::unbind))?
            .bind(py)
            .call1((slf, index, attempt, &call.function, arguments, context))?;
        self.register(state, index, job.clone().unbind());
        state.jobs.borrow_mut().push(job.clone().unbind());
        self.arm_other(slf, state, &job)
    }

    fn arm_other(&self, slf: &Bound<'_, Self>, state: &State, attempt: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if let Some(limit) = state.spec.get().attempt_timeout {
            let due = self.now_at(py)? + limit;
            let timer = self.add_timer(slf, due, Due::OtherAttempt(attempt.clone().unbind()))?;
            attempt.setattr(intern!(py, "timer"), timer)?;
        }
        Ok(())
    }

    /// Takes the first step of an asynchronous attempt; in `context`, if it has one of its own already.
    #[allow(clippy::too_many_arguments)] // the facts of one attempt
    pub(super) fn begin<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        index: u32,
        attempt: u32,
        awaitable: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        started: f64,
    ) -> PyResult<()> {
        let py = slf.py();
        if !is_awaitable(awaitable) {
            // Declared a coroutine function, but what came is a plain value: then that is the output.
            return self.ended(slf, state, index, attempt, started, Outcome::Ok, awaitable.clone(), None);
        }
        let coro = if is_coroutine(awaitable) {
            awaitable.clone()
        } else {
            py.import(intern!(py, "cano._engine.attempts"))?.call_method1(intern!(py, "as_coroutine"), (awaitable,))?
        };
        if state.real_tasks {
            let task = py
                .import(intern!(py, "cano._engine.attempts"))?
                .call_method1(intern!(py, "TaskAttempt"), (slf, index, attempt, started))?;
            self.register(state, index, task.clone().unbind());
            let context = match context {
                Some(context) => context.clone(),
                None => copy_context(state.snapshot.bind(py))?,
            };
            task.call_method1(intern!(py, "begin"), (coro, context))?;
            let alive = state.live.borrow().has_other(index);
            return if alive { self.arm_other(slf, state, &task) } else { Ok(()) };
        }
        let mut entered = Entered::new(slf, state);
        let branch = entered.fresh_in(context)?;
        branch.get().state()?.assign(index, attempt, started, &coro);
        let stepped = branch::step(&coro, None);
        drop(coro);
        let answer = self.first_step(slf, state, &mut entered, &branch, stepped);
        let left = entered.leave();
        match answer {
            Err(error) if is_fatal(py, &error) && state.pumping.get() => Err(error),
            answer => answer.and(left),
        }
    }

    /// Hands the sync attempts of this turn to the worker threads.
    pub(super) fn submit_jobs(&self, py: Python<'_>, state: &State) -> PyResult<()> {
        let jobs = std::mem::take(&mut *state.jobs.borrow_mut());
        if jobs.is_empty() { Ok(()) } else { submit(py, &jobs) }
    }

    /// Hands the items of this turn to the worker threads.
    fn submit_items(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        let items = std::mem::take(&mut *state.to_threads.borrow_mut());
        let Some(call) = state.spec.get().call.as_ref().filter(|_| !items.is_empty()) else {
            return Ok(());
        };
        if !self.exchange.items.offer(items) {
            return Ok(());
        }
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let drain = CLASS
            .get_or_try_init(py, || py.import("cano._engine.drain")?.getattr("Drain").map(Bound::unbind))?
            .bind(py)
            .call1((slf, &call.function, call.store, &state.store))?
            .unbind();
        submit(py, &[drain])
    }

    /// What the loop has to call to take in what has landed, unless it is going to; from any thread.
    ///
    /// It is the Python below that hands it to the loop. On 3.13 and older a thread that meets interpreter shutdown while it
    /// runs Python code, as `call_soon_threadsafe` is, is unwound by force, and aborts the process if there are native
    /// frames on its stack.
    pub(crate) fn wake_up(&self, slf: &Bound<'_, Self>) -> PyResult<Option<Py<crate::hook::Hook>>> {
        if self.landing.is_raised() {
            return Ok(None);
        }
        // Made before the flag goes up: were there no memory for it, nobody would ever call.
        let hook = crate::hook::Hook::drain(slf)?;
        Ok(self.landing.raise().then(|| hook.unbind()))
    }

    /// Takes in, on a worker thread, that a sync attempt has ended; one wake-up serves all that land meanwhile.
    pub(super) fn land(&self, slf: &Bound<'_, Self>, attempt: Py<PyAny>) -> PyResult<Option<Py<crate::hook::Hook>>> {
        self.landed.push(attempt);
        crate::fail::point();
        self.wake_up(slf)
    }
}

/// The process's worker threads.
fn pool(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static POOL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(POOL.get_or_try_init(py, || py.import("cano._engine.threads")?.getattr("pool").map(Bound::unbind))?.bind(py))
}

fn submit(py: Python<'_>, jobs: &[Py<PyAny>]) -> PyResult<()> {
    pool(py)?.call_method1(intern!(py, "submit_many"), (PyList::new(py, jobs)?,)).map(drop)
}
