//! The split as a state machine: who may start, and what a completion means.
//!
//! The machine is the only place that knows the bulkhead, the retry queue, hedging and the decision. It holds indices
//! and counts; the driver holds the values, the clock and the tasks.
//!
//! | phase                           | legal events                                                               |
//! |---------------------------------|----------------------------------------------------------------------------|
//! | `New`                           | `Opening`, `Stop`                                                          |
//! | `Open`                          | `Succeeded`, `Failed`, `BackingOff`, `RetryDue`, `HedgeDue`, `Withdraw`, `SourceEnded`, `Sized`, `Deadline`, `Stop` |
//! | `Asking`                        | `Answer`, `Stop`                                                           |
//! | `Proceeded`, `Failed`, `Stopped`| `Dropped`, `Withdraw`, `Stop`                                              |
//!
//! A verdict moves the machine from `Open` to `Asking`, `Proceeded` or `Failed`. Any other event returns a
//! [`MachineError`] and changes nothing. [`SplitMachine::next_start`] asks and is no event: outside `Open` nothing may
//! start.
//!
//! Of every branch exactly one thing is true, at every moment:
//!
//! ```text
//! ok + bad + live + retrying + unstarted == N      while undecided (N: what was drawn, if it is not known)
//! ok + bad + cancelled == N                        afterwards
//! ```

mod index_set;
mod vocabulary;

use std::collections::VecDeque;

use crate::error::MachineError;
use crate::join::{Join, JoinRule, Progress, UNBOUNDED, Verdict};
use index_set::IndexSet;
pub use vocabulary::{SplitEvent, SplitPhase, Start};

/// One split of one run.
///
/// ```
/// use cano_engine::{JoinRule, SplitMachine, Start, Strategy, Verdict};
///
/// let mut split = SplitMachine::new(JoinRule::new(Strategy::Any), Some(3), Some(2), false);
/// assert_eq!(split.opening()?, Verdict::Wait);
/// assert_eq!(split.next_start(), Start::Fresh(0));
/// assert_eq!(split.next_start(), Start::Fresh(1));
/// assert_eq!(split.next_start(), Start::Blocked); // the bulkhead is full
/// assert_eq!(split.succeeded(1)?, Verdict::Proceed);
/// split.dropped(0)?; // the loser was cancelled and has ended
/// assert!(split.is_settled());
/// assert_eq!(split.cancelled(), 2);
/// # Ok::<(), cano_engine::MachineError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SplitMachine {
    phase: SplitPhase,
    hedged: bool,
    timed_out: bool,
    drawn: u32,
    live: u32,
    /// How many may be live; 0 outside `Open`, so that one compare says "full" and "over" alike.
    permits: u32,
    bulkhead: u32,
    /// Fresh indices end here: at N, or with hedging at the next branch whose turn has not come.
    fresh_end: u32,
    /// Branches that wait for their next attempt, those in `again` included.
    retrying: u32,
    join: Join,
    ok_order: Vec<u32>,
    bad_order: Vec<u32>,
    /// Branches whose back-off is over and that wait for a permit. Allocates nothing until there is one.
    again: VecDeque<u32>,
    /// Which branches are live, and whose back-off is not over: kept in debug builds alone.
    live_set: IndexSet,
    backoff_set: IndexSet,
}

impl SplitMachine {
    /// A split that has not begun. `total`: `None` for a lazy source that cannot say; `bulkhead`: `None` for any
    /// number of live branches; `hedged`: each branch after the first waits until the one before has failed or is slow.
    pub fn new(rule: JoinRule, total: Option<u32>, bulkhead: Option<u32>, hedged: bool) -> Self {
        Self {
            phase: SplitPhase::New,
            hedged,
            timed_out: false,
            drawn: 0,
            live: 0,
            permits: 0,
            bulkhead: bulkhead.unwrap_or(UNBOUNDED),
            fresh_end: 0,
            retrying: 0,
            join: Join::new(rule, total),
            ok_order: Vec::new(),
            bad_order: Vec::new(),
            again: VecDeque::new(),
            live_set: IndexSet::default(),
            backoff_set: IndexSet::default(),
        }
    }

