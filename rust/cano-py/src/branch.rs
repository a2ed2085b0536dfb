//! `Branch`: the task object of one attempt of one branch, stepped in place on the loop's thread.
//!
//! It is to a branch what `asyncio.Task` is to a coroutine, with the same algorithm for stepping, waiting and cancelling
//! (CPython, `Lib/asyncio/tasks.py`). The mirror of `pure/branch.py`; the interface of a Task is in `branch/interface.rs`.

pub(crate) mod interface;
pub(crate) mod park;

pub(crate) use interface::resume_with;

use std::cell::{Cell, OnceCell};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyKeyboardInterrupt, PyStopIteration, PySystemExit};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::collector::Coroutine;
use crate::confined::{Confined, Slot};
use crate::current::copy_context;
use crate::hook::Hook;
use crate::split::{Key, SplitDriver};
use crate::timers::TimerId;

/// What became of an attempt; the numbers are those of `_engine/attempts.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok = 0,
    Error = 1,
    Cancelled = 2,
}

/// What a coroutine did when it was stepped.
pub(crate) enum Stepped<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
    Raised(PyErr),
}

/// One attempt of one branch. Looks like an `asyncio.Task` to whatever runs inside it, but is no instance of it.
#[pyclass(frozen, weakref, module = "cano._core")]
pub(crate) struct Branch {
    /// For any thread, as what has come of the attempt: what another needs in order to cancel it (`call_soon_threadsafe`).
    event_loop: Py<PyAny>,
    came_of_it: AtomicU8,
    /// What was set on it as on any task. (`#[pyclass(dict)]` would make a dictionary for each branch.)
    attributes: OnceLock<Py<PyDict>>,
    state: Confined<State>,
}

/// What `came_of_it` says: nothing yet, a value or an error, a cancellation.
const PENDING: u8 = 0;
const DONE: u8 = 1;
const CANCELLED: u8 = 2;

/// What a branch is made of. Who may write what: the branch itself while it is stepped, its driver otherwise.
pub(crate) struct State {
    /// `None` once the attempt has ended.
    pub(crate) driver: Slot<SplitDriver>,
    /// What the driver knows it by while it is suspended.
    pub(crate) key: Cell<Key>,
    pub(crate) index: Cell<u32>,
    pub(crate) attempt: Cell<u32>,
    pub(crate) started: Cell<f64>,
    /// Of the attempt's timeout.
    pub(crate) timer: Cell<TimerId>,
    pub(crate) timed_out: Cell<bool>,
    /// Cancelled by the engine: it decided without this branch.
    pub(crate) released: Cell<bool>,
    /// It is current, and its context entered.
    pub(crate) running: Cell<bool>,
    /// Asked by `await branch`, as of any future.
    blocking: Cell<bool>,
    must_cancel: Cell<bool>,
    has_own_context: Cell<bool>,
    outcome: Cell<Option<Outcome>>,
    cancels: Cell<u32>,
    /// Steps taken.
    steps: Cell<u32>,
    coro: Coroutine,
    /// Its own, or the context it would be a copy of (`split/entered.rs`).
    context: Slot,
    /// A future, or a `Pause`, which the collector may not see.
    waiter: Slot,
    hides_waiter: Cell<bool>,
    /// The result, or the exception.
    payload: Slot,
    seldom: OnceCell<Box<Seldom>>,
}

/// What few branches have.
#[derive(Default)]
struct Seldom {
    name: Slot,
    cancel_message: Slot,
    /// A list of (callback, context), made for the first of them.
    callbacks: Slot,
    /// The split that it waits for.
    inner: Slot<SplitDriver>,
}

impl Branch {
    /// A branch that is about to take its first step. `snapshot` is the context that its own would be a copy of.
    pub(crate) fn new(
        driver: &Bound<'_, SplitDriver>,
        event_loop: &Bound<'_, PyAny>,
        snapshot: &Bound<'_, PyAny>,
    ) -> Self {
        Self {
            event_loop: event_loop.clone().unbind(),
            came_of_it: AtomicU8::new(PENDING),
            attributes: OnceLock::new(),
            state: Confined::new(State {
                driver: Slot::new(driver.clone().unbind()),
                key: Cell::default(),
                index: Cell::new(0),
                attempt: Cell::new(1),
                started: Cell::new(0.0),
                timer: Cell::new(0),
                timed_out: Cell::new(false),
                released: Cell::new(false),
                running: Cell::new(true),
                blocking: Cell::new(false),
                must_cancel: Cell::new(false),
                has_own_context: Cell::new(false),
                outcome: Cell::new(None),
                cancels: Cell::new(0),
                steps: Cell::new(0),
                coro: Coroutine::default(),
                context: Slot::new(snapshot.clone().unbind()),
                waiter: Slot::default(),
                hides_waiter: Cell::new(false),
                payload: Slot::default(),
                seldom: OnceCell::new(),
            }),
        }
    }

