//! What came of a split, by columns: rows are made in Python when someone looks (`results.py`).

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::indices::ByIndex;

/// What is noted of every branch.
#[derive(Default)]
pub(crate) struct Row {
    /// What a success returned.
    pub(crate) value: Option<Py<PyAny>>,
    /// In seconds.
    pub(crate) duration: f64,
}

/// The columns while they are written.
#[derive(Default)]
pub(crate) struct Table {
    /// By index.
    pub(crate) rows: Vec<Row>,
    pub(crate) errors: ByIndex<Py<PyAny>>,
    /// Only of branches that needed more than one.
    pub(crate) attempts: ByIndex<u32>,
}

impl Table {
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for row in &self.rows {
            visit.call(&row.value)?;
        }
        for error in self.errors.values() {
            visit.call(error)?;
        }
        Ok(())
    }
}

/// The columns of a finished split; what `SplitResult` reads from.
#[pyclass(frozen, module = "cano._core")]
pub(crate) struct Columns {
    total: u32,
    ok_order: Vec<u32>,
    bad_order: Vec<u32>,
    /// Taken out only by the garbage collector.
    table: std::sync::Mutex<Table>,
}

impl Columns {
    pub(crate) fn new(total: u32, ok_order: Vec<u32>, bad_order: Vec<u32>, table: Table) -> Self {
        Self { total, ok_order, bad_order, table: std::sync::Mutex::new(table) }
    }

    fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[pymethods]
impl Columns {
    #[getter]
    fn total(&self) -> u32 {
        self.total
    }

    fn ok_order(&self) -> Vec<u32> {
        self.ok_order.clone()
    }

    fn bad_order(&self) -> Vec<u32> {
        self.bad_order.clone()
    }

    fn ok_count(&self) -> usize {
        self.ok_order.len()
    }

    fn bad_count(&self) -> usize {
        self.bad_order.len()
    }

    /// What a successful branch returned; `None` where results were handed over one by one.
    fn value(&self, py: Python<'_>, index: usize) -> Option<Py<PyAny>> {
        self.read(|table| table.rows.get(index).and_then(|row| row.value.as_ref().map(|value| value.clone_ref(py))))
    }

    /// What a failed branch raised last; `None` likewise.
    fn error(&self, py: Python<'_>, index: u32) -> Option<Py<PyAny>> {
        self.read(|table| table.errors.get(&index).map(|error| error.clone_ref(py)))
    }

    fn attempts(&self, index: u32) -> u32 {
        self.read(|table| table.attempts.get(&index).copied().unwrap_or(1))
    }

    fn duration(&self, index: usize) -> f64 {
        // A clock that was set back took no time from anybody.
        self.read(|table| table.rows.get(index).map_or(0.0, |row| row.duration.max(0.0)))
    }

    /// The successes' values in index order.
    fn values_in_order<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        // Of a success the value is set, of all others it is not.
        let mut values: Vec<Option<Py<PyAny>>> = self.read(|table| {
            table.rows.iter().flat_map(|row| &row.value).map(|value| Some(value.clone_ref(py))).collect()
        });
        if values.is_empty() {
            values.resize_with(self.ok_order.len(), || None); // they were handed over one by one
        }
        PyList::new(py, values)
    }

    /// The failed branches' exceptions in order of completion.
    fn errors_in_order<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let errors: Vec<Py<PyAny>> = self.read(|table| {
            self.bad_order.iter().filter_map(|index| table.errors.get(index)).map(|error| error.clone_ref(py)).collect()
        });
        PyList::new(py, errors)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.table.try_lock() {
            Ok(table) => table.visit(&visit),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let table = self.table.try_lock().map(|mut table| std::mem::take(&mut *table));
        drop(table);
    }
}
