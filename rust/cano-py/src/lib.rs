//! `cano._core`, the native engine of the Python package `cano`: declaration and registration of its parts, nothing else.

mod branch;
mod build_info;
mod clock;
mod collector;
mod columns;
mod confined;
mod current;
mod errors;
mod fail;
mod hook;
mod indices;
mod leaving;
mod once;
mod pause;
mod plan;
mod run;
mod spec;
mod split;
mod store;
mod threads;
mod timers;

use pyo3::prelude::*;

/// The native engine of cano. Private: import from `cano`.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::branch::Branch;
    #[pymodule_export]
    use crate::build_info::build_info;
    #[cfg(feature = "fail-points")]
    #[pymodule_export]
    use crate::fail::{fail_at, interrupt_at};
    #[pymodule_export]
    use crate::leaving::{forked, leave};
    #[pymodule_export]
    use crate::pause::Pause;
    #[pymodule_export]
    use crate::plan::PlanSpec;
    #[pymodule_export]
    use crate::run::{Run, SplitRun};
    #[pymodule_export]
    use crate::store::{MemoryStore, ScopedStore};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::clock::calibrate();
        // A class is made at its first use otherwise, and that may be in another thread while one forks.
        module.py().get_type::<crate::hook::Hook>();
        module.py().get_type::<crate::branch::interface::BranchAwait>();
        module.py().get_type::<crate::columns::Columns>();
        module.py().get_type::<crate::spec::SplitSpec>();
        module.py().get_type::<crate::split::SplitDriver>();
        module.py().get_type::<crate::threads::Cursor>();
        crate::collector::install_finalizer(module.py());
        crate::store::register(module.py())
    }
}