    /// The coroutine's place, for `crate::collector`.
    pub(crate) fn coroutine_for_gc(&self) -> &Coroutine {
        &self.state.get_for_gc().coro
    }

    /// Shows the collector what the branch holds.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        if let Some(attributes) = self.attributes.get() {
            visit.call(attributes)?;
        }
        traverse(self.state.get_for_gc(), visit)
    }

    /// The loop that it runs on.
    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }

    #[inline]
    pub(crate) fn state(&self) -> PyResult<&State> {
        self.state.get()
    }
}

impl State {
    pub(crate) fn is_done(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Whether its timeout has cancelled it, and it did not take that back: it is cleaning up.
    fn was_told(&self) -> bool {
        self.timed_out.get() && self.cancels.get() > 0
    }

    /// Begins an attempt on this object: which one, and what it runs.
    #[inline]
    pub(crate) fn assign(&self, index: u32, attempt: u32, started: f64, coro: &Bound<'_, PyAny>) {
        self.index.set(index);
        self.attempt.set(attempt);
        self.started.set(started);
        self.coro.set(Some(coro.clone().unbind()));
    }

    /// Notes that it is about to wait for a split, or that it does no longer.
    pub(crate) fn awaits(&self, split: Option<&Bound<'_, SplitDriver>>) {
        if split.is_some() || self.seldom.get().is_some() {
            self.seldom().inner.set(split.map(|split| split.clone().unbind()));
        }
    }

    /// The split that it waits for.
    pub(crate) fn inner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, SplitDriver>> {
        self.seldom.get().and_then(|seldom| seldom.inner.get(py))
    }

    fn seldom(&self) -> &Seldom {
        self.seldom.get_or_init(Box::default)
    }

    /// The context of its own, if it has one by now.
    #[inline]
    pub(crate) fn own_context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if self.has_own_context.get() { self.context.get(py) } else { None }
    }

    pub(crate) fn set_own_context(&self, context: Py<PyAny>) {
        self.has_own_context.set(true);
        self.context.set(Some(context));
    }

    /// The context the branch runs in, which nobody else's branch will run in from now on.
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.has_own_context.get() {
            let entered = match self.driver.get(py) {
                Some(driver) if self.running.get() => driver.get().shared_context(py)?,
                _ => None,
            };
            let own = match (entered, self.context.get(py)) {
                (Some(entered), _) => entered,
                (None, Some(snapshot)) => copy_context(&snapshot)?,
                (None, None) => return Ok(None),
            };
            self.set_own_context(own.unbind());
        }
        Ok(self.context.get(py))
    }

    /// Has the collector ignore the coroutine, if nobody else has it.
    #[inline]
    pub(crate) fn hide_coroutine(&self) {
        self.coro.hide();
    }

    /// Whether nobody but the driver can know this object, so that the next branch may have it.
    ///
    /// Only of a branch that ended in its first step, whose references the caller has counted.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        !self.must_cancel.get() && self.cancels.get() == 0 && self.seldom.get().is_none() && !self.blocking.get()
    }

    pub(crate) fn set_waiter(&self, waiter: &Bound<'_, PyAny>) {
        self.waiter.set(Some(waiter.clone().unbind()));
    }

    /// Has the collector ignore the pause that it waits for, if nobody else can see it: beside the branch and the frame that
    /// awaits it there is the caller's reference.
    pub(crate) fn hide_waiter(&self, pause: &Bound<'_, PyAny>) {
        if crate::collector::references(pause.as_ptr()) == 3 {
            crate::collector::hide(pause);
            self.hides_waiter.set(true);
        }
    }

    /// What it waits for, for somebody else.
    fn hand_out_waiter<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let waiter = self.waiter.get(py);
        if self.hides_waiter.replace(false)
            && let Some(pause) = &waiter
        {
            crate::collector::show(pause);
        }
        waiter
    }

    /// Whether it waits for something that is to come.
    fn waits(&self, py: Python<'_>) -> PyResult<bool> {
        match self.waiter.get(py) {
            None => Ok(false),
            Some(waiter) => Ok(!waiter.call_method0(intern!(py, "done"))?.is_truthy()?),
        }
    }

    /// Whether a future's call is what it waits for. One that comes too late, when `look_again` was faster, is not; but what only
    /// looks like a future may call with whatever it likes.
    pub(crate) fn waits_for(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> bool {
        self.waiter.get(py).is_some_and(|waiter| {
            waiter.is(future)
                || !(park::is_plain(&waiter)
                    || park::is_plain(future)
                    || waiter.is_exact_instance_of::<crate::pause::Pause>())
        })
    }

    pub(crate) fn waiter<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.waiter.get(py)
    }

    pub(crate) fn take_cancel_message(&self) -> Option<Py<PyAny>> {
        self.seldom.get().and_then(|seldom| seldom.cancel_message.take())
    }

    /// Whether a cancellation was asked for and has not been delivered; it is then taken off.
    #[inline]
    pub(crate) fn take_must_cancel(&self) -> bool {
        self.must_cancel.replace(false)
    }

    pub(crate) fn cancelled_error(&self) -> PyErr {
        match self.take_cancel_message() {
            None => CancelledError::new_err(()),
            Some(message) => CancelledError::new_err((message,)),
        }
    }
}

