//! Panics on purpose, at every transition reported to a machine, each callback of the loop, each step of a worker, where a coroutine
//! is let go of and where a store is locked; and interrupts on purpose, whenever Python code calls the engine, or the engine Python
//! code. For `tests/native/test_panics.py` and `test_crossings.py`, which build
//! the module with the feature `fail-points`. Without it nothing is left of this file.

#[cfg(feature = "fail-points")]
pub(crate) use on::{crossing, dropped, fail_at, interrupt_at, point};

#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) fn crossing() {}

#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) fn point() {}

#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) fn dropped() {}

#[cfg(feature = "fail-points")]
mod on {
    use std::sync::atomic::{AtomicU64, Ordering};

    use pyo3::prelude::*;

    static PASSED: AtomicU64 = AtomicU64::new(0);
    static FAILS: AtomicU64 = AtomicU64::new(0);
    static IN_A_ROW: AtomicU64 = AtomicU64::new(1);
    static CROSSED: AtomicU64 = AtomicU64::new(0);
    static INTERRUPTS: AtomicU64 = AtomicU64::new(0);

    /// Python code calls the engine, or the engine Python code: leaves a `KeyboardInterrupt` pending if it is this one's turn.
    pub(crate) fn crossing() {
        let crossed = CROSSED.fetch_add(1, Ordering::Relaxed) + 1;
        if crossed == INTERRUPTS.load(Ordering::Relaxed) {
            // SAFETY: the function may be called from any thread, attached or not.
            unsafe { pyo3::ffi::PyErr_SetInterrupt() };
        }
    }

    /// Has the n-th crossing from now on leave an interrupt pending (0: none); the answer is how many there were since the last
    /// call.
    #[pyfunction]
    pub(crate) fn interrupt_at(n: u64) -> u64 {
        let crossed = CROSSED.swap(0, Ordering::Relaxed);
        INTERRUPTS.store(n, Ordering::Relaxed);
        crossed
    }

    /// Panics if it is this one's turn.
    pub(crate) fn point() {
        let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
        let first = FAILS.load(Ordering::Relaxed);
        let after = passed.checked_sub(first).filter(|_| first > 0);
        assert!(after.is_none_or(|after| after >= IN_A_ROW.load(Ordering::Relaxed)), "injected at point {passed}");
    }

    /// A point in a destructor; none while another panic unwinds, since that ends the process: Rust's rule.
    pub(crate) fn dropped() {
        if !std::thread::panicking() {
            point();
        }
    }

    /// Has the n-th point from now on panic (0: none), and as many in a row, which are in what the first panic leads to; the
    /// answer is how many points were passed since the last call.
    #[pyfunction]
    #[pyo3(signature = (n, in_a_row = 1))]
    pub(crate) fn fail_at(n: u64, in_a_row: u64) -> u64 {
        let passed = PASSED.swap(0, Ordering::Relaxed);
        IN_A_ROW.store(in_a_row, Ordering::Relaxed);
        FAILS.store(n, Ordering::Relaxed);
        passed
    }
}