    /// Hands out what may start now, and takes a permit for it. A branch that has begun goes before one that has not.
    ///
    /// A lazy source that has no such item is reported by [`withdraw`](Self::withdraw) and then
    /// [`source_ended`](Self::source_ended). At most `u32::MAX` branches are handed out.
    #[inline]
    pub fn next_start(&mut self) -> Start {
        if self.live >= self.permits {
            return Start::Blocked;
        }
        if !self.again.is_empty() {
            return self.start_again();
        }
        let index = self.drawn;
        if index >= self.fresh_end {
            return Start::Blocked;
        }
        self.drawn = index + 1;
        self.live += 1;
        self.live_set.insert(index);
        if self.hedged {
            self.fresh_end = self.drawn;
        }
        Start::Fresh(index)
    }

    #[cold]
    fn start_again(&mut self) -> Start {
        let Some(index) = self.again.pop_front() else {
            return Start::Blocked;
        };
        self.live += 1;
        self.live_set.insert(index);
        self.retrying -= 1;
        Start::Again(index)
    }

    /// Whether [`next_start`](Self::next_start) would hand out a branch now.
    #[inline]
    pub fn may_start(&self) -> bool {
        self.live < self.permits && (self.drawn < self.fresh_end || !self.again.is_empty())
    }

    /// Whether a branch whose back-off is over waits for a permit; it goes before any that never started.
    #[inline]
    pub fn has_retries_due(&self) -> bool {
        !self.again.is_empty()
    }

    /// Opens the split. A split of nothing, or one that asks for nothing, is decided here.
    ///
    /// # Errors
    ///
    /// It was opened before.
    pub fn opening(&mut self) -> Result<Verdict, MachineError> {
        if self.phase != SplitPhase::New {
            return Err(self.refuse(SplitEvent::Opening, None));
        }
        self.phase = SplitPhase::Open;
        self.permits = self.bulkhead;
        self.let_start();
        let verdict = self.join.opening();
        Ok(self.conclude(verdict))
    }

    /// A live branch has answered.
    ///
    /// # Errors
    ///
    /// The split is not open, or the branch is not live.
    #[inline]
    pub fn succeeded(&mut self, index: u32) -> Result<Verdict, MachineError> {
        self.expect_live(index, SplitEvent::Succeeded)?;
        self.release(index);
        self.ok_order.push(index);
        match self.join.succeeded() {
            Verdict::Wait => Ok(Verdict::Wait),
            verdict => Ok(self.conclude(verdict)),
        }
    }

    /// A live branch has failed for good. With hedging, the failure of the newest branch gives the next its start.
    ///
    /// # Errors
    ///
    /// The split is not open, or the branch is not live.
    #[inline]
    pub fn failed(&mut self, index: u32) -> Result<Verdict, MachineError> {
        self.expect_live(index, SplitEvent::Failed)?;
        self.release(index);
        self.bad_order.push(index);
        if self.hedged && index + 1 == self.drawn {
            self.let_start();
        }
        match self.join.failed() {
            Verdict::Wait => Ok(Verdict::Wait),
            verdict => Ok(self.conclude(verdict)),
        }
    }

    /// A live branch has failed and will be tried again: its permit is free until then.
    ///
    /// # Errors
    ///
    /// The split is not open, or the branch is not live.
    pub fn backing_off(&mut self, index: u32) -> Result<(), MachineError> {
        self.expect_live(index, SplitEvent::BackingOff)?;
        self.release(index);
        self.retrying += 1;
        self.backoff_set.insert(index);
        Ok(())
    }

    /// The back-off of a branch is over: it queues for a permit, before those that have not begun.
    ///
    /// # Errors
    ///
    /// The split is not open, or the branch does not wait for its next attempt.
    pub fn retry_due(&mut self, index: u32) -> Result<(), MachineError> {
        let waiting = self.retrying as usize > self.again.len() && index < self.drawn;
        if self.phase != SplitPhase::Open || !waiting || !self.backoff_set.may_hold(index) {
            return Err(self.refuse(SplitEvent::RetryDue, Some(index)));
        }
        self.backoff_set.remove(index);
        self.again.push_back(index);
        Ok(())
    }

