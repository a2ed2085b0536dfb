//! A split, kept the slow and obvious way: a record per branch, counted anew for every question.

use std::collections::BTreeSet;

use cano_engine::{JoinRule, MachineError, Progress, SplitEvent, SplitMachine, SplitPhase, Start, Strategy, Verdict};

use crate::common::table;

pub(crate) const EVENTS: [SplitEvent; 13] = [
    SplitEvent::Opening,
    SplitEvent::Succeeded,
    SplitEvent::Failed,
    SplitEvent::BackingOff,
    SplitEvent::RetryDue,
    SplitEvent::HedgeDue,
    SplitEvent::Withdraw,
    SplitEvent::SourceEnded,
    SplitEvent::Sized,
    SplitEvent::Deadline,
    SplitEvent::Answer,
    SplitEvent::Dropped,
    SplitEvent::Stop,
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Branch {
    Live,
    BackingOff,
    Queued,
    Ok,
    Bad,
    Gone,
}

/// What the split machine should be, kept the slow and obvious way.
pub(crate) struct Model {
    pub(crate) rule: JoinRule,
    pub(crate) total: Option<u32>,
    pub(crate) bulkhead: Option<u32>,
    pub(crate) hedged: bool,
    pub(crate) hedge_open: bool,
    pub(crate) phase: SplitPhase,
    pub(crate) timed_out: bool,
    pub(crate) branches: Vec<Branch>,
    pub(crate) queue: Vec<u32>,
}

impl Model {
    /// A split that has not begun.
    pub(crate) fn new(rule: JoinRule, total: Option<u32>, bulkhead: Option<u32>, hedged: bool) -> Self {
        Self {
            rule,
            total,
            bulkhead,
            hedged,
            hedge_open: false,
            phase: SplitPhase::New,
            timed_out: false,
            branches: Vec::new(),
            queue: Vec::new(),
        }
    }

    pub(crate) fn count(&self, what: &[Branch]) -> u32 {
        self.branches.iter().filter(|branch| what.contains(branch)).count() as u32
    }

    pub(crate) fn ok(&self) -> u32 {
        self.count(&[Branch::Ok])
    }

    pub(crate) fn bad(&self) -> u32 {
        self.count(&[Branch::Bad])
    }

    pub(crate) fn is(&self, index: u32, what: Branch) -> bool {
        self.branches.get(index as usize) == Some(&what)
    }

    pub(crate) fn is_newest_live(&self, index: u32) -> bool {
        self.is(index, Branch::Live) && index as usize + 1 == self.branches.len()
    }

    pub(crate) fn is_legal(&self, event: SplitEvent, index: u32, answer: Verdict) -> bool {
        let open = self.phase == SplitPhase::Open;
        match event {
            SplitEvent::Opening => self.phase == SplitPhase::New,
            SplitEvent::Succeeded | SplitEvent::Failed | SplitEvent::BackingOff => open && self.is(index, Branch::Live),
            SplitEvent::RetryDue => open && self.is(index, Branch::BackingOff),
            SplitEvent::HedgeDue => open && self.hedged,
            SplitEvent::Withdraw => (open || self.phase.is_final()) && self.is_newest_live(index),
            SplitEvent::SourceEnded | SplitEvent::Deadline => open,
            SplitEvent::Sized => open && self.total.is_none() && index as usize >= self.branches.len(),
            SplitEvent::Answer => self.phase == SplitPhase::Asking && answer != Verdict::Ask,
            SplitEvent::Dropped => self.phase.is_final() && self.is(index, Branch::Live),
            SplitEvent::Stop => true,
        }
    }

    /// What a machine that knows counts alone (a release build) cannot tell from a legal event.
    pub(crate) fn looks_legal(&self, event: SplitEvent, index: u32) -> bool {
        let is_drawn = (index as usize) < self.branches.len();
        let some_live = self.count(&[Branch::Live]) > 0;
        let open = self.phase == SplitPhase::Open;
        match event {
            SplitEvent::Succeeded | SplitEvent::Failed | SplitEvent::BackingOff => open && is_drawn && some_live,
            SplitEvent::RetryDue => open && is_drawn && self.count(&[Branch::BackingOff]) > 0,
            SplitEvent::Dropped => self.phase.is_final() && is_drawn && some_live,
            SplitEvent::Withdraw => {
                let newest = index as usize + 1 == self.branches.len();
                (open || self.phase.is_final()) && newest && some_live
            }
            _ => false,
        }
    }

    pub(crate) fn may_start(&self) -> Start {
        let full = self.bulkhead.is_some_and(|most| self.count(&[Branch::Live]) >= most);
        if self.phase != SplitPhase::Open || full {
            return Start::Blocked;
        }
        if let Some(&index) = self.queue.first() {
            return Start::Again(index);
        }
        let index = self.branches.len() as u32;
        let none_left = self.total.is_some_and(|total| index >= total);
        if none_left || (self.hedged && !self.hedge_open) { Start::Blocked } else { Start::Fresh(index) }
    }

    pub(crate) fn started(&mut self, start: Start) {
        match start {
            Start::Fresh(_) => {
                self.branches.push(Branch::Live);
                self.hedge_open = false;
            }
            Start::Again(index) => {
                self.queue.remove(0);
                self.branches[index as usize] = Branch::Live;
            }
            Start::Blocked => {}
        }
    }

    /// Takes in a legal event and returns the verdict that must follow.
    pub(crate) fn apply(&mut self, event: SplitEvent, index: u32, answer: Verdict) -> Verdict {
        let at = index as usize;
        let verdict = match event {
            SplitEvent::Opening => {
                self.phase = SplitPhase::Open;
                self.hedge_open = true;
                if self.rule.strategy == Strategy::Custom && self.total != Some(0) {
                    Verdict::Wait
                } else {
                    self.table(false)
                }
            }
            SplitEvent::Succeeded => {
                self.branches[at] = Branch::Ok;
                self.table(false)
            }
            SplitEvent::Failed => {
                self.branches[at] = Branch::Bad;
                self.hedge_open |= at + 1 == self.branches.len();
                self.table(false)
            }
            SplitEvent::BackingOff => {
                self.branches[at] = Branch::BackingOff;
                Verdict::Wait
            }
            SplitEvent::RetryDue => {
                self.branches[at] = Branch::Queued;
                self.queue.push(index);
                Verdict::Wait
            }
            SplitEvent::HedgeDue => {
                self.hedge_open = true;
                Verdict::Wait
            }
            SplitEvent::Withdraw => {
                self.branches.pop();
                self.hedge_open = true;
                Verdict::Wait
            }
            SplitEvent::SourceEnded => {
                self.total = Some(self.branches.len() as u32);
                self.table(false)
            }
            SplitEvent::Sized => {
                self.total = Some(index);
                match self.table(false) {
                    Verdict::Ask if index > self.ok() + self.bad() => Verdict::Wait,
                    verdict => verdict,
                }
            }
            SplitEvent::Deadline => {
                self.timed_out = true;
                self.table(true)
            }
            SplitEvent::Answer => {
                self.phase = SplitPhase::Open;
                let nothing_pending = self.total == Some(self.ok() + self.bad());
                if answer == Verdict::Wait && nothing_pending { Verdict::Fail } else { answer }
            }
            SplitEvent::Dropped => {
                self.branches[at] = Branch::Gone;
                Verdict::Wait
            }
            SplitEvent::Stop => {
                self.over(SplitPhase::Stopped);
                Verdict::Wait
            }
        };
        match verdict {
            Verdict::Wait => {}
            Verdict::Proceed => self.over(SplitPhase::Proceeded),
            Verdict::Fail => self.over(SplitPhase::Failed),
            Verdict::Ask => self.phase = SplitPhase::Asking,
        }
        verdict
    }

    pub(crate) fn over(&mut self, phase: SplitPhase) {
        self.phase = phase;
        self.queue.clear();
        for branch in &mut self.branches {
            if matches!(branch, Branch::BackingOff | Branch::Queued) {
                *branch = Branch::Gone;
            }
        }
    }

    pub(crate) fn table(&self, deadline: bool) -> Verdict {
        table(&self.rule, self.total, self.ok(), self.bad(), deadline)
    }
}

pub(crate) fn report(
    split: &mut SplitMachine,
    event: SplitEvent,
    index: u32,
    answer: Verdict,
) -> Result<Verdict, MachineError> {
    let none = |()| Verdict::Wait;
    match event {
        SplitEvent::Opening => split.opening(),
        SplitEvent::Succeeded => split.succeeded(index),
        SplitEvent::Failed => split.failed(index),
        SplitEvent::BackingOff => split.backing_off(index).map(none),
        SplitEvent::RetryDue => split.retry_due(index).map(none),
        SplitEvent::HedgeDue => split.hedge_due().map(none),
        SplitEvent::Withdraw => split.withdraw(index).map(none),
        SplitEvent::SourceEnded => split.source_ended(),
        SplitEvent::Sized => split.sized(index),
        SplitEvent::Deadline => split.deadline(),
        SplitEvent::Answer => split.answer(answer),
        SplitEvent::Dropped => split.dropped(index).map(none),
        SplitEvent::Stop => {
            split.stop();
            Ok(Verdict::Wait)
        }
    }
}

pub(crate) fn check(split: &SplitMachine, model: &Model) {
    let (ok, bad, live) = (model.ok(), model.bad(), model.count(&[Branch::Live]));
    let drawn = model.branches.len() as u32;
    assert_eq!(split.phase(), model.phase);
    assert_eq!((split.ok(), split.bad(), split.live()), (ok, bad, live));
    let pending = model.total.map(|total| total - ok - bad);
    assert_eq!(split.progress(), Progress { succeeded: ok, failed: bad, pending, total: model.total });
    assert_eq!((split.rule(), split.timed_out()), (&model.rule, model.timed_out));
    assert_eq!(split.retrying(), model.count(&[Branch::BackingOff, Branch::Queued]));
    assert_eq!(split.drawn(), drawn);
    assert_eq!(split.is_settled(), model.phase.is_final() && live == 0);
    assert_eq!(split.has_retries_due(), !model.queue.is_empty());
    assert_eq!(split.may_start(), model.may_start() != Start::Blocked);
    let ended: BTreeSet<u32> = split.ok_order().iter().chain(split.bad_order()).copied().collect();
    assert_eq!(ended.len() as u32, ok + bad, "a branch ends once");
    if split.is_decided() {
        assert_eq!(split.total(), Some(model.total.unwrap_or(drawn)));
        assert_eq!(Some(ok + bad + split.cancelled()), split.total());
    } else {
        assert_eq!(ok + bad + split.live() + split.retrying(), drawn);
        assert_eq!(split.cancelled(), 0);
    }
}
