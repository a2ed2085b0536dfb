//! Panics on purpose, at every transition reported to a machine and at each step of a worker; and interrupts on purpose, whenever
//! Python code calls the engine, or the engine Python code. For `tests/native/test_panics.py` and `test_crossings.py`, which build
//! the module with the feature `fail-points`. Without it nothing is left of this file.

#[cfg(feature = "fail-points")]
pub(crate) use on::{crossing, fail_at, interrupt_at, point};

#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) fn crossing() {}

#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) fn point() {}

#[cfg(feature = "fail-points")]
mod on {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use pyo3::prelude::*;

    static PASSED: AtomicU64 = AtomicU64::new(0);
    static FAILS: AtomicU64 = AtomicU64::new(0);
    static FAILS_AGAIN: AtomicBool = AtomicBool::new(false);
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
        let fails = FAILS.load(Ordering::Relaxed);
        let again = FAILS_AGAIN.load(Ordering::Relaxed) && passed == fails + 1;
        assert!(passed != fails && !again, "injected at point {passed}");
    }

    /// Has the n-th point from now on panic (0: none), and with `again` the one after it, which is in what the first panic
    /// leads to; the answer is how many points were passed since the last call.
    #[pyfunction]
    #[pyo3(signature = (n, again = false))]
    pub(crate) fn fail_at(n: u64, again: bool) -> u64 {
        let passed = PASSED.swap(0, Ordering::Relaxed);
        FAILS_AGAIN.store(again && n > 0, Ordering::Relaxed);
        FAILS.store(n, Ordering::Relaxed);
        passed
    }
}