/// Steps a coroutine: `send(None)`, or `throw(error)`.
pub(crate) fn step<'py>(coro: &Bound<'py, PyAny>, error: Option<PyErr>) -> Stepped<'py> {
    let py = coro.py();
    let Some(error) = error else {
        let mut answer: *mut ffi::PyObject = std::ptr::null_mut();
        // SAFETY: attached; `coro` has an iterator's slots (a coroutine, or what `__await__` gave), and on RETURN and
        // NEXT the callee leaves a new reference in `answer`.
        let sent = unsafe { ffi::PyIter_Send(coro.as_ptr(), ffi::Py_None(), &raw mut answer) };
        return match sent {
            // SAFETY: see above.
            ffi::PySendResult::PYGEN_RETURN => Stepped::Returned(unsafe { Bound::from_owned_ptr(py, answer) }),
            // SAFETY: see above.
            ffi::PySendResult::PYGEN_NEXT => Stepped::Yielded(unsafe { Bound::from_owned_ptr(py, answer) }),
            ffi::PySendResult::PYGEN_ERROR => Stepped::Raised(PyErr::fetch(py)),
        };
    };
    match coro.call_method1(intern!(py, "throw"), (error.into_value(py),)) {
        Ok(yielded) => Stepped::Yielded(yielded),
        Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => match stop.value(py).getattr(intern!(py, "value")) {
            Ok(value) => Stepped::Returned(value),
            Err(error) => Stepped::Raised(error),
        },
        Err(raised) => Stepped::Raised(raised),
    }
}

/// Whether an error must end the run and leave through the loop.
pub(crate) fn is_fatal(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}

/// Has the loop look at a branch again that waits for nothing: what was to resume it may have been lost on the way, to a
/// `KeyboardInterrupt` in the loop's own Python code. Whatever was scheduled before has its turn first.
pub(crate) fn look_again(driver: &Bound<'_, SplitDriver>, branch: &Bound<'_, Branch>) -> PyResult<()> {
    let py = branch.py();
    let state = branch.get().state()?;
    if state.waits(py)? {
        return Ok(());
    }
    let hook = Hook::look_again(driver, branch, state.steps.get())?;
    crate::current::call_soon(branch.get().event_loop(py), hook.as_any())
}

/// Whether a branch has taken no step since it was looked at, and waits for nothing that is to come.
pub(crate) fn is_lost(branch: &Bound<'_, Branch>, steps: u32) -> PyResult<bool> {
    let state = branch.get().state()?;
    Ok(!state.is_done() && state.steps.get() == steps && !state.waits(branch.py())?)
}

/// Resumes a branch that is lost.
pub(crate) fn resume_lost(driver: &Bound<'_, SplitDriver>, branch: &Bound<'_, Branch>) -> PyResult<()> {
    let py = branch.py();
    let state = branch.get().state()?;
    let error = match state.waiter.get(py) {
        None if driver.get().turns_are_due()? => return Ok(()),
        None => None,
        Some(waiter) if waiter.is_exact_instance_of::<crate::pause::Pause>() => Some(CancelledError::new_err(())),
        Some(waiter) => waiter.call_method0(intern!(py, "result")).err(),
    };
    driver.get().resume(driver, branch, error)
}

/// Takes a step; the caller has made the branch current and entered its context. An error that comes out is fatal.
pub(crate) fn take_step(branch: &Bound<'_, Branch>, state: &State, error: Option<PyErr>) -> PyResult<()> {
    let py = branch.py();
    let mut error = error;
    if state.take_must_cancel() && !error.as_ref().is_some_and(|error| error.is_instance_of::<CancelledError>(py)) {
        error = Some(state.cancelled_error());
    }
    state.waiter.set(None);
    state.hides_waiter.set(false);
    state.steps.set(state.steps.get().wrapping_add(1));
    let Some(coro) = state.coro.get(py) else {
        return Ok(());
    };
    settle(branch, state, step(&coro, error))
}

