//! A split's own timers. The driver arms one `call_at` of the loop for the earliest.
//!
//! Like branches sleep alike, so timers mostly come in the order in which they are due: those wait in a queue, and what
//! comes out of order in a heap. Cancelled timers are swept when they outnumber the living, so that short branches under a long
//! timeout leave nothing behind. The mirror of `pure/timers.py`.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use pyo3::prelude::*;

use crate::split::Key;

/// What a timer is for.
#[derive(Debug)]
pub(crate) enum Due {
    /// The split's time is up.
    Deadline,
    /// The newest branch has not answered in time.
    Hedge,
    /// The back-off of a branch is over.
    Retry(u32),
    /// An attempt's time is up: of a suspended branch.
    Attempt(Key),
    /// An attempt's time is up: one of `_engine/attempts.py`.
    OtherAttempt(Py<PyAny>),
    /// A `cano.sleep` is over.
    Pause(Key),
    /// Cancelled branches have had their time to end.
    StillRunning,
}

/// Names a timer: its place and a part of its serial number. 0 is none.
pub(crate) type TimerId = u64;

#[derive(Clone, Copy, PartialEq)]
struct Entry {
    when: f64,
    serial: u64,
    place: u32,
}

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.when.total_cmp(&other.when).then(self.serial.cmp(&other.serial))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Default)]
pub(crate) struct Timers {
    queue: VecDeque<Entry>,
    heap: BinaryHeap<Reverse<Entry>>,
    /// By place: which timer is there, and what it is for. An entry whose timer is not there was cancelled.
    dues: Vec<Option<(u64, Due)>>,
    free: Vec<u32>,
    serial: u64,
    /// When the loop's handle fires, if one is armed.
    pub(crate) armed: Option<(f64, Py<PyAny>)>,
}

impl Timers {
    /// Adds a timer; the second answer is whether it is the earliest.
    pub(crate) fn add(&mut self, when: f64, due: Due) -> (TimerId, bool) {
        self.serial += 1;
        let serial = self.serial;
        let place = if let Some(place) = self.free.pop() {
            self.dues[place as usize] = Some((serial, due));
            place
        } else {
            self.dues.push(Some((serial, due)));
            (self.dues.len() - 1) as u32
        };
        let entry = Entry { when, serial, place };
        let earliest = self.peek().is_none_or(|first| entry < first);
        if self.queue.len() == 1 && entry < self.queue[0] {
            // A deadline, say, which came first: it need not keep all others out of the queue.
            self.heap.extend(self.queue.pop_front().map(Reverse));
        }
        if self.queue.back().is_none_or(|last| *last < entry) {
            self.queue.push_back(entry);
        } else {
            self.heap.push(Reverse(entry));
        }
        (serial << 32 | u64::from(place + 1), earliest)
    }

    fn living(&self) -> usize {
        self.dues.len() - self.free.len()
    }

    fn take(&mut self, place: u32, is_it: impl FnOnce(u64) -> bool) -> Option<Due> {
        let there = self.dues.get_mut(place as usize)?;
        if !there.as_ref().is_some_and(|(serial, _)| is_it(*serial)) {
            return None;
        }
        let (_, due) = there.take()?;
        self.free.push(place);
        Some(due)
    }

    /// Forgets a timer, and gives back what it held so that the caller lets go of it outside of any borrow.
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<Due> {
        let place = (id as u32).checked_sub(1)?;
        let due = self.take(place, |serial| serial << 32 == id & !u64::from(u32::MAX));
        let entries = self.queue.len() + self.heap.len();
        if due.is_some() && entries > 64 && self.living() * 2 < entries {
            let dues = &self.dues;
            let lives =
                |entry: &Entry| matches!(&dues[entry.place as usize], Some((serial, _)) if *serial == entry.serial);
            self.queue.retain(lives);
            self.heap.retain(|Reverse(entry)| lives(entry));
        }
        due
    }

    /// The earliest entry, cancelled or not.
    fn peek(&self) -> Option<Entry> {
        match (self.queue.front(), self.heap.peek()) {
            (Some(queued), Some(Reverse(heaped))) => Some(*queued.min(heaped)),
            (Some(queued), None) => Some(*queued),
            (None, Some(Reverse(heaped))) => Some(*heaped),
            (None, None) => None,
        }
    }

    /// Takes the earliest entry out.
    fn pop(&mut self, entry: Entry) {
        if self.queue.front() == Some(&entry) {
            self.queue.pop_front();
        } else {
            self.heap.pop();
        }
    }

    /// The moment of the earliest timer.
    pub(crate) fn earliest(&mut self) -> Option<f64> {
        while let Some(entry) = self.peek() {
            if matches!(&self.dues[entry.place as usize], Some((serial, _)) if *serial == entry.serial) {
                return Some(entry.when);
            }
            self.pop(entry);
        }
        None
    }

    /// Takes the next timer that is due at `now`, and was added before this turn began (`until`, a serial).
    pub(crate) fn take_due(&mut self, now: f64, until: u64) -> Option<Due> {
        while let Some(entry) = self.peek() {
            if entry.when > now || entry.serial > until {
                return None;
            }
            self.pop(entry);
            if let Some(due) = self.take(entry.place, |serial| serial == entry.serial) {
                return Some(due);
            }
        }
        None
    }

    /// The serial number of the newest timer.
    pub(crate) fn newest(&self) -> u64 {
        self.serial
    }

    /// Takes everything out, for the caller to let go of.
    pub(crate) fn clear(&mut self) -> (Vec<Due>, Option<Py<PyAny>>) {
        self.queue.clear();
        self.heap.clear();
        self.free.clear();
        let dues = std::mem::take(&mut self.dues);
        (dues.into_iter().flatten().map(|(_, due)| due).collect(), self.armed.take().map(|(_, handle)| handle))
    }

    pub(crate) fn visit(&self, visit: &pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        for (_, due) in self.dues.iter().flatten() {
            if let Due::OtherAttempt(attempt) = due {
                visit.call(attempt)?;
            }
        }
        if let Some((_, handle)) = &self.armed {
            visit.call(handle)?;
        }
        Ok(())
    }
}
