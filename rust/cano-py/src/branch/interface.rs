//! The interface of a Task, for whatever runs inside a branch and looks at `current_task()`.

use std::sync::atomic::Ordering;

use pyo3::exceptions::asyncio::InvalidStateError;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::{Branch, Outcome, State};
use crate::current::copy_current_context;
use crate::hook::guarded;
use crate::pause::Pause;

/// `future.cancel(msg=message)`; whether it could be cancelled.
pub(super) fn cancel_future(future: &Bound<'_, PyAny>, message: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let py = future.py();
    if let Ok(pause) = future.cast_exact::<Pause>() {
        return Pause::cancel(pause, message.map(|message| message.clone().unbind()));
    }
    match message {
        None => future.call_method0(intern!(py, "cancel"))?.is_truthy(),
        Some(message) => {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "msg"), message)?;
            future.call_method(intern!(py, "cancel"), (), Some(&keywords))?.is_truthy()
        }
    }
}

/// Task's algorithm: cancel what it waits for, or have the next step raise.
pub(super) fn cancel(branch: &Bound<'_, Branch>, state: &State, message: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let py = branch.py();
    if state.is_done() {
        return Ok(false);
    }
    state.cancels.set(state.cancels.get() + 1);
    if let Some(waiter) = state.waiter.get(py)
        && cancel_future(&waiter, message)?
    {
        return Ok(true);
    }
    state.must_cancel.set(true);
    if message.is_some() || state.seldom.get().is_some() {
        state.seldom().cancel_message.set(message.map(|message| message.clone().unbind()));
    }
    Ok(true)
}

pub(super) fn schedule_callbacks(branch: &Bound<'_, Branch>, callbacks: &Bound<'_, PyAny>) -> PyResult<()> {
    for entry in callbacks.cast::<PyList>()?.iter() {
        let (callback, context): (Bound<'_, PyAny>, Bound<'_, PyAny>) = entry.extract()?;
        call_soon_in(branch, &callback, &context)?;
    }
    Ok(())
}

fn call_soon_in(branch: &Bound<'_, Branch>, callback: &Bound<'_, PyAny>, context: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = branch.py();
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "context"), context)?;
    branch.get().event_loop(py).call_method(intern!(py, "call_soon"), (callback, branch), Some(&keywords)).map(drop)
}

#[pymethods]
impl Branch {
    /// The callback on what the branch waits for.
    fn __call__(slf: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let state = slf.get().state()?;
        let driver = state.driver.get(py);
        let Some(driver) = driver else {
            return Ok(());
        };
        guarded(&driver, || {
            if !state.waits_for(py, future) {
                return Ok(());
            }
            let error = super::park::error_of(future);
            driver.get().resume(&driver, slf, error)
        })
    }

