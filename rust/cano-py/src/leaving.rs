//! The end of the interpreter, while loops run on daemon threads.
//!
//! CPython 3.13 and older end a thread that asks for the GIL after that with `pthread_exit`, which unwinds its stack; a Rust frame
//! on it, one below a branch's Python code, turns that into an abort of the process. (From 3.14 on such a thread waits for ever.)
//! So Python's exit begins by closing a gate: who enters the engine on another thread waits there, without the GIL, until the
//! process is gone; and main waits until nobody is inside.
//!
//! It waits for a second at most. A step that takes longer than that, in a daemon thread that is left behind, ends in an abort as
//! before. And the gate opens again when Python's exit has not gone on after some time: another exit function may be waiting for
//! the very thread that waits here.

use pyo3::prelude::*;

#[cfg(not(any(Py_3_14, Py_GIL_DISABLED)))]
pub(crate) use old::Inside;

/// Nothing to see to.
#[cfg(any(Py_3_14, Py_GIL_DISABLED))]
pub(crate) struct Inside;

#[cfg(any(Py_3_14, Py_GIL_DISABLED))]
impl Inside {
    #[inline(always)]
    pub(crate) fn enter(_: Python<'_>) -> Self {
        Self
    }
}

/// Python's exit begins: the last that the main thread does while others may still run Python code.
#[pyfunction]
#[cfg_attr(any(Py_3_14, Py_GIL_DISABLED), expect(unused_variables))]
pub(crate) fn leave(py: Python<'_>) {
    #[cfg(not(any(Py_3_14, Py_GIL_DISABLED)))]
    old::leave(py);
}

/// A forked child has none of the threads that were inside.
#[pyfunction]
pub(crate) fn forked() {
    #[cfg(not(any(Py_3_14, Py_GIL_DISABLED)))]
    old::forked();
}

#[cfg(not(any(Py_3_14, Py_GIL_DISABLED)))]
mod old {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
    use std::thread;
    use std::time::{Duration, Instant};

    use pyo3::prelude::*;

    use crate::confined::here;

    /// How many threads are inside. Written with the GIL held only, so that it takes no locked instruction.
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    static CLOSED: AtomicBool = AtomicBool::new(false);
    /// The thread that Python's exit runs on.
    static MAIN: AtomicUsize = AtomicUsize::new(0);

    /// How long main waits for those who are inside, and they at the gate for the end.
    const PATIENCE: Duration = Duration::from_secs(1);
    const GLANCE: Duration = Duration::from_millis(1);

    /// A call into the engine that runs Python code in turn.
    pub(crate) struct Inside;

    thread_local! {
        /// How many of them are on this thread's.
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }

    impl Inside {
        #[inline]
        pub(crate) fn enter(py: Python<'_>) -> Self {
            let depth = DEPTH.get();
            if depth == 0 {
                if CLOSED.load(Relaxed) {
                    wait_at_the_gate(py);
                }
                THREADS.store(THREADS.load(Relaxed) + 1, Relaxed);
            }
            DEPTH.set(depth + 1);
            Self
        }
    }

    impl Drop for Inside {
        #[inline]
        fn drop(&mut self) {
            let depth = DEPTH.get() - 1;
            DEPTH.set(depth);
            if depth == 0 {
                THREADS.store(THREADS.load(Relaxed).saturating_sub(1), Relaxed);
            }
        }
    }

    pub(super) fn leave(py: Python<'_>) {
        MAIN.store(here(), Relaxed);
        CLOSED.store(true, Relaxed);
        let began = Instant::now();
        while THREADS.load(Relaxed) > 0 && began.elapsed() < PATIENCE {
            py.detach(|| thread::sleep(GLANCE));
        }
    }

    pub(super) fn forked() {
        THREADS.store(0, Relaxed);
        CLOSED.store(false, Relaxed);
    }

    #[cold]
    fn wait_at_the_gate(py: Python<'_>) {
        if MAIN.load(Relaxed) == here() {
            CLOSED.store(false, Relaxed); // an exit function of somebody else's uses the engine, and perhaps its threads
            return;
        }
        py.detach(|| {
            let began = Instant::now();
            while CLOSED.load(Relaxed) && began.elapsed() < PATIENCE {
                thread::sleep(GLANCE);
                if is_ending() {
                    loop {
                        thread::park();
                    }
                }
            }
        });
        CLOSED.store(false, Relaxed);
    }

    fn is_ending() -> bool {
        #[cfg(not(Py_3_13))]
        unsafe extern "C" {
            #[link_name = "_Py_IsFinalizing"]
            fn is_finalizing() -> std::ffi::c_int;
        }
        #[cfg(Py_3_13)]
        use pyo3::ffi::Py_IsFinalizing as is_finalizing;
        // SAFETY: it may be asked from any thread, attached or not.
        unsafe { is_finalizing() != 0 }
    }
}