/// Acts on what a step came to: wait, or end.
pub(crate) fn settle(branch: &Bound<'_, Branch>, state: &State, stepped: Stepped<'_>) -> PyResult<()> {
    let py = branch.py();
    match stepped {
        Stepped::Yielded(yielded) => park::park(branch, state, &yielded),
        Stepped::Returned(value) => {
            if state.take_must_cancel() {
                // Cancelled right before it stopped: asyncio counts that as cancelled.
                let error = state.cancelled_error();
                finish(branch, state, Outcome::Cancelled, error.into_value(py).into_any())
            } else {
                finish(branch, state, Outcome::Ok, value.unbind())
            }
        }
        Stepped::Raised(raised) => {
            let outcome = if raised.is_instance_of::<CancelledError>(py) { Outcome::Cancelled } else { Outcome::Error };
            let fatal = is_fatal(py, &raised);
            let driver = state.driver.get(py);
            let value = raised.into_value(py);
            finish(branch, state, outcome, value.clone_ref(py).into_any())?;
            if fatal && driver.is_some_and(|driver| driver.get().raises_fatal()) {
                return Err(PyErr::from_value(value.into_bound(py).into_any()));
            }
            Ok(())
        }
    }
}

fn finish(branch: &Bound<'_, Branch>, state: &State, outcome: Outcome, payload: Py<PyAny>) -> PyResult<()> {
    let py = branch.py();
    state.outcome.set(Some(outcome));
    branch.get().came_of_it.store(if outcome == Outcome::Cancelled { CANCELLED } else { DONE }, Ordering::Release);
    state.payload.set(Some(payload.clone_ref(py)));
    let driver = state.driver.take();
    if let Some(callbacks) = state.seldom.get().and_then(|seldom| seldom.callbacks.take()) {
        interface::schedule_callbacks(branch, callbacks.bind(py))?;
    }
    if let Some(driver) = driver {
        let driver = driver.bind(py);
        let timer = state.timer.replace(0);
        if timer != 0 {
            driver.get().cancel_timer(py, timer)?;
        }
        driver.get().branch_ended(driver, branch, outcome, payload.into_bound(py))?;
    }
    Ok(())
}

/// Cancels a branch because the split goes on without it; once.
pub(crate) fn release(branch: &Bound<'_, Branch>) -> PyResult<()> {
    let state = branch.get().state()?;
    if !state.released.get() {
        if !state.was_told() {
            cancel_as_others_do(branch, state)?;
        }
        // Not before: an interrupt may come out of what it waits for, and then it has not been told.
        state.released.set(true);
    }
    Ok(())
}

/// Whoever cancels a task calls its method, and a library may have put another in its place, as an attribute.
fn cancel_as_others_do(branch: &Bound<'_, Branch>, state: &State) -> PyResult<()> {
    if branch.get().attributes.get().is_none() {
        interface::cancel(branch, state, None).map(drop)
    } else {
        branch.call_method0(intern!(branch.py(), "cancel")).map(drop)
    }
}

/// A loser is about to take a step: if its turn to be told has not come, it is told with that.
#[inline]
pub(crate) fn overtake(state: &State) {
    if !state.released.replace(true) && !state.was_told() {
        state.must_cancel.set(true);
        state.cancels.set(state.cancels.get() + 1);
    }
}

/// An attempt's time is up.
pub(crate) fn expire(branch: &Bound<'_, Branch>) -> PyResult<()> {
    let state = branch.get().state()?;
    state.timer.set(0);
    let released = state.driver.get(branch.py()).is_none_or(|driver| driver.get().is_released());
    if !state.is_done() && !released {
        state.timed_out.set(true);
        cancel_as_others_do(branch, state)?;
    }
    Ok(())
}

fn traverse(state: &State, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    state.driver.visit(visit)?;
    state.coro.visit(visit)?;
    crate::collector::visit_waiter(&state.waiter, state.hides_waiter.get(), visit)?;
    for slot in [&state.context, &state.payload] {
        slot.visit(visit)?;
    }
    if let Some(seldom) = state.seldom.get() {
        for slot in [&seldom.name, &seldom.cancel_message, &seldom.callbacks] {
            slot.visit(visit)?;
        }
        seldom.inner.visit(visit)?;
    }
    Ok(())
}

fn clear(state: &State) {
    state.driver.set(None);
    state.coro.set(None);
    for slot in [&state.context, &state.waiter, &state.payload] {
        slot.set(None);
    }
    if let Some(seldom) = state.seldom.get() {
        seldom.cancel_message.set(None);
        seldom.callbacks.set(None);
        seldom.inner.set(None);
    }
}
