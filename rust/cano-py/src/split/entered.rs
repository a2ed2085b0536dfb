//! What the start loop has entered: a branch that is current, and a context. They are used again as long as nobody
//! can have noticed: entering and leaving costs more than a branch that returns at once
//! (docs/design/branches-in-place.md).

use pyo3::ffi;
use pyo3::prelude::*;

use super::{SplitDriver, State};
use crate::branch::Branch;
use crate::current::{copy_context, enter_context, exit_context, swap_current_task};

pub(super) struct Entered<'a, 'py> {
    driver: &'a Bound<'py, SplitDriver>,
    state: &'a State,
    inside: Option<Inside<'py>>,
}

struct Inside<'py> {
    branch: Bound<'py, Branch>,
    context: Bound<'py, PyAny>,
    /// The task that was current before.
    previous: Bound<'py, PyAny>,
    /// How many references the branch and the context have while nobody else knows them.
    branch_references: isize,
    context_references: isize,
}

fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the object is alive.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// Whether two contexts hold the same variables: as long as nobody set one, both are the very same map.
fn has_same_variables(context: &Bound<'_, PyAny>, snapshot: &Py<PyAny>) -> bool {
    // SAFETY: attached, both objects are alive; -1 is an error, which is cleared.
    match unsafe { ffi::PyObject_RichCompareBool(context.as_ptr(), snapshot.as_ptr(), ffi::Py_EQ) } {
        -1 => {
            drop(PyErr::take(context.py()));
            false
        }
        answer => answer == 1,
    }
}

/// Whether any weak reference to a branch exists.
fn has_weak_references(branch: &Bound<'_, Branch>) -> bool {
    let object = branch.as_ptr();
    // SAFETY: the object is alive; its type was made with `weakref`, so the offset, if positive, is that of a pointer
    // inside the object which holds the list of weak references, null without any.
    unsafe {
        let offset = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        if offset <= 0 {
            return true;
        }
        #[allow(clippy::cast_ptr_alignment)] // the interpreter aligns it
        let list = object.cast::<u8>().offset(offset).cast::<*mut ffi::PyObject>();
        !(*list).is_null()
    }
}

impl<'a, 'py> Entered<'a, 'py> {
    pub(super) fn new(driver: &'a Bound<'py, SplitDriver>, state: &'a State) -> Self {
        Self { driver, state, inside: None }
    }

    /// A branch that is current and in its own context.
    pub(super) fn enter(&mut self) -> PyResult<Bound<'py, Branch>> {
        if let Some(inside) = &self.inside {
            return Ok(inside.branch.clone());
        }
        let py = self.driver.py();
        let event_loop = self.driver.get().event_loop.bind(py);
        let context = copy_context(self.state.snapshot.bind(py))?;
        let branch = Bound::new(py, Branch::new(self.driver, event_loop, &context))?;
        let previous = swap_current_task(event_loop, branch.as_any())?;
        if let Err(error) = enter_context(&context) {
            swap_current_task(event_loop, &previous)?;
            return Err(error);
        }
        let branch_references = references(branch.as_any()) + 1; // the one handed out here
        let context_references = references(&context);
        self.inside = Some(Inside { branch: branch.clone(), context, previous, branch_references, context_references });
        Ok(branch)
    }

    /// Whether a branch that returned in its first step left no trace of itself, so that the next may be it.
    pub(super) fn is_unshared(&self, branch: &Bound<'py, Branch>) -> bool {
        let Some(inside) = &self.inside else { return false };
        let untouched = branch.get().state().is_ok_and(crate::branch::State::is_untouched);
        untouched
            && references(branch.as_any()) == inside.branch_references
            && !has_weak_references(branch)
            && references(&inside.context) == inside.context_references
            && has_same_variables(&inside.context, &self.state.snapshot)
    }

    /// Leaves, and restores the task that was current before; whatever happened.
    pub(super) fn leave(&mut self) -> PyResult<()> {
        let Some(inside) = self.inside.take() else { return Ok(()) };
        let py = self.driver.py();
        let exited = exit_context(&inside.context);
        let swapped = swap_current_task(self.driver.get().event_loop.bind(py), &inside.previous);
        exited.and(swapped.map(drop))
    }
}

impl Drop for Entered<'_, '_> {
    /// A panic on its way out: a current task that is not restored would poison the loop.
    fn drop(&mut self) {
        let _ = self.leave();
    }
}
