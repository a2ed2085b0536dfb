//! What Python's garbage collector gets to see of suspended branches.
//!
//! A suspended branch is two objects that only the split holds: a `Branch` and its coroutine. The collector would walk them in
//! every young generation, once and again in each older one, and for branches that give the loop a turn that was a quarter of
//! all they cost. So they are not tracked while nobody else has a reference to them, and the split shows the collector what
//! *they* hold, as if it were its own: whatever is reachable through them is counted as before, and an abandoned run is garbage
//! as before. Three rules keep that sound:
//!
//! - an untracked object is looked into only while the one reference to it is its owner's. Whoever else has one keeps what it
//!   holds alive: references that the collector is not shown count as coming from outside;
//! - what is handed out, or registered anywhere, is tracked from then on;
//! - a coroutine is tracked again before it is let go of: its own deallocation relies on it.
//!
//! Before the collector takes garbage apart it closes the coroutines in it, whose clean-up finds everything whole. Those that
//! it does not see the split closes, in a finaliser of its own (`finalize`).
//!
//! On a free-threaded build everything stays tracked: its collector has no young generation to save.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use pyo3::Borrowed;
use pyo3::PyTypeInfo;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::branch::Branch;
use crate::confined::Slot;
use crate::split::SplitDriver;

const MAY_HIDE: bool = !cfg!(Py_GIL_DISABLED);

/// How many references an object has.
#[inline]
pub(crate) fn references(object: *mut ffi::PyObject) -> isize {
    // SAFETY: callers pass an object that is alive.
    unsafe { ffi::Py_REFCNT(object) }
}

/// Whether any weak reference to an object exists.
#[inline]
pub(crate) fn has_weak_references(object: *mut ffi::PyObject) -> bool {
    // SAFETY: callers pass an object that is alive; the offset in its type, if positive, is that of a pointer inside the object
    // which holds the list of weak references, null without any.
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

fn is_tracked(object: *mut ffi::PyObject) -> bool {
    // SAFETY: callers pass an object that is alive and of a type that takes part in collection.
    unsafe { ffi::PyObject_GC_IsTracked(object) != 0 }
}

/// Has the collector ignore an object of a class of ours (`Branch`, `Pause`), which its owner shows it instead.
#[inline]
pub(crate) fn hide<T>(object: &Bound<'_, T>) {
    if MAY_HIDE {
        // SAFETY: alive, and of a class with `__traverse__`; untracking what is not tracked does nothing. PyO3's deallocator
        // of such classes untracks in the same way, so an object that is not tracked may be let go of as it is.
        unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
    }
}

/// Has the collector see such an object itself.
#[inline]
pub(crate) fn show<T>(object: &Bound<'_, T>) {
    if MAY_HIDE && !is_tracked(object.as_ptr()) {
        // SAFETY: alive, fully made, and not tracked.
        unsafe { ffi::PyObject_GC_Track(object.as_ptr().cast()) };
    }
}

/// Shows the collector what a branch waits for in its slot: itself, or, of a pause that is hidden, what it holds. Of a hidden pause
/// nobody knows but the branch and the frame that awaits it.
pub(crate) fn visit_waiter(waiter: &Slot, hidden: bool, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    if !hidden {
        return waiter.visit(visit);
    }
    let object = waiter.take();
    let answer = match &object {
        Some(pause) if is_tracked(pause.as_ptr()) => visit.call(pause),
        // The frame lets go of it when the coroutine is closed.
        Some(pause) if references(pause.as_ptr()) <= 2 => look_into(pause, visit),
        _ => Ok(()),
    };
    waiter.set(object);
    answer
}

/// Shows the collector a branch that may be hidden: itself, or what it holds.
pub(crate) fn visit_branch(branch: &Py<Branch>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    if is_tracked(branch.as_ptr()) {
        visit.call(branch)
    } else if references(branch.as_ptr()) == 1 {
        branch.get().visit(visit)
    } else {
        Ok(())
    }
}

/// A place for the coroutine of a branch.
#[derive(Default)]
pub(crate) struct Coroutine {
    object: Cell<Option<Py<PyAny>>>,
    hidden: Cell<bool>,
}

impl Coroutine {
    /// The coroutine, to be stepped.
    #[inline]
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let object = self.object.take();
        let found = object.as_ref().map(|object| object.bind(py).clone());
        self.object.set(object);
        found
    }

    /// The coroutine, for somebody else.
    pub(crate) fn hand_out<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.show();
        self.get(py)
    }

    /// Puts another one in; what was there is let go of.
    #[inline]
    pub(crate) fn set(&self, coroutine: Option<Py<PyAny>>) {
        if self.hidden.get() {
            self.show();
        }
        drop(self.object.replace(coroutine));
    }

    /// Has the collector ignore the coroutine, if nobody but the branch has it.
    #[inline]
    pub(crate) fn hide(&self) {
        let object = self.object.take();
        if MAY_HIDE
            && !self.hidden.get()
            && let Some(object) = &object
            && references(object.as_ptr()) == 1
            && is_coroutine(object.as_ptr())
            && !has_weak_references(object.as_ptr())
        {
            // SAFETY: alive, and a coroutine, whose type takes part in collection.
            unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
            self.hidden.set(true);
        }
        self.object.set(object);
    }

    /// The coroutine, if the collector did not see it and nobody else has it; from now on it does.
    fn uncover<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if !self.hidden.get() {
            return None;
        }
        let coroutine = self.hand_out(py)?;
        // One is the branch's, one this function's: whoever has another, by a weak reference say, may still need it.
        (references(coroutine.as_ptr()) == 2).then_some(coroutine)
    }

    fn show(&self) {
        let object = self.object.take();
        if let Some(object) = &object
            && self.hidden.replace(false)
            && !is_tracked(object.as_ptr())
        {
            // SAFETY: alive, fully made, and not tracked.
            unsafe { ffi::PyObject_GC_Track(object.as_ptr().cast()) };
        }
        self.object.set(object);
    }

    /// Shows the coroutine to the collector, or what it holds.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let object = self.object.take();
        let answer = match &object {
            Some(object) if self.hidden.get() && references(object.as_ptr()) == 1 => look_into(object, visit),
            Some(_) if self.hidden.get() => Ok(()),
            _ => visit.call(&object),
        };
        self.object.set(object);
        answer
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        if self.hidden.get() {
            self.show();
        }
        crate::fail::dropped();
    }
}

