//! The words of the split machine: phases, events, and what may start.

/// Where a split stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SplitPhase {
    /// It has not begun.
    New,
    /// Undecided.
    Open,
    /// Undecided; the user's function is being asked.
    Asking,
    /// Decided: the run goes on at the join state.
    Proceeded,
    /// Decided: the join has failed.
    Failed,
    /// Ended without a verdict: the run was cancelled, or the source failed.
    Stopped,
}

impl SplitPhase {
    /// Whether the split is over.
    pub fn is_final(self) -> bool {
        self >= Self::Proceeded
    }
}

/// What a driver reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SplitEvent {
    /// [`SplitMachine::opening`](super::SplitMachine::opening)
    Opening,
    /// [`SplitMachine::succeeded`](super::SplitMachine::succeeded)
    Succeeded,
    /// [`SplitMachine::failed`](super::SplitMachine::failed)
    Failed,
    /// [`SplitMachine::backing_off`](super::SplitMachine::backing_off)
    BackingOff,
    /// [`SplitMachine::retry_due`](super::SplitMachine::retry_due)
    RetryDue,
    /// [`SplitMachine::hedge_due`](super::SplitMachine::hedge_due)
    HedgeDue,
    /// [`SplitMachine::withdraw`](super::SplitMachine::withdraw)
    Withdraw,
    /// [`SplitMachine::source_ended`](super::SplitMachine::source_ended)
    SourceEnded,
    /// [`SplitMachine::sized`](super::SplitMachine::sized)
    Sized,
    /// [`SplitMachine::deadline`](super::SplitMachine::deadline)
    Deadline,
    /// [`SplitMachine::answer`](super::SplitMachine::answer)
    Answer,
    /// [`SplitMachine::dropped`](super::SplitMachine::dropped)
    Dropped,
    /// [`SplitMachine::stop`](super::SplitMachine::stop)
    Stop,
}

/// What may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// This branch begins.
    Fresh(u32),
    /// This branch begins its next attempt.
    Again(u32),
    /// Nothing: no permit is free, the hedge delay has not passed, every branch has begun, or the split is decided.
    Blocked,
}
