//! `cano._core`, the native engine of the Python package `cano`: declaration and registration of its parts, nothing else.

mod build_info;

use pyo3::prelude::*;

/// The native engine of cano. Private: import from `cano`.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::build_info::build_info;
}
