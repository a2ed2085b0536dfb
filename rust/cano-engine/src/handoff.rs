//! What a loop's thread and its workers share: items go out, results come back, and either side is called when needed.
//!
//! No thread, no loop and no job in here: a driver starts jobs and calls its loop when it is told to. What has to be right is
//! that it is told often enough (or an item waits for ever) and no oftener than that (each call costs more than an item).
//!
//! | who           | does                                                  | and if the answer is true  |
//! |---------------|-------------------------------------------------------|----------------------------|
//! | loop's thread | [`offer`](WorkQueue::offer)                           | submits a job              |
//! | job           | [`take_up`](WorkQueue::take_up), at its beginning     | submits another            |
//! | job           | [`next`](WorkQueue::next), until there is none        |                            |
//! | job           | [`push`](Landing::push), then [`raise`](WakeFlag::raise) | calls the loop          |
//! | loop's call   | [`lower`](WakeFlag::lower), at its beginning          |                            |
//! | loop's call   | [`take`](Landing::take) or [`pop`](Landing::pop); if anything is left, `raise` | calls itself again |
//!
//! Why nothing is lost: both sides first write what they have, the one its item and the other its flag, and then look at
//! what the other writes, all of it under one lock or after it. (A flag is lowered by a swap, where a store would do: so all its
//! values are in one order for a checker, too.) The repository's `tests/interleavings` tries every order of
//! every step.
//!
//! No value is dropped, and no code of a value's runs, while a lock is held.

use std::collections::VecDeque;
use std::mem;

use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds a lock; if it did, the queues would be as good as before.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Shows what a queue holds, unless somebody is at it: what is in use is no garbage.
fn show<T, E>(mutex: &Mutex<VecDeque<T>>, each: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
    mutex.try_lock().map_or(Ok(()), |queue| queue.iter().try_for_each(each))
}

/// Items for workers. Jobs begin one after the other, for as long as items wait: short calls are done by the first, while
/// calls that block let the next one begin at once.
#[derive(Debug)]
pub struct WorkQueue<T> {
    queue: Mutex<VecDeque<T>>,
    /// Whether a job that will look at the queue waits for a worker.
    pending: AtomicBool,
    used: AtomicBool,
}

impl<T> Default for WorkQueue<T> {
    fn default() -> Self {
        Self { queue: Mutex::new(VecDeque::new()), pending: AtomicBool::new(false), used: AtomicBool::new(false) }
    }
}

impl<T> WorkQueue<T> {
    /// Queues items; whether a job must be submitted that looks at them.
    pub fn offer(&self, items: impl IntoIterator<Item = T>) -> bool {
        self.used.store(true, Ordering::Relaxed);
        locked(&self.queue).extend(items);
        !self.pending.swap(true, Ordering::AcqRel)
    }

    /// A job begins; whether another must be submitted, because there is more than this one can begin with.
    pub fn take_up(&self) -> bool {
        self.pending.swap(false, Ordering::AcqRel);
        let waiting = locked(&self.queue).len();
        waiting > 1 && !self.pending.swap(true, Ordering::AcqRel)
    }

    /// Takes the first item. A job that found none ends, or begins anew with `take_up`.
    pub fn next(&self) -> Option<T> {
        locked(&self.queue).pop_front()
    }

    /// Takes back what no job has taken.
    pub fn withdraw(&self) -> VecDeque<T> {
        mem::take(&mut *locked(&self.queue))
    }

    /// Whether anything was ever offered.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Shows the items, for a garbage collector; shows none while somebody is at them.
    ///
    /// # Errors
    ///
    /// That of `each`, at once.
    pub fn show<E>(&self, each: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        show(&self.queue, each)
    }
}

/// What workers have brought and the loop's thread has not taken in.
#[derive(Debug)]
pub struct Landing<T> {
    landed: Mutex<VecDeque<T>>,
}

impl<T> Default for Landing<T> {
    fn default() -> Self {
        Self { landed: Mutex::new(VecDeque::new()) }
    }
}

impl<T> Landing<T> {
    /// Brings one; [`WakeFlag::raise`] comes next.
    pub fn push(&self, one: T) {
        locked(&self.landed).push_back(one);
    }

    /// Takes all there are.
    pub fn take(&self) -> VecDeque<T> {
        mem::take(&mut *locked(&self.landed))
    }

    /// Takes the first.
    pub fn pop(&self) -> Option<T> {
        locked(&self.landed).pop_front()
    }

    /// Puts back what there was no time for, before what has landed since.
    pub fn put_back(&self, mut rest: VecDeque<T>) {
        let mut landed = locked(&self.landed);
        rest.append(&mut landed);
        *landed = rest;
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        locked(&self.landed).is_empty()
    }

    /// Shows what waits, for a garbage collector; shows nothing while somebody is at it.
    ///
    /// # Errors
    ///
    /// That of `each`, at once.
    pub fn show<E>(&self, each: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        show(&self.landed, each)
    }
}

/// Whether the loop has been called and has not begun with it: one call serves all that land meanwhile.
#[derive(Debug)]
pub struct WakeFlag {
    raised: AtomicBool,
}

impl Default for WakeFlag {
    fn default() -> Self {
        Self { raised: AtomicBool::new(false) }
    }
}

impl WakeFlag {
    /// Whether a call is under way that will see what landed before this question.
    #[inline]
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Whether it is the caller who must call the loop. (It looks first: most often the flag is up, and many write at once.)
    #[inline]
    pub fn raise(&self) -> bool {
        !self.is_raised() && !self.raised.swap(true, Ordering::AcqRel)
    }

    /// The call has begun. What lands from here on calls anew.
    #[inline]
    pub fn lower(&self) {
        self.raised.swap(false, Ordering::AcqRel);
    }
}
