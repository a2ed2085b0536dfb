//! Python's garbage collector, paused while branches are started.
//!
//! Nothing that is allocated there is garbage, yet the young generation is walked again and again: for 10^5 branches that
//! suspend this is two thirds of the time (engine.md, 4.4). The pause lasts a time slice at most.

use pyo3::ffi;

/// Not worth a pause: fewer branches than this.
const WORTH: u32 = 64;

#[derive(Default)]
pub(super) struct PausedCollector {
    started: u32,
    /// It was enabled, and we disabled it.
    paused: bool,
}

impl PausedCollector {
    /// Counts a branch that is being started.
    #[inline]
    pub(super) fn count(&mut self) {
        self.started += 1;
        if self.started == WORTH {
            // SAFETY: the loop that owns this runs attached; the answer says whether it was enabled before.
            self.paused = unsafe { ffi::PyGC_Disable() } != 0;
        }
    }
}

impl Drop for PausedCollector {
    fn drop(&mut self) {
        if self.paused {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}
