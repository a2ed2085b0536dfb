//! State that belongs to one thread: the one whose event loop runs it.
//!
//! Branches and drivers are used on their loop's thread only, so they need no locks; what makes that safe on every build,
//! the free-threaded one included, is that each access asks whether it is that thread. The question costs about a
//! nanosecond.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

thread_local! {
    /// Its address tells threads apart. (An exited thread's may be given to a new one; then nobody is left to race with.)
    static HERE: Cell<u8> = const { Cell::new(0) };
}

/// A number for this thread.
pub(crate) fn here() -> usize {
    HERE.with(|cell| std::ptr::from_ref(cell) as usize)
}

/// A value that only one thread may look at: the one that made it, or the first that does.
#[derive(Debug)]
pub(crate) struct Confined<T> {
    /// 0 until a thread has claimed it.
    owner: AtomicUsize,
    value: T,
}

// SAFETY: `get` hands the value out on one thread only. `get_for_gc` is for the garbage collector, which runs while no
// other code does: under the GIL, or with all threads stopped.
unsafe impl<T: Send> Sync for Confined<T> {}

impl<T> Confined<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { owner: AtomicUsize::new(here()), value }
    }

    /// A value for whichever thread asks first.
    pub(crate) fn unclaimed(value: T) -> Self {
        Self { owner: AtomicUsize::new(0), value }
    }

    /// The value, for the thread it belongs to.
    #[inline]
    pub(crate) fn get(&self) -> PyResult<&T> {
        let here = here();
        if self.owner.load(Ordering::Relaxed) == here || self.claim(here) {
            Ok(&self.value)
        } else {
            Err(foreign_thread())
        }
    }

    #[cold]
    fn claim(&self, here: usize) -> bool {
        self.owner.compare_exchange(0, here, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The value, for `__traverse__` and `__clear__`.
    pub(crate) fn get_for_gc(&self) -> &T {
        &self.value
    }
}

#[cold]
fn foreign_thread() -> PyErr {
    PyRuntimeError::new_err(
        "a branch or run was used on another thread than that of its event loop; \
         use loop.call_soon_threadsafe to reach it",
    )
}

/// The event loop of what is confined to its thread: set once, and then for any thread to read.
#[derive(Debug, Default)]
pub(crate) struct Home(OnceLock<Py<PyAny>>);

impl Home {
    pub(crate) fn set(&self, event_loop: Py<PyAny>) {
        let _ = self.0.set(event_loop);
    }

    /// Has the loop close `run`, for another thread: whoever lets go of a coroutine closes it, the collector too, wherever that is.
    pub(crate) fn close(&self, run: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = run.py();
        let Some(event_loop) = self.0.get() else { return Ok(()) };
        let close = run.getattr(intern!(py, "close"))?;
        match event_loop.call_method1(py, intern!(py, "call_soon_threadsafe"), (close,)) {
            // It is closed. Nothing goes on there, and what is left is let go of with the run.
            Err(error) if error.is_instance_of::<PyRuntimeError>(py) => Ok(()),
            answer => answer.map(drop),
        }
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.get() {
            Some(event_loop) => visit.call(event_loop),
            None => Ok(()),
        }
    }
}

/// A place for a Python object that can be empty. Never borrowed, so no code of the user's can meet it half-changed.
pub(crate) struct Slot<T = PyAny>(Cell<Option<Py<T>>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Cell::new(None))
    }
}

impl<T> Slot<T> {
    pub(crate) fn new(value: Py<T>) -> Self {
        Self(Cell::new(Some(value)))
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Py<T>> {
        self.0.take()
    }

    /// Fills the slot; what was in it is let go of afterwards.
    #[inline]
    pub(crate) fn set(&self, value: Option<Py<T>>) {
        drop(self.0.replace(value));
    }

    #[inline]
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, T>> {
        let value = self.0.take();
        let found = value.as_ref().map(|value| value.bind(py).clone());
        self.0.set(value);
        found
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        let value = self.0.take();
        let found = value.is_some();
        self.0.set(value);
        found
    }

    /// Shows the object to the garbage collector.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let value = self.0.take();
        let answer = visit.call(&value);
        self.0.set(value);
        answer
    }
}
