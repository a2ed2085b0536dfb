//! A place that is filled once, by whoever comes first; nobody ever waits for it.
//!
//! `PyOnceLock` makes others wait while one fills it. What fills ours imports modules and runs Python code, and meanwhile another
//! thread may fork: in the child nobody is left to finish, and it would wait for ever. So whoever finds it empty makes the value
//! for himself, and the first to put it in has it kept. `clippy.toml` sends everybody here.

#![expect(clippy::disallowed_types)]

use pyo3::PyTypeCheck;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// For a static; `const` as `PyOnceLock` is.
pub(crate) struct Once<T>(PyOnceLock<T>);

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(PyOnceLock::new())
    }

    #[inline]
    pub(crate) fn get(&self, py: Python<'_>) -> Option<&T> {
        self.0.get(py)
    }

    /// What it holds, made by `make` if it is empty. With several threads `make` may run in each of them.
    #[inline]
    pub(crate) fn get_or_try_init<E>(&self, py: Python<'_>, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.0.get(py) {
            Some(value) => Ok(value),
            None => self.fill(py, make),
        }
    }

    /// Likewise where nothing can fail.
    #[inline]
    pub(crate) fn get_or_init(&self, py: Python<'_>, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init::<std::convert::Infallible>(py, || Ok(make())) {
            Ok(value) => value,
        }
    }

    #[cold]
    fn fill<E>(&self, py: Python<'_>, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let value = make()?;
        // Moving a value in runs nobody's code, so no other thread comes in between.
        Ok(self.0.get_or_init(py, || value))
    }
}

impl<T: PyTypeCheck> Once<Py<T>> {
    /// An attribute of a module.
    pub(crate) fn import<'py>(&self, py: Python<'py>, module: &str, attribute: &str) -> PyResult<&Bound<'py, T>> {
        let make = || Ok(py.import(module)?.getattr(attribute)?.cast_into::<T>()?.unbind());
        self.get_or_try_init(py, make).map(|value| value.bind(py))
    }
}
