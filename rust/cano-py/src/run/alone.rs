//! A split awaited on its own, without a run around it.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::thrown;
use crate::confined::{Confined, Home, Slot};
use crate::current::is_finalizing;
use crate::spec::SplitSpec;
use crate::split::events::Wants;
use crate::split::{Poll, SplitDriver};

/// A split awaited on its own (`fan_out`).
#[pyclass(frozen, weakref, module = "cano._core")]
pub(crate) struct SplitRun {
    spec: Py<SplitSpec>,
    outbox: Option<Py<PyAny>>,
    /// Belongs to the thread that awaits first; one that comes second is refused before it can look.
    driver: Confined<Slot<SplitDriver>>,
    home: Home,
}

impl SplitRun {
    fn poll<'py>(&self, py: Python<'py>, error: Option<PyErr>) -> PyResult<Bound<'py, PyAny>> {
        let slot = self.driver.get()?;
        let driver = match slot.get(py) {
            Some(driver) => driver,
            None => {
                if let Some(error) = error {
                    return Err(error);
                }
                let outbox = self.outbox.as_ref().map(|outbox| outbox.clone_ref(py));
                let driver = Bound::new(
                    py,
                    SplitDriver::new(py, self.spec.clone_ref(py), py.None(), None, Wants::default(), outbox)?,
                )?;
                self.home.set(driver.get().event_loop_of(py).clone().unbind());
                slot.set(Some(driver.clone().unbind()));
                driver
            }
        };
        match driver.get().poll(&driver, error).map_err(|error| crate::errors::leaving(py, error))? {
            Poll::Pending(future) => Ok(future),
            Poll::Ready(result) => Err(crate::errors::answer(&result)),
        }
    }
}

#[pymethods]
impl SplitRun {
    #[new]
    #[pyo3(signature = (plan, outbox=None))]
    fn new(plan: &Bound<'_, PyAny>, outbox: Option<Py<PyAny>>) -> PyResult<Self> {
        let spec = Py::new(plan.py(), SplitSpec::read(plan)?)?;
        Ok(Self { spec, outbox, driver: Confined::unclaimed(Slot::default()), home: Home::default() })
    }

    fn __await__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        crate::hook::caught(py, || self.poll(py, None))
    }

    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)
    }

    #[pyo3(signature = (*error))]
    fn throw<'py>(&self, py: Python<'py>, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let error = thrown(error)?;
        crate::hook::caught(py, || self.poll(py, Some(error)))
    }

    /// The caller is gone: cancel every branch, without anybody to wait for them.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if is_finalizing(py) {
            return Ok(());
        }
        let Ok(driver) = this.driver.get() else { return this.home.close(slf.as_any()) };
        match driver.get(py) {
            Some(driver) => driver.get().abandon_now(&driver),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.spec)?;
        visit.call(&self.outbox)?;
        self.home.visit(&visit)?;
        self.driver.get_for_gc().visit(&visit)
    }

    fn __clear__(&self) {
        self.driver.get_for_gc().set(None);
    }
}
