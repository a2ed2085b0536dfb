//! The attempts of a split that are suspended or on a thread, with the references that keep them alive.
//!
//! Of a branch this is the only reference there is while it waits for something of the engine's: its turn, a timer. All others
//! name it by its `Key`, which means nothing once the branch has ended (`crate::collector` says why).

use std::collections::VecDeque;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::branch::{self, Branch};
use crate::collector::visit_branch;
use crate::indices::ByIndex;

/// Names a suspended branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key {
    place: u32,
    /// The low half of a serial number: places are used again. 0 names nobody.
    serial: u32,
}

struct Suspended {
    /// The order of starts.
    serial: u64,
    index: u32,
    branch: Py<Branch>,
}

/// An attempt that is suspended or on a thread.
pub(super) enum Attempt {
    Branch(Py<Branch>),
    /// A `ThreadAttempt` or `TaskAttempt` of `_engine/attempts.py`.
    Other(Py<PyAny>),
}

/// Names an attempt that is to be cancelled.
#[derive(Clone, Copy)]
pub(super) enum Loser {
    Branch(Key),
    /// By branch index.
    Other(u32),
}

#[derive(Default)]
pub(crate) struct Live {
    places: Vec<Option<Suspended>>,
    free: Vec<u32>,
    /// By branch index, with the order of starts.
    others: ByIndex<(u64, Py<PyAny>)>,
    starts: u64,
}

impl Live {
    /// Keeps a branch.
    #[inline]
    pub(super) fn keep(&mut self, index: u32, branch: Py<Branch>) -> Key {
        self.starts += 1;
        let suspended = Some(Suspended { serial: self.starts, index, branch });
        let place = if let Some(place) = self.free.pop() {
            self.places[place as usize] = suspended;
            place
        } else {
            self.places.push(suspended);
            (self.places.len() - 1) as u32
        };
        Key { place, serial: self.starts as u32 }
    }

    /// Keeps another attempt. What comes back, the caller lets go of outside of any borrow.
    pub(super) fn keep_other(&mut self, index: u32, attempt: Py<PyAny>) -> Option<(u64, Py<PyAny>)> {
        self.starts += 1;
        self.others.insert(index, (self.starts, attempt))
    }

    /// The branch of a key, if it is still suspended.
    #[inline]
    pub(super) fn branch<'py>(&self, py: Python<'py>, key: Key) -> Option<Bound<'py, Branch>> {
        match self.places.get(key.place as usize) {
            Some(Some(suspended)) if suspended.serial as u32 == key.serial => Some(suspended.branch.bind(py).clone()),
            _ => None,
        }
    }

    /// Lets go of a branch. What comes back, the caller drops outside of any borrow.
    #[inline]
    pub(super) fn remove(&mut self, key: Key) -> Option<Py<Branch>> {
        let place = self.places.get_mut(key.place as usize)?;
        if place.as_ref().is_none_or(|suspended| suspended.serial as u32 != key.serial) {
            return None;
        }
        let suspended = place.take()?;
        self.free.push(key.place);
        Some(suspended.branch)
    }

    /// Lets go of another attempt; likewise.
    pub(super) fn remove_other(&mut self, index: u32) -> Option<(u64, Py<PyAny>)> {
        self.others.remove(&index)
    }

    /// Lets go of branches that have ended; likewise.
    pub(super) fn remove_ended(&mut self) -> Vec<Py<Branch>> {
        let mut ended = Vec::new();
        for (place, suspended) in self.places.iter_mut().enumerate() {
            if let Some(one) = suspended
                && one.branch.get().state().is_ok_and(branch::State::is_done)
            {
                self.free.push(place as u32);
                ended.extend(suspended.take().map(|one| one.branch));
            }
        }
        ended
    }

    pub(super) fn has_other(&self, index: u32) -> bool {
        self.others.contains_key(&index)
    }

    /// Whether this very attempt is the one of the index.
    pub(super) fn is_other(&self, index: u32, attempt: &Bound<'_, PyAny>) -> bool {
        self.others.get(&index).is_some_and(|(_, other)| other.is(attempt))
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len() + self.others.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices of all branches, ascending.
    pub(super) fn indices(&self) -> Vec<u32> {
        let suspended = self.places.iter().flatten().map(|suspended| suspended.index);
        let mut indices: Vec<u32> = suspended.chain(self.others.keys().copied()).collect();
        indices.sort_unstable();
        indices
    }

    /// The names of all attempts, in the order of their starts.
    pub(super) fn losers(&self) -> VecDeque<Loser> {
        let key = |place, serial| Loser::Branch(Key { place: place as u32, serial: serial as u32 });
        let branches = self.places.iter().enumerate();
        let branches = branches.filter_map(|(place, one)| one.as_ref().map(|one| (one.serial, key(place, one.serial))));
        let others = self.others.iter().map(|(index, (serial, _))| (*serial, Loser::Other(*index)));
        let mut losers: Vec<(u64, Loser)> = branches.chain(others).collect();
        losers.sort_unstable_by_key(|(serial, _)| *serial);
        losers.into_iter().map(|(_, loser)| loser).collect()
    }

    /// The attempt of a name, if it has not ended.
    pub(super) fn loser(&self, py: Python<'_>, loser: Loser) -> Option<Attempt> {
        match loser {
            Loser::Branch(key) => self.branch(py, key).map(|branch| Attempt::Branch(branch.unbind())),
            Loser::Other(index) => self.others.get(&index).map(|(_, other)| Attempt::Other(other.clone_ref(py))),
        }
    }

    /// What `of` gives of the suspended branches.
    pub(super) fn of_each<T>(&self, of: impl Fn(&Branch) -> Option<T>) -> Vec<T> {
        self.places.iter().flatten().filter_map(|one| of(one.branch.get())).collect()
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for suspended in self.places.iter().flatten() {
            visit_branch(&suspended.branch, visit)?;
        }
        for (_, other) in self.others.values() {
            visit.call(other)?;
        }
        Ok(())
    }
}