    /// What was set on the branch, else what a branch has.
    fn __getattribute__<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if let Some(attributes) = slf.get().attributes.get()
            && let Some(found) = attributes.bind(py).get_item(name)?
        {
            return Ok(found);
        }
        // SAFETY: both are alive; it gives a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyObject_GenericGetAttr(slf.as_ptr(), name.as_ptr())) }
    }

    /// Sets what a branch has that can be set; what it has not, or a method, is kept beside it, and found first from then on.
    fn __setattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        // SAFETY: all are alive; 0 says that it is done, anything else that an exception is set.
        if unsafe { ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), value.as_ptr()) } == 0 {
            return Ok(());
        }
        let error = PyErr::fetch(py);
        let own = slf.get_type().getattr(intern!(py, "__dict__"))?;
        if !error.is_instance_of::<PyAttributeError>(py)
            || (own.contains(name)? && own.get_item(name)?.hasattr(intern!(py, "__set__"))?)
        {
            return Err(error);
        }
        slf.get().attributes.get_or_init(|| PyDict::new(py).unbind()).bind(py).set_item(name, value)
    }

    /// Takes away what was set.
    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        match slf.get().attributes.get() {
            Some(attributes) if attributes.bind(py).contains(name)? => attributes.bind(py).del_item(name),
            // SAFETY: both are alive; without a value it deletes. 0 says that it is done, anything else that an exception is set.
            _ => match unsafe { ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), std::ptr::null_mut()) } {
                0 => Ok(()),
                _ => Err(PyErr::fetch(py)),
            },
        }
    }

    /// Asks the branch to stop: `CancelledError` is thrown into it at its next step.
    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        cancel(slf, slf.get().state()?, msg)
    }

    /// How many cancellations were requested and not taken back.
    fn cancelling(&self) -> PyResult<u32> {
        Ok(self.state()?.cancels.get())
    }

    /// Takes back one request for cancellation; how many remain.
    fn uncancel(&self) -> PyResult<u32> {
        let state = self.state()?;
        if state.cancels.get() > 0 {
            state.cancels.set(state.cancels.get() - 1);
            if state.cancels.get() == 0 {
                state.must_cancel.set(false);
            }
        }
        Ok(state.cancels.get())
    }

    /// Whether the attempt has ended.
    fn done(&self) -> bool {
        self.came_of_it.load(Ordering::Acquire) != super::PENDING
    }

    /// Whether the attempt ended by cancellation.
    fn cancelled(&self) -> bool {
        self.came_of_it.load(Ordering::Acquire) == super::CANCELLED
    }

    /// What the coroutine returned; or raises what it raised.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state()?;
        let payload = state.payload.get(py);
        match (state.outcome.get(), payload) {
            (Some(Outcome::Ok), Some(value)) => Ok(value),
            (Some(_), Some(error)) => Err(PyErr::from_value(error)),
            _ => Err(InvalidStateError::new_err("Result is not set.")),
        }
    }

    /// What the coroutine raised, if it did.
    fn exception<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.state()?;
        let payload = state.payload.get(py);
        match (state.outcome.get(), payload) {
            (Some(Outcome::Ok), _) => Ok(None),
            (Some(Outcome::Error), Some(error)) => Ok(Some(error)),
            (Some(Outcome::Cancelled), Some(error)) => Err(PyErr::from_value(error)),
            _ => Err(InvalidStateError::new_err("Exception is not set.")),
        }
    }

    /// Has the loop call `callback(branch)` once the attempt has ended.
    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: &Bound<'_, PyAny>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let state = slf.get().state()?;
        let context = match context {
            Some(context) if !context.is_none() => context,
            _ => copy_current_context(py)?,
        };
        if state.is_done() {
            return call_soon_in(slf, callback, &context);
        }
        let entry = (callback, context).into_pyobject(py)?;
        match state.seldom().callbacks.get(py) {
            Some(callbacks) => callbacks.cast::<PyList>()?.append(entry),
            None => {
                state.seldom().callbacks.set(Some(PyList::new(py, [entry])?.into_any().unbind()));
                Ok(())
            }
        }
    }

    /// Forgets a callback; how many were removed.
    fn remove_done_callback(slf: &Bound<'_, Self>, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = slf.py();
        let state = slf.get().state()?;
        let Some(callbacks) = state.seldom.get().and_then(|seldom| seldom.callbacks.get(py)) else {
            return Ok(0);
        };
        let kept = PyList::empty(py);
        let callbacks = callbacks.cast_into::<PyList>()?;
        for entry in callbacks.iter() {
            if !entry.get_item(0)?.eq(callback)? {
                kept.append(entry)?;
            }
        }
        let removed = callbacks.len() - kept.len();
        state.seldom().callbacks.set(Some(kept.into_any().unbind()));
        Ok(removed)
    }

    /// The loop the branch runs on.
    fn get_loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.event_loop(py).clone()
    }

    /// The user's own coroutine.
    fn get_coro<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.coro.hand_out(py))
    }

    /// The context the branch runs in.
    fn get_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.state()?.context(py)
    }

    /// The branch's name; `cano-<task>-<index>` unless it was set.
    fn get_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state()?;
        if let Some(name) = state.seldom.get().and_then(|seldom| seldom.name.get(py)) {
            return Ok(name);
        }
        let task = match state.driver.get(py) {
            Some(driver) => driver.get().task_name(py)?.to_string(),
            None => "branch".to_owned(),
        };
        let name = format!("cano-{task}-{}", state.index.get()).into_pyobject(py)?.into_any();
        state.seldom().name.set(Some(name.clone().unbind()));
        Ok(name)
    }

    /// Sets the branch's name.
    fn set_name(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.state()?.seldom().name.set(Some(value.str()?.into_any().unbind()));
        Ok(())
    }

    /// The frames of the branch's coroutine, as `asyncio.Task.get_stack` gives them.
    #[pyo3(signature = (*, limit=None))]
    fn get_stack<'py>(slf: &Bound<'py, Self>, limit: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("asyncio.base_tasks")?.getattr("_task_get_stack")?.call1((slf, limit))
    }

    /// Prints the stack of the branch's coroutine.
    #[pyo3(signature = (*, limit=None, file=None))]
    fn print_stack<'py>(
        slf: &Bound<'py, Self>,
        limit: Option<Bound<'py, PyAny>>,
        file: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("asyncio.base_tasks")?.getattr("_task_print_stack")?.call1((slf, limit, file))
    }

    #[getter]
    fn _fut_waiter<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.hand_out_waiter(py))
    }

    #[getter]
    fn _must_cancel(&self) -> PyResult<bool> {
        Ok(self.state()?.must_cancel.get())
    }

    #[getter]
    fn _exception<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.state()?;
        Ok(if state.outcome.get() == Some(Outcome::Error) { state.payload.get(py) } else { None })
    }

    #[getter]
    fn _coro<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.coro.hand_out(py))
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.event_loop(py).clone()
    }

    /// A list of (callback, context); libraries look for their own in it.
    #[getter]
    fn _callbacks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let callbacks = self.state()?.seldom.get().and_then(|seldom| seldom.callbacks.get(py));
        Ok(callbacks.unwrap_or_else(|| PyList::empty(py).into_any()))
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> PyResult<bool> {
        Ok(self.state()?.blocking.get())
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, value: bool) -> PyResult<()> {
        self.state()?.blocking.set(value);
        Ok(())
    }

    fn __await__(slf: &Bound<'_, Self>) -> BranchAwait {
        BranchAwait { branch: slf.clone().unbind() }
    }

    fn __iter__(slf: &Bound<'_, Self>) -> BranchAwait {
        BranchAwait { branch: slf.clone().unbind() }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        // Whoever prints it need not be on the loop's thread: a debugger, a logger.
        let Ok(state) = self.state() else {
            return Ok("<Branch of another thread's event loop>".to_owned());
        };
        let state = match state.outcome.get() {
            None => "pending",
            Some(Outcome::Ok) => "finished",
            Some(Outcome::Error) => "failed",
            Some(Outcome::Cancelled) => "cancelled",
        };
        Ok(format!("<Branch {} {state}>", self.get_name(py)?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.visit(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        if let Some(attributes) = self.attributes.get() {
            attributes.bind(py).clear();
        }
        super::clear(self.state.get_for_gc());
    }
}

/// What `await branch` runs, in another task.
#[pyclass(frozen, module = "cano._core")]
pub(crate) struct BranchAwait {
    branch: Py<Branch>,
}

#[pymethods]
impl BranchAwait {
    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let branch = self.branch.bind(py);
        let state = branch.get().state()?;
        if !state.is_done() {
            if state.blocking.replace(true) {
                return Err(PyRuntimeError::new_err("await wasn't used with future"));
            }
            return Ok(branch.clone().into_any());
        }
        let value = branch.get().result(py)?;
        Err(crate::errors::answer(&value))
    }

    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)
    }

    #[pyo3(signature = (*error))]
    fn throw(&self, error: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(crate::run::thrown(error)?)
    }

    #[allow(clippy::unused_self)] // the protocol's shape
    fn close(&self) {}

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.branch)
    }
}

/// Resumes a branch with an error from a callback of its own, and ends the turn.
pub(crate) fn resume_with(branch: &Bound<'_, Branch>, error: Py<PyAny>) -> PyResult<()> {
    let py = branch.py();
    let Some(driver) = branch.get().state()?.driver.get(py) else {
        return Ok(());
    };
    guarded(&driver, || driver.get().resume(&driver, branch, Some(PyErr::from_value(error.into_bound(py)))))
}
