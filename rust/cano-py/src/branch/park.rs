//! What a branch waits for: Task's rules for futures, and two ways of our own that touch no loop.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyTuple};

use super::{Branch, State};
use crate::hook::Hook;
use crate::once::Once;
use crate::pause::Pause;

/// Waits for what the coroutine yielded.
pub(super) fn park(branch: &Bound<'_, Branch>, state: &State, yielded: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = branch.py();
    if yielded.is_none() {
        if let Some(driver) = state.driver.get(py) {
            driver.get().batch_branch(state.key.get())?;
        }
        return Ok(());
    }
    if let Ok(pause) = yielded.cast_exact::<Pause>() {
        return crate::pause::park(pause, state);
    }
    let blocking = match yielded.getattr_opt(intern!(py, "_asyncio_future_blocking")) {
        Ok(blocking) => blocking.filter(|blocking| !blocking.is_none()),
        Err(error) => return raised(branch, error),
    };
    let problem = match blocking {
        None => format!("Task got bad yield: {}", repr(yielded)),
        Some(blocking) => match wait_for(branch, state, yielded, &blocking) {
            Ok(None) => return Ok(()),
            Ok(Some(problem)) => problem,
            Err(error) => return raised(branch, error),
        },
    };
    later(branch, PyRuntimeError::new_err(problem))
}

/// What looks like a future has raised. An interrupt leaves through the loop; what waits is looked after when the run is cancelled
/// for it.
fn raised(branch: &Bound<'_, Branch>, error: PyErr) -> PyResult<()> {
    if super::is_fatal(branch.py(), &error) { Err(error) } else { later(branch, error) }
}

/// Waits for a future; the answer is what is wrong with it, if something is.
fn wait_for(
    branch: &Bound<'_, Branch>,
    state: &State,
    future: &Bound<'_, PyAny>,
    blocking: &Bound<'_, PyAny>,
) -> PyResult<Option<String>> {
    let py = branch.py();
    let its_loop = match future.getattr_opt(intern!(py, "get_loop"))? {
        Some(get_loop) => get_loop.call0()?,
        None => future.getattr(intern!(py, "_loop"))?,
    };
    if !its_loop.is(branch.get().event_loop(py)) {
        return Ok(Some(format!(
            "Task {} got Future {} attached to a different loop",
            repr(branch.as_any()),
            repr(future)
        )));
    }
    if !blocking.is_truthy()? {
        return Ok(Some(format!(
            "yield was used instead of yield from in task {} with {}",
            repr(branch.as_any()),
            repr(future)
        )));
    }
    if future.is(branch) {
        return Ok(Some(format!("Task cannot await on itself: {}", repr(branch.as_any()))));
    }
    future.setattr(intern!(py, "_asyncio_future_blocking"), PyBool::new(py, false))?;
    let Some(driver) = state.driver.get(py) else {
        return Ok(None);
    };
    // Before the future hears of it: one may call back at once, and then the branch goes on in there.
    state.waiter.set(Some(future.clone().unbind()));
    let added = match driver.get().wait_together(&driver, state.key.get(), future) {
        // In the snapshot, not in the branch's context: that is entered in the step.
        Ok(false) => add_done_callback(future, branch.as_any(), driver.get().snapshot(py)),
        together => together.map(drop),
    };
    let waits = state.waiter.get(py).is_some_and(|waiter| waiter.is(future));
    if let Err(error) = added {
        if waits {
            state.waiter.set(None);
        }
        return Err(error);
    }
    if waits && state.must_cancel.get() {
        let message = state.seldom.get().and_then(|seldom| seldom.cancel_message.get(py));
        if super::interface::cancel_future(future, message.as_ref())? {
            state.must_cancel.set(false);
        }
    }
    Ok(None)
}

/// `future.add_done_callback(callback, context=context)` without building a dict for the keyword.
pub(crate) fn add_done_callback(
    future: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
) -> PyResult<()> {
    static KEYWORDS: Once<Py<PyTuple>> = Once::new();
    let py = future.py();
    let keywords =
        KEYWORDS.get_or_try_init(py, || PyTuple::new(py, [intern!(py, "context")]).map(Bound::unbind))?.bind(py);
    let arguments = [future.as_ptr(), callback.as_ptr(), context.as_ptr()];
    // SAFETY: attached; `arguments` holds two positional arguments and one for each name in `keywords`, all borrowed
    // for the call; the answer is a new reference or null with an error set.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyObject_VectorcallMethod(
                intern!(py, "add_done_callback").as_ptr(),
                arguments.as_ptr(),
                2,
                keywords.as_ptr(),
            ),
        )
    }
    .map(drop)
}

/// What a future that is done makes whoever awaits it raise.
pub(crate) fn error_of(future: &Bound<'_, PyAny>) -> Option<PyErr> {
    future.call_method0(intern!(future.py(), "result")).err()
}

/// Whether an object is a future of asyncio's and of no class derived from it: asking it runs no code of others.
pub(crate) fn is_plain(future: &Bound<'_, PyAny>) -> bool {
    static CLASS: Once<Py<PyAny>> = Once::new();
    let py = future.py();
    let class = CLASS.get_or_try_init(py, || py.import("_asyncio")?.getattr("Future").map(Bound::unbind));
    class.is_ok_and(|class| future.get_type().is(class))
}

/// Throws an error into the branch in the loop's next turn.
pub(crate) fn later(branch: &Bound<'_, Branch>, error: PyErr) -> PyResult<()> {
    let py = branch.py();
    let event_loop = branch.get().event_loop(py);
    let hook = Hook::throw(py, branch, error.into_value(py))?;
    crate::current::call_soon(event_loop, hook.as_any())
}

fn repr(object: &Bound<'_, PyAny>) -> String {
    object.repr().map_or_else(|_| "<an object whose repr() raises>".to_owned(), |text| text.to_string())
}
