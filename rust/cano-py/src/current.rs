//! Which task is current, and in which context code runs: the interpreter's own calls, and Python's for tasks of
//! third parties (*Extending asyncio*).

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::once::Once;

enum Swap {
    /// `asyncio.tasks._swap_current_task`, from 3.12 on.
    Function(Py<PyAny>),
    /// The dict of 3.11.
    Table(Py<PyDict>),
}

static SWAP: Once<Swap> = Once::new();

fn find(py: Python<'_>) -> PyResult<Swap> {
    let tasks = py.import("asyncio.tasks")?;
    if let Some(function) = tasks.getattr_opt("_swap_current_task")? {
        return Ok(Swap::Function(function.unbind()));
    }
    Ok(Swap::Table(tasks.getattr("_current_tasks")?.cast_into::<PyDict>()?.unbind()))
}

/// Makes `task` the loop's current task (`None`: there is none) and returns the one before it.
pub(crate) fn swap_current_task<'py>(
    event_loop: &Bound<'py, PyAny>,
    task: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    match SWAP.get_or_try_init(py, || find(py))? {
        Swap::Function(function) => function.bind(py).call1((event_loop, task)),
        Swap::Table(table) => {
            let table = table.bind(py);
            let previous = table.get_item(event_loop)?.unwrap_or_else(|| py.None().into_bound(py));
            if task.is_none() {
                if !previous.is_none() {
                    table.del_item(event_loop)?;
                }
            } else {
                table.set_item(event_loop, task)?;
            }
            Ok(previous)
        }
    }
}

/// The loop's current task, or `None`. Asked without running code of Python's, where a signal could come in and be lost.
pub(crate) fn task_of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    match SWAP.get_or_try_init(py, || find(py))? {
        Swap::Table(table) => Ok(table.bind(py).get_item(event_loop)?.unwrap_or_else(|| py.None().into_bound(py))),
        // Native code itself, from 3.12 on.
        Swap::Function(_) => current_task(py),
    }
}

/// Makes `task` the loop's current task; who wants to know the one before asks `swap_current_task`.
pub(crate) fn set_current_task(event_loop: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    match SWAP.get_or_try_init(py, || find(py))? {
        Swap::Table(table) if !task.is_none() => table.bind(py).set_item(event_loop, task),
        _ => swap_current_task(event_loop, task).map(drop),
    }
}

/// Whether the interpreter is being taken apart. Loops run no more then, and an error cannot even be made: PyO3 detaches and
/// attaches for that, and attaching panics.
pub(crate) fn is_finalizing(_py: Python<'_>) -> bool {
    // SAFETY: both may be called at any time.
    unsafe {
        #[cfg(Py_3_13)]
        if ffi::Py_IsFinalizing() != 0 {
            return true;
        }
        ffi::Py_IsInitialized() == 0
    }
}

static CURRENT: Once<Py<PyAny>> = Once::new();

/// The task that runs now, or `None`.
pub(crate) fn current_task(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    CURRENT
        .get_or_try_init(py, || py.import("asyncio.tasks")?.getattr("current_task").map(Bound::unbind))?
        .bind(py)
        .call0()
}

/// A new context with the variables of the one that is entered.
pub(crate) fn copy_current_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: called with the interpreter attached; the answer is a new reference or an error is set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// A new context with the variables of `context`, which must be one.
pub(crate) fn copy_context<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as above; the callee checks the type of its argument.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())) }
}

/// Where in a context object its map of variables is; `None` where that cannot be made out.
static VARIABLES: Once<Option<usize>> = Once::new();

/// The map of a context's variables. It is immutable: setting a variable puts another one in its place (PEP 567).
fn variables(context: &Bound<'_, PyAny>, offset: usize) -> *const ffi::PyObject {
    // SAFETY: `context` is a context, alive, and `find_variables` has made sure that there is such a pointer in it.
    unsafe { *context.as_ptr().byte_add(offset).cast::<*const ffi::PyObject>() }
}

/// Finds the map: the second field of a context behind the object's head, on all versions so far. No API says so, hence it is
/// tried out: copies share it, and setting a variable replaces it.
fn find_variables(py: Python<'_>) -> PyResult<Option<usize>> {
    let offset = size_of::<ffi::PyObject>() + size_of::<usize>();
    let context = copy_current_context(py)?;
    let size: usize = context.get_type().getattr("__basicsize__")?.extract()?;
    if size < offset + size_of::<usize>() {
        return Ok(None);
    }
    let (copied, changed) = (copy_context(&context)?, copy_context(&context)?);
    let variable = py.import("contextvars")?.getattr("ContextVar")?.call1(("cano",))?;
    changed.call_method1("run", (variable.getattr("set")?, py.None()))?;
    let map = variables(&context, offset);
    let is_it = !map.is_null() && variables(&copied, offset) == map && variables(&changed, offset) != map;
    Ok(is_it.then_some(offset))
}

/// Whether nobody has set a variable in one of two contexts since it was copied from the other. Not by comparing values:
/// a variable that was set to an equal value was set.
#[inline]
pub(crate) fn has_same_variables(context: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> bool {
    let py = context.py();
    let offset = VARIABLES.get_or_init(py, || find_variables(py).unwrap_or(None));
    offset.is_some_and(|offset| variables(context, offset) == variables(other, offset))
}

/// Enters a context; `exit_context` must follow.
pub(crate) fn enter_context(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached; the callee checks its argument and sets an error when the context is entered already.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0 { Ok(()) } else { Err(PyErr::fetch(context.py())) }
}

/// Leaves a context.
pub(crate) fn exit_context(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: as above.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } == 0 { Ok(()) } else { Err(PyErr::fetch(context.py())) }
}

/// The exception that the code that calls us is handling; branches started in its stack would see it.
pub(crate) fn handled_exception(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY: attached; a new reference or null, null meaning that none is handled.
    let handled = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyErr_GetHandledException()) };
    handled.filter(|error| !error.is_none())
}

/// The running loop of this thread; an error with what to do when there is none.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: Once<Py<PyAny>> = Once::new();
    GET.get_or_try_init(py, || py.import("asyncio.events")?.getattr("get_running_loop").map(Bound::unbind))?
        .bind(py)
        .call0()
        .map_err(|error| {
            if error.is_instance_of::<PyRuntimeError>(py) {
                PyRuntimeError::new_err("no running event loop: await this in a coroutine, or call Workflow.run()")
            } else {
                error
            }
        })
}

/// `loop.call_soon(callback)`.
pub(crate) fn call_soon(event_loop: &Bound<'_, PyAny>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    crate::fail::crossing();
    let answer = event_loop.call_method1(intern!(event_loop.py(), "call_soon"), (callback,)).map(drop);
    crate::fail::crossing();
    answer
}