    /// The newest branch has not answered within the hedge delay: the next one may start.
    ///
    /// # Errors
    ///
    /// The split is not open, or not hedged.
    pub fn hedge_due(&mut self) -> Result<(), MachineError> {
        if self.phase != SplitPhase::Open || !self.hedged {
            return Err(self.refuse(SplitEvent::HedgeDue, None));
        }
        self.let_start();
        Ok(())
    }

    /// Takes back the newest fresh branch: its item does not exist (yet), or came after the decision.
    ///
    /// Legal until the driver has reported anything else about that branch. In `Open`, the index is handed out again.
    ///
    /// # Errors
    ///
    /// The branch is not the newest one, or not live, or the split is new or asking.
    pub fn withdraw(&mut self, index: u32) -> Result<(), MachineError> {
        let phase_is_wrong = matches!(self.phase, SplitPhase::New | SplitPhase::Asking);
        // `drawn` is 0 before the first: no index is one less than that.
        if phase_is_wrong || self.drawn.checked_sub(1) != Some(index) || !self.is_live(index) {
            return Err(self.refuse(SplitEvent::Withdraw, Some(index)));
        }
        // The end of the fresh indices is past this one still, also with hedging: it was handed out.
        self.drawn = index;
        self.release(index);
        Ok(())
    }

    /// The source is exhausted: N is what was drawn.
    ///
    /// The driver learns it when it draws for a fresh index, which it must [`withdraw`](Self::withdraw) first.
    ///
    /// # Errors
    ///
    /// The split is not open.
    pub fn source_ended(&mut self) -> Result<Verdict, MachineError> {
        if self.phase != SplitPhase::Open {
            return Err(self.refuse(SplitEvent::SourceEnded, None));
        }
        let verdict = self.join.source_ended(self.drawn)?;
        self.fresh_end = self.drawn;
        Ok(self.conclude(verdict))
    }

    /// Takes in how many branches an undecided split has, before its source is exhausted.
    ///
    /// # Errors
    ///
    /// The split is not open, its size is known already, or more branches have begun.
    pub fn sized(&mut self, total: u32) -> Result<Verdict, MachineError> {
        if self.phase != SplitPhase::Open || self.join.total().is_some() || total < self.drawn {
            return Err(self.refuse(SplitEvent::Sized, None));
        }
        let verdict = match self.join.source_ended(total)? {
            // A function is asked after completions, and N alone is none (unless there is nothing to wait for).
            Verdict::Ask if total > self.ok() + self.bad() => Verdict::Wait,
            verdict => verdict,
        };
        // Not `let_start`: with hedging, to learn N is no reason to begin the next branch.
        self.fresh_end = self.fresh_end.min(total);
        Ok(self.conclude(verdict))
    }

    /// The split's time is over. The verdict is `Proceed` or `Fail`.
    ///
    /// # Errors
    ///
    /// The split is not open.
    pub fn deadline(&mut self) -> Result<Verdict, MachineError> {
        if self.phase != SplitPhase::Open {
            return Err(self.refuse(SplitEvent::Deadline, None));
        }
        self.timed_out = true;
        let verdict = self.join.deadline();
        Ok(self.conclude(verdict))
    }

    /// What the user's function answered to `Ask`; `Wait` with nothing pending is `Fail`.
    ///
    /// A driver whose function may have stopped the run looks at [`phase`](Self::phase) first.
    ///
    /// # Errors
    ///
    /// Nothing was asked, or the answer is `Ask`.
    pub fn answer(&mut self, verdict: Verdict) -> Result<Verdict, MachineError> {
        if self.phase != SplitPhase::Asking {
            return Err(self.refuse(SplitEvent::Answer, None));
        }
        if verdict == Verdict::Ask {
            return Err(MachineError::NotAnAnswer);
        }
        self.phase = SplitPhase::Open;
        self.permits = self.bulkhead;
        let verdict = self.join.answer(verdict);
        Ok(self.conclude(verdict))
    }

