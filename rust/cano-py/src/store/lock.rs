//! The lock that makes `update` atomic: re-entrant, and waited for without the interpreter.
//!
//! The deadlock story. `update` calls the user's function while it holds this lock, so its thread may lose the
//! interpreter half-way. Another thread then runs with the interpreter and wants to write: if it waited for the lock
//! as it is, the first could never go on. So whoever waits detaches first, and whoever attaches again holds nothing.
//! The function may itself write to the store: the owner passes through its own lock.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

/// How long a waiting thread stays away from the interpreter at most: the delay of a Ctrl-C that comes meanwhile.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// No owner. Neither this nor `LOST` is the address of anything.
const FREE: usize = 0;
/// The owner is being forgotten.
const LOST: usize = 1;

thread_local! {
    /// A place whose address tells this thread from every other one that is alive.
    static HERE: Cell<u8> = const { Cell::new(0) };
}

fn this_thread() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// A re-entrant lock for writers; see the head of this file.
#[derive(Debug, Default)]
pub(super) struct WriteLock {
    /// The thread inside (as `this_thread` names it), or `FREE`, or for a moment `LOST`.
    owner: AtomicUsize,
    /// How often the owner is inside. Only the owner touches it.
    depth: AtomicU32,
    /// The process that an owner who runs the user's code entered in, otherwise 0. A forked child inherits the lock, but
    /// not the thread that would leave it.
    process: AtomicU32,
    /// How many threads wait. Raised before the last look at `owner`, read after `owner` was cleared: one of both sees the other.
    waiting: AtomicUsize,
    gate: Mutex<()>,
    left: Condvar,
}

impl WriteLock {
    /// Whether another thread is inside.
    ///
    /// With a GIL the answer holds until the interpreter is given up, so a write that does not give it up needs no
    /// more than this. Without one only `enter` will do.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(super) fn is_taken(&self) -> bool {
        let owner = self.owner.load(Ordering::Acquire);
        owner != FREE && owner != this_thread()
    }

    /// Waits until the lock is free, then enters to run code of the user's. Ctrl-C interrupts the waiting.
    pub(super) fn enter(&self, py: Python<'_>) -> PyResult<Entered<'_>> {
        let entered = self.enter_briefly(py)?;
        self.process.store(std::process::id(), Ordering::Relaxed);
        Ok(entered)
    }

    /// As `enter`, for a few instructions: spares the call that asks for the process.
    pub(super) fn enter_briefly(&self, py: Python<'_>) -> PyResult<Entered<'_>> {
        let me = this_thread();
        loop {
            match self.owner.compare_exchange(FREE, me, Ordering::SeqCst, Ordering::SeqCst) {
                Err(owner) if owner != me => self.wait(py)?,
                _ => break,
            }
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
        Ok(Entered { lock: self, not_send: PhantomData })
    }

    /// Waits, detached, until the lock may be free.
    #[cold]
    pub(super) fn wait(&self, py: Python<'_>) -> PyResult<()> {
        self.disown_lost_owner();
        py.detach(|| {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            // A panic cannot poison what guards nothing.
            let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            if self.owner.load(Ordering::SeqCst) != FREE {
                drop(self.left.wait_timeout(gate, SIGNAL_CHECK));
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        });
        py.check_signals()
    }

    /// Frees the lock if its owner stayed behind in the parent of this process. Its write never happens here, so
    /// nothing is torn.
    fn disown_lost_owner(&self) {
        let owner = self.owner.load(Ordering::SeqCst);
        let process = self.process.load(Ordering::Relaxed);
        if owner == FREE || process == 0 || process == std::process::id() {
            return;
        }
        // Only one thread gets past this, so the counters are set back once, before anybody can enter.
        if self.owner.compare_exchange(owner, LOST, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.depth.store(0, Ordering::Relaxed);
            self.process.store(0, Ordering::Relaxed);
            self.owner.store(FREE, Ordering::SeqCst);
        }
    }
}

/// Proof that this thread is inside; dropping it leaves.
pub(super) struct Entered<'lock> {
    lock: &'lock WriteLock,
    /// Only the thread that entered may leave.
    not_send: PhantomData<*const ()>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let lock = self.lock;
        if lock.depth.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        lock.process.store(0, Ordering::Relaxed);
        lock.owner.store(FREE, Ordering::SeqCst);
        if lock.waiting.load(Ordering::SeqCst) > 0 {
            // Held for no longer than a waiter needs to fall asleep, and never by one who waits for the interpreter.
            drop(lock.gate.lock());
            lock.left.notify_one();
        }
    }
}
