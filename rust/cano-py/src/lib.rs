//! `cano._core`, the native engine of the Python package `cano`: declaration and registration of its parts, nothing else.

mod build_info;
mod store;

use pyo3::prelude::*;

/// The native engine of cano. Private: import from `cano`.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::build_info::build_info;
    #[pymodule_export]
    use crate::store::{MemoryStore, ScopedStore};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::store::register(module.py())
    }
}