/// Gives the class of splits its finaliser. (PyO3 has no way to write one.)
pub(crate) fn install_finalizer(py: Python<'_>) {
    if MAY_HIDE {
        // SAFETY: a class of ours, fully made, of which there are no instances yet.
        unsafe { (*SplitDriver::type_object_raw(py)).tp_finalize = Some(finalize) };
    }
}

/// Closes the hidden coroutines of a split that is garbage.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: the collector calls it, on a thread that is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: this is the finaliser of that class alone, which cannot be inherited from.
    let driver = unsafe { Borrowed::from_ptr(py, object).cast_unchecked::<SplitDriver>() };
    close_hidden(py, driver.get());
}

/// Closes the coroutines of a split that the collector does not see, and would therefore not close itself.
pub(crate) fn close_hidden(py: Python<'_>, driver: &SplitDriver) {
    for coroutine in driver.of_suspended(|branch| branch.coroutine_for_gc().uncover(py)) {
        // SAFETY: alive. The finaliser of coroutines, which reports what it cannot raise, is called once in their life.
        unsafe { ffi::PyObject_CallFinalizer(coroutine.as_ptr()) };
    }
}

/// Whether an object is a coroutine and nothing else.
#[inline]
fn is_coroutine(object: *mut ffi::PyObject) -> bool {
    // SAFETY: callers pass an object that is alive; the type of coroutines is a static object of the interpreter.
    unsafe { ffi::Py_TYPE(object) == &raw mut ffi::PyCoro_Type }
}

/// Shows the collector what an object holds, in place of the object.
fn look_into(object: &Py<PyAny>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    struct Looking<'a, 'b> {
        visit: &'a PyVisit<'b>,
        answer: Result<(), PyTraverseError>,
    }

    unsafe extern "C" fn each(found: *mut ffi::PyObject, looking: *mut c_void) -> c_int {
        // SAFETY: what `look_into` passes below, which outlives the call.
        let looking = unsafe { &mut *looking.cast::<Looking<'_, '_>>() };
        // SAFETY: `found` is alive, and `Py` is a transparent pointer to an object; it is borrowed and never dropped.
        let found = unsafe { &*(&raw const found).cast::<Py<PyAny>>() };
        looking.answer = looking.visit.call(found);
        c_int::from(looking.answer.is_err())
    }

    let mut looking = Looking { visit, answer: Ok(()) };
    // SAFETY: the object is alive and its type has a traverse function, which calls `each` with live objects and `looking`.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object.as_ptr())).tp_traverse {
            traverse(object.as_ptr(), each, (&raw mut looking).cast());
        }
    }
    looking.answer
}
