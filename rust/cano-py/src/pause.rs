//! `cano.sleep`: inside a branch it parks in the split's timers, elsewhere it is `asyncio.sleep`.

use std::cell::Cell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::branch::{Branch, State};
use crate::confined::{Confined, Slot};
use crate::current::current_task;
use crate::hook::Hook;
use crate::once::Once;
use crate::split::{Key, SplitDriver};
use crate::timers::{Due, TimerId};

/// A sleep; awaited once, in whichever thread. It can be run like the coroutine that `asyncio.sleep` gives, too: by a task of its own.
#[pyclass(frozen, module = "cano._core")]
pub(crate) struct Pause {
    #[pyo3(get)]
    delay: f64,
    result: Py<PyAny>,
    inner: Confined<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Whether `__await__` was called, or what steps it is a branch. If not, it is run like a coroutine.
    awaited: Cell<bool>,
    yielded: Cell<bool>,
    /// What a task that runs it steps.
    alone: Slot,
    /// Such a task has run it to its end.
    over: Cell<bool>,
    timer: Cell<TimerId>,
    /// The branch that waits: of which split, and its key there.
    driver: Slot<SplitDriver>,
    branch: Cell<Key>,
}

impl Inner {
    /// Whoever runs it has come to its end, if it has.
    fn has_ended(&self, ended: bool) {
        if ended {
            self.alone.set(None);
            self.over.set(true);
        }
    }

    /// Nobody waits any more.
    fn end(&self) {
        self.timer.set(0);
        self.driver.set(None);
    }
}

#[pymethods]
impl Pause {
    #[new]
    fn new(delay: f64, result: Py<PyAny>) -> Self {
        Self { delay, result, inner: Confined::unclaimed(Inner::default()) }
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.delay <= 0.0 || current_task(py)?.cast_exact::<Branch>().is_ok() {
            let inner = this.inner.get()?;
            if inner.driver.is_set() {
                // Another branch waits for this very one: as long again, but each for itself.
                let another = Bound::new(py, Self::new(this.delay, this.result.clone_ref(py)))?;
                another.get().inner.get()?.awaited.set(true);
                return Ok(another.into_any());
            }
            inner.awaited.set(true);
            inner.yielded.set(false);
            inner.over.set(false);
            return Ok(slf.clone().into_any());
        }
        // A task of asyncio's, or a branch of the pure engine.
        static PURE: Once<Py<PyAny>> = Once::new();
        let pause = PURE
            .get_or_try_init(py, || py.import("cano._engine.pure.branch")?.getattr("Pause").map(Bound::unbind))?
            .bind(py)
            .call1((this.delay, &this.result))?;
        pause.call_method0(intern!(py, "__await__"))
    }

    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let inner = this.inner.get()?;
        // A branch that waits for it may have company: somebody who runs it in a task of its own.
        let begins = !inner.awaited.get();
        if begins
            || ((inner.driver.is_set() || inner.alone.is_set() || inner.over.get())
                && current_task(py)?.cast_exact::<Branch>().is_err())
        {
            if inner.over.get() {
                return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
            }
            let alone = match inner.alone.get(py) {
                Some(alone) => alone,
                None => Self::__await__(slf)?,
            };
            if !alone.is(slf) {
                inner.alone.set(Some(alone.clone().unbind()));
                let answer = alone.call_method0(intern!(py, "__next__"));
                inner.has_ended(answer.is_err());
                return answer;
            }
        }
        if inner.yielded.replace(true) {
            inner.over.set(this.delay <= 0.0);
            return Err(crate::errors::answer(this.result.bind(py)));
        }
        Ok(if this.delay <= 0.0 { py.None().into_bound(py) } else { slf.clone().into_any() })
    }

    fn send<'py>(slf: &Bound<'py, Self>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::__next__(slf)
    }

    #[pyo3(signature = (*error))]
    fn throw<'py>(&self, py: Python<'py>, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let alone = self.inner.get().ok().and_then(|inner| Some((inner, inner.alone.get(py)?)));
        let Some((inner, alone)) = alone else { return Err(crate::run::thrown(error)?) };
        let answer = alone.call_method1(intern!(py, "throw"), error);
        inner.has_ended(answer.is_err());
        answer
    }

    /// By whoever lets go of it, on whichever thread: what parks it looks after itself.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.inner.get().ok().and_then(|inner| inner.alone.take()) {
            Some(alone) => alone.bind(py).call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    /// What asks a coroutine whether it has begun (`inspect.getcoroutinestate`, and anyio by it) asks for these.
    #[getter]
    fn cr_suspended(&self) -> bool {
        self.inner.get().is_ok_and(|inner| inner.alone.is_set() || (inner.yielded.get() && !inner.over.get()))
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn cr_running(&self) -> bool {
        false
    }

    /// It has no frame of its own.
    #[getter]
    #[allow(clippy::unused_self)]
    fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn __name__(&self) -> &'static str {
        "cano.sleep"
    }

    /// Wakes the branch with `CancelledError` in the next turn of the loop, as a cancelled future would.
    #[pyo3(signature = (msg=None))]
    pub(crate) fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let inner = slf.get().inner.get()?;
        let Some(driver) = inner.driver.take() else {
            return Ok(false);
        };
        let driver = driver.bind(py).get();
        let Some(branch) = driver.suspended(py, inner.branch.get())? else {
            return Ok(false);
        };
        let timer = inner.timer.replace(0);
        if timer != 0 {
            driver.cancel_timer(py, timer)?;
        }
        let error = match msg {
            None => CancelledError::new_err(()),
            Some(message) => CancelledError::new_err((message,)),
        };
        let hook = Hook::throw(py, &branch, error.into_value(py))?;
        crate::current::call_soon(driver.event_loop_of(py), hook.as_any())?;
        Ok(true)
    }

    /// Whether the pause is over (asked by libraries that look at what a task waits for).
    fn done(&self) -> PyResult<bool> {
        Ok(!self.inner.get()?.driver.is_set())
    }

    fn __repr__(&self) -> String {
        format!("<cano.sleep({})>", self.delay)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.result)?;
        self.inner.get_for_gc().alone.visit(&visit)?;
        self.inner.get_for_gc().driver.visit(&visit)
    }

    fn __clear__(&self) {
        self.inner.get_for_gc().alone.set(None);
        self.inner.get_for_gc().driver.set(None);
    }
}

/// Has a branch resumed by its split's timers.
pub(crate) fn park(pause: &Bound<'_, Pause>, state: &State) -> PyResult<()> {
    let py = pause.py();
    let inner = pause.get().inner.get()?;
    let Some(driver) = state.driver.get(py) else { return Ok(()) };
    inner.driver.set(Some(driver.clone().unbind()));
    inner.branch.set(state.key.get());
    state.set_waiter(pause.as_any());
    if state.take_must_cancel() {
        let message = state.take_cancel_message();
        return Pause::cancel(pause, message).map(drop);
    }
    // One that holds something of the user's is left to the collector.
    if pause.get().result.is_none(py) {
        state.hide_waiter(pause.as_any());
    }
    let when = driver.get().now_in_turn(py)? + pause.get().delay;
    inner.timer.set(driver.get().add_timer(&driver, when, Due::Pause(state.key.get()))?);
    Ok(())
}

/// The pause that a branch waits for is over.
pub(crate) fn end(state: &State, py: Python<'_>) -> PyResult<()> {
    if let Some(waiter) = state.waiter(py)
        && let Ok(pause) = waiter.cast_exact::<Pause>()
    {
        pause.get().inner.get()?.end();
    }
    Ok(())
}
