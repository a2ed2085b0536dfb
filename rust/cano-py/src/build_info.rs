//! What this build is: the facts that `python -m cano` prints and that the package checks when it is imported.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The Cargo features this build was made with.
const FEATURES: &[&str] = if cfg!(feature = "fail-points") { &["fail-points"] } else { &[] };

/// Facts of this build of the native engine, under `version`, `profile`, `features`, `rustc`, `pyo3` and `free_threaded`.
#[pyfunction]
pub(crate) fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", profile)?;
    info.set_item("features", PyTuple::new(py, FEATURES)?)?;
    info.set_item("rustc", env!("CANO_RUSTC_VERSION"))?;
    info.set_item("pyo3", env!("CANO_PYO3_VERSION"))?;
    info.set_item("free_threaded", cfg!(Py_GIL_DISABLED))?;
    Ok(info)
}
