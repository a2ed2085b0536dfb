//! A split over data whose function is sync: items are handed out to worker threads, results taken in, in batches.
//!
//! The calls themselves are made in Python (`_engine/drain.py`): a thread that runs user code must have no native frame
//! below it. Costs a tenth of a job per item.

use std::cell::Cell;

use cano_engine::{Landing, WorkQueue};
use pyo3::exceptions::PyStopIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::clock::Stopwatch;
use crate::confined::{Confined, Slot};
use crate::current::{copy_context, has_same_variables};
use crate::hook::Hook;
use crate::split::SplitDriver;

/// After this many seconds a worker lets other jobs have their turn.
const SHARE: f64 = 0.02;

/// What became of an item on its thread.
pub(crate) struct Landed {
    pub(crate) index: u32,
    /// The value, or what was raised.
    pub(crate) outcome: Result<Py<PyAny>, Py<PyAny>>,
    pub(crate) started: f64,
    pub(crate) ended: f64,
}

/// What the loop's thread and the workers share.
#[derive(Default)]
pub(crate) struct Exchange {
    pub(crate) items: WorkQueue<(u32, Py<PyAny>)>,
    pub(crate) landed: Landing<Landed>,
}

impl Exchange {
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.items.show(|(_, item)| visit.call(item))?;
        self.landed.show(|one| match &one.outcome {
            Ok(it) | Err(it) => visit.call(it),
        })
    }
}

/// One worker's way through the items, in one context.
#[pyclass(frozen, module = "cano._core")]
pub(crate) struct Cursor {
    driver: Py<SplitDriver>,
    /// What the calls run in.
    #[pyo3(get)]
    context: Py<PyAny>,
    /// Where the worker appends what a call returned; holds one value at most.
    #[pyo3(get)]
    results: Py<PyList>,
    inner: Confined<Inner>,
}

struct Inner {
    /// The item in hand, and when it was taken up.
    current: Cell<Option<(u32, f64)>>,
    failure: Slot,
    watch: Stopwatch,
    late: Cell<bool>,
    empty: Cell<bool>,
    /// The loop has to be woken with this, by the Python below (see `wake_up`).
    wake: Slot<Hook>,
}

impl Cursor {
    pub(crate) fn new(driver: &Bound<'_, SplitDriver>) -> PyResult<Self> {
        let py = driver.py();
        Ok(Self {
            context: copy_context(driver.get().snapshot(py))?.unbind(),
            results: PyList::empty(py).unbind(),
            inner: Confined::new(Inner {
                current: Cell::new(None),
                failure: Slot::default(),
                watch: driver.get().stopwatch(py)?,
                late: Cell::new(false),
                empty: Cell::new(false),
                wake: Slot::default(),
            }),
            driver: driver.clone().unbind(),
        })
    }

    /// Takes in what became of the item in hand.
    fn settle(&self, py: Python<'_>, inner: &Inner, now: f64) -> PyResult<()> {
        let Some((index, started)) = inner.current.take() else { return Ok(()) };
        let outcome = match inner.failure.take() {
            Some(error) => Err(error),
            None => match self.results.bind(py).call_method0(intern!(py, "pop")) {
                Ok(value) => Ok(value.unbind()),
                Err(_) => Err(PyStopIteration::new_err(()).into_value(py).into_any()),
            },
        };
        let driver = self.driver.bind(py);
        driver.get().exchange.landed.push(Landed { index, outcome, started, ended: now });
        if let Some(hook) = driver.get().wake_up(driver)? {
            inner.wake.set(Some(hook));
        }
        Ok(())
    }

    /// Takes in the last item's result and hands out the next item.
    fn advance(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        crate::fail::point();
        let inner = self.inner.get()?;
        // A clock that raises here must not keep what the item in hand has come to.
        let now = inner.watch.now(self.driver.get().clock(), py).unwrap_or(inner.watch.started());
        let first = inner.current.take();
        let had_one = first.is_some();
        inner.current.set(first);
        self.settle(py, inner, now)?;
        if inner.wake.is_set() || (had_one && self.is_context_used(py)) {
            return Ok(None);
        }
        if now - inner.watch.started() > SHARE {
            inner.late.set(true);
            return Ok(None);
        }
        let next = self.driver.get().exchange.items.next();
        match next {
            Some((index, item)) => {
                inner.current.set(Some((index, now)));
                Ok(Some(item))
            }
            None => {
                inner.empty.set(true);
                Ok(None)
            }
        }
    }

    /// Whether a call has left something in the context, which the next branch must not see.
    fn is_context_used(&self, py: Python<'_>) -> bool {
        !has_same_variables(self.context.bind(py), self.driver.get().snapshot(py))
    }
}

#[pymethods]
impl Cursor {
    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        crate::hook::caught(py, || self.advance(py))
    }

    /// The call raised.
    fn failed(&self, error: Py<PyAny>) -> PyResult<()> {
        self.inner.get()?.failure.set(Some(error));
        Ok(())
    }

    /// What the loop is to be woken with, if it is.
    #[getter]
    fn wake(&self) -> PyResult<Option<Py<Hook>>> {
        Ok(self.inner.get()?.wake.take())
    }

    /// Whether no item was left.
    #[getter]
    fn is_empty(&self) -> PyResult<bool> {
        Ok(self.inner.get()?.empty.get())
    }

    /// Whether the worker's share of time is over.
    #[getter]
    fn is_late(&self) -> PyResult<bool> {
        Ok(self.inner.get()?.late.get())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.driver)?;
        visit.call(&self.context)?;
        visit.call(&self.results)?;
        self.inner.get_for_gc().failure.visit(&visit)?;
        self.inner.get_for_gc().wake.visit(&visit)
    }
}
