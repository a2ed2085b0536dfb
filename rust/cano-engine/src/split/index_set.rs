//! Which branches are in some condition: remembered in debug builds alone.

/// A set of branch indices in debug builds, nothing at all in release builds: counts are enough for a driver that makes
/// no mistake, and a record per branch would cost more than the rest of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct IndexSet {
    #[cfg(debug_assertions)]
    indices: std::collections::HashSet<u32>,
}

#[cfg(debug_assertions)]
impl IndexSet {
    pub(super) fn insert(&mut self, index: u32) {
        self.indices.insert(index);
    }

    pub(super) fn remove(&mut self, index: u32) {
        self.indices.remove(&index);
    }

    pub(super) fn may_hold(&self, index: u32) -> bool {
        self.indices.contains(&index)
    }

    pub(super) fn clear(&mut self) {
        self.indices.clear();
    }
}

#[cfg(not(debug_assertions))]
#[allow(clippy::unused_self)] // the same face as above
impl IndexSet {
    #[inline]
    pub(super) fn insert(&mut self, _index: u32) {}

    #[inline]
    pub(super) fn remove(&mut self, _index: u32) {}

    #[inline]
    pub(super) fn may_hold(&self, _index: u32) -> bool {
        true
    }

    #[inline]
    pub(super) fn clear(&mut self) {}
}