    /// Ends the split without a verdict (the run was cancelled, or the source failed). Always legal.
    pub fn stop(&mut self) {
        self.close(SplitPhase::Stopped);
    }

    /// A branch that was live at the decision has ended. What it brought does not count.
    ///
    /// # Errors
    ///
    /// The split is not over, or the branch is not live.
    pub fn dropped(&mut self, index: u32) -> Result<(), MachineError> {
        if !self.phase.is_final() || !self.is_live(index) {
            return Err(self.refuse(SplitEvent::Dropped, Some(index)));
        }
        self.release(index);
        Ok(())
    }

    /// Where the split stands.
    pub fn phase(&self) -> SplitPhase {
        self.phase
    }

    /// Whether the split is over: proceeded, failed or stopped.
    #[inline]
    pub fn is_decided(&self) -> bool {
        self.phase.is_final()
    }

    /// Whether the split is over and nothing of it is still live, so that the run may move on.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.live == 0 && self.phase.is_final()
    }

    /// Whether the deadline decided.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Branches that succeeded.
    pub fn ok(&self) -> u32 {
        self.join.ok()
    }

    /// Branches that failed for good.
    pub fn bad(&self) -> u32 {
        self.join.bad()
    }

    /// Branches that hold a permit now.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Branches that wait for their next attempt; they hold no permit.
    pub fn retrying(&self) -> u32 {
        self.retrying
    }

    /// Branches that came into being so far; the next fresh index.
    pub fn drawn(&self) -> u32 {
        self.drawn
    }

    /// N; `None` while a lazy source is neither exhausted nor the split over (then: what was drawn).
    pub fn total(&self) -> Option<u32> {
        self.join.total().or(if self.phase.is_final() { Some(self.drawn) } else { None })
    }

    /// How many branches neither succeeded nor failed; 0 before the split is over.
    pub fn cancelled(&self) -> u32 {
        match self.total() {
            Some(total) if self.phase.is_final() => total - self.ok() - self.bad(),
            _ => 0,
        }
    }

    /// Indices of the branches that succeeded, in order of completion.
    pub fn ok_order(&self) -> &[u32] {
        &self.ok_order
    }

    /// Indices of the branches that failed, in order of completion.
    pub fn bad_order(&self) -> &[u32] {
        &self.bad_order
    }

    /// The counts as a user's function sees them.
    pub fn progress(&self) -> Progress {
        self.join.progress()
    }

    /// What decides the split.
    pub fn rule(&self) -> &JoinRule {
        self.join.rule()
    }

    #[inline]
    fn is_live(&self, index: u32) -> bool {
        self.live > 0 && index < self.drawn && self.live_set.may_hold(index)
    }

    #[inline]
    fn expect_live(&self, index: u32, event: SplitEvent) -> Result<(), MachineError> {
        if self.phase == SplitPhase::Open && self.is_live(index) {
            Ok(())
        } else {
            Err(self.refuse(event, Some(index)))
        }
    }

    #[inline]
    fn release(&mut self, index: u32) {
        self.live -= 1;
        self.live_set.remove(index);
    }

    /// Moves the end of the fresh indices: by one branch with hedging, to N without.
    fn let_start(&mut self) {
        let end = self.join.total().unwrap_or(UNBOUNDED);
        self.fresh_end = if self.hedged { end.min(self.drawn.saturating_add(1)) } else { end };
    }

    fn conclude(&mut self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Wait => {}
            Verdict::Proceed => self.close(SplitPhase::Proceeded),
            Verdict::Fail => self.close(SplitPhase::Failed),
            Verdict::Ask => {
                self.phase = SplitPhase::Asking;
                self.permits = 0;
            }
        }
        verdict
    }

    fn close(&mut self, phase: SplitPhase) {
        self.phase = phase;
        self.permits = 0;
        self.retrying = 0; // nobody waits for a next attempt any more: these are cancelled
        self.backoff_set.clear();
        self.again.clear();
    }

    #[cold]
    fn refuse(&self, event: SplitEvent, branch: Option<u32>) -> MachineError {
        MachineError::Split { event, phase: self.phase, branch }
    }
}
