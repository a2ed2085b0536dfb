//! A split's own timers: a heap. The driver arms one `call_at` of the loop for the earliest.
//!
//! Cancelled timers are swept when they outnumber the living, so that short branches under a long timeout leave
//! nothing behind. The mirror of `pure/timers.py`.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use pyo3::prelude::*;

use crate::branch::Branch;

/// What a timer is for.
#[derive(Debug)]
pub(crate) enum Due {
    /// The split's time is up.
    Deadline,
    /// The newest branch has not answered in time.
    Hedge,
    /// The back-off of a branch is over.
    Retry(u32),
    /// An attempt's time is up: a `Branch`.
    Attempt(Py<Branch>),
    /// An attempt's time is up: one of `_engine/attempts.py`.
    OtherAttempt(Py<PyAny>),
    /// A `cano.sleep` is over.
    Pause(Py<Branch>),
    /// Cancelled branches have had their time to end.
    StillRunning,
}

/// Names a timer; 0 is none.
pub(crate) type TimerId = u64;

#[derive(Clone, Copy, PartialEq)]
struct Key {
    when: f64,
    serial: TimerId,
}

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.when.total_cmp(&other.when).then(self.serial.cmp(&other.serial))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Key>>,
    due: std::collections::HashMap<TimerId, Due, crate::indices::Hasher>,
    serial: TimerId,
    /// When the loop's handle fires, if one is armed.
    pub(crate) armed: Option<(f64, Py<PyAny>)>,
}

impl Timers {
    /// Adds a timer; the second answer is whether it is the earliest.
    pub(crate) fn add(&mut self, when: f64, due: Due) -> (TimerId, bool) {
        self.serial += 1;
        let key = Key { when, serial: self.serial };
        let earliest = self.heap.peek().is_none_or(|Reverse(first)| key < *first);
        self.heap.push(Reverse(key));
        self.due.insert(self.serial, due);
        (self.serial, earliest)
    }

    /// Forgets a timer, and gives back what it held so that the caller lets go of it outside of any borrow.
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<Due> {
        let due = self.due.remove(&id);
        if due.is_some() && self.heap.len() > 64 && self.due.len() * 2 < self.heap.len() {
            let living = &self.due;
            self.heap.retain(|Reverse(key)| living.contains_key(&key.serial));
        }
        due
    }

    /// The moment of the earliest timer.
    pub(crate) fn earliest(&mut self) -> Option<f64> {
        while let Some(Reverse(key)) = self.heap.peek() {
            if self.due.contains_key(&key.serial) {
                return Some(key.when);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next timer that is due at `now`, and was added before this turn began (`until`, a serial).
    pub(crate) fn take_due(&mut self, now: f64, until: TimerId) -> Option<Due> {
        while let Some(&Reverse(key)) = self.heap.peek() {
            if key.when > now || key.serial > until {
                return None;
            }
            self.heap.pop();
            if let Some(due) = self.due.remove(&key.serial) {
                return Some(due);
            }
        }
        None
    }

    pub(crate) fn newest(&self) -> TimerId {
        self.serial
    }

    /// Takes everything out, for the caller to let go of.
    pub(crate) fn clear(&mut self) -> (Vec<Due>, Option<Py<PyAny>>) {
        self.heap.clear();
        (self.due.drain().map(|(_, due)| due).collect(), self.armed.take().map(|(_, handle)| handle))
    }

    pub(crate) fn visit(&self, visit: &pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        for due in self.due.values() {
            match due {
                Due::Attempt(branch) | Due::Pause(branch) => visit.call(branch)?,
                Due::OtherAttempt(attempt) => visit.call(attempt)?,
                _ => {}
            }
        }
        if let Some((_, handle)) = &self.armed {
            visit.call(handle)?;
        }
        Ok(())
    }
}
