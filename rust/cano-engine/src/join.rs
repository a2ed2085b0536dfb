//! When a split is decided: counts of completed branches in, a verdict out.
//!
//! The rules are turned into three bounds as soon as the number of branches `N` is known, so that a completion costs
//! an increment and two compares:
//!
//! | strategy                   | `ok_bound` | `bad_bound`    | `end_bound` |
//! |----------------------------|------------|----------------|-------------|
//! | `All`                      | N          | 1              | –           |
//! | `All` without `fail_fast`  | N          | –              | N           |
//! | `Any`                      | 1          | N              | –           |
//! | `Quorum`, `PartialResults` | n          | N − n + 1      | –           |
//! | `Percentage`               | need       | N − need + 1   | –           |
//! | `PartialTimeout`           | –          | –              | N           |
//! | `Custom`                   | 0 (asks)   | 0 (asks)       | –           |
//!
//! – is a bound that no count reaches. While `N` is unknown (a lazy source), every bound that contains it is one.

use crate::error::MachineError;

/// What decides a split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy {
    /// Every branch succeeds.
    All,
    /// One branch succeeds.
    Any,
    /// This many branches succeed.
    Quorum(u32),
    /// This share of the branches succeeds, in (0, 1].
    Percentage(f64),
    /// This many branches succeed; the rest is not waited for.
    PartialResults(u32),
    /// Every branch ended, or the deadline came.
    PartialTimeout,
    /// The user's function decides; the machine answers [`Verdict::Ask`].
    Custom,
}

/// A strategy with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JoinRule {
    /// What decides.
    pub strategy: Strategy,
    /// Whether the first failure decides `All`; the others do not look at it.
    pub fail_fast: bool,
    /// How many successes `PartialTimeout` wants at its end; the others do not look at it.
    pub min_successes: u32,
}

impl JoinRule {
    /// A rule with `fail_fast` and no minimum of successes.
    pub const fn new(strategy: Strategy) -> Self {
        Self { strategy, fail_fast: true, min_successes: 0 }
    }
}

/// What the counts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Undecided.
    Wait,
    /// The run goes on at the join state.
    Proceed,
    /// The join has failed.
    Fail,
    /// The driver must call the user's function and hand its answer to [`SplitMachine::answer`](crate::SplitMachine::answer).
    Ask,
}

/// A split in numbers, as a user's function sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Branches that succeeded.
    pub succeeded: u32,
    /// Branches that failed for good.
    pub failed: u32,
    /// Branches that have not ended, also those not begun; `None` while the source is not exhausted.
    pub pending: Option<u32>,
    /// The number of branches; `None` while the source is not exhausted.
    pub total: Option<u32>,
}

/// A bound that no count reaches.
pub(crate) const UNBOUNDED: u32 = u32::MAX;

/// How many of `total` branches must succeed for a share in (0, 1].
///
/// The smallest count that is at least `share * total`. Differences below 1e-9 are rounding of the product and ignored:
/// 0.07 of 100 is 7, though `0.07 * 100.0` is a little more.
///
/// ```
/// assert_eq!(cano_engine::percentage_need(0.07, 100), 7);
/// ```
pub fn percentage_need(share: f64, total: u32) -> u32 {
    (share * f64::from(total) - 1e-9).ceil().max(0.0) as u32
}

/// Counts the branches of one split and says when they decide it.
///
/// It keeps no phase: asking it again after a decision is not noticed here but in
/// [`SplitMachine`](crate::SplitMachine), which owns one.
///
/// ```
/// use cano_engine::{Join, JoinRule, Strategy, Verdict};
///
/// let mut join = Join::new(JoinRule::new(Strategy::Quorum(2)), Some(3));
/// assert_eq!(join.opening(), Verdict::Wait);
/// assert_eq!(join.succeeded(), Verdict::Wait);
/// assert_eq!(join.failed(), Verdict::Wait);
/// assert_eq!(join.succeeded(), Verdict::Proceed);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    ok: u32,
    bad: u32,
    ok_bound: u32,
    bad_bound: u32,
    end_bound: u32,
    total: Option<u32>,
    rule: JoinRule,
}

impl Join {
    /// Starts counting; `total` is `None` for a lazy source that cannot say how much it holds.
    pub fn new(rule: JoinRule, total: Option<u32>) -> Self {
        let mut join =
            Self { ok: 0, bad: 0, ok_bound: UNBOUNDED, bad_bound: UNBOUNDED, end_bound: UNBOUNDED, total: None, rule };
        join.set_total(total);
        join
    }

    fn set_total(&mut self, total: Option<u32>) {
        // With more wanted than there are, the join fails before a branch has ended: bound 0.
        let too_many_failed =
            |n: u32| total.map_or(UNBOUNDED, |all| all.checked_sub(n).map_or(0, |rest| rest.saturating_add(1)));
        let all = total.unwrap_or(UNBOUNDED);
        let (ok, bad, end) = match self.rule.strategy {
            Strategy::All if self.rule.fail_fast => (all, 1, UNBOUNDED),
            Strategy::All => (all, UNBOUNDED, all),
            Strategy::Any => (1, all, UNBOUNDED),
            Strategy::Quorum(n) | Strategy::PartialResults(n) => (n, too_many_failed(n), UNBOUNDED),
            Strategy::Percentage(share) => {
                let need = total.map_or(UNBOUNDED, |all| percentage_need(share, all));
                (need, too_many_failed(need), UNBOUNDED)
            }
            Strategy::PartialTimeout => (UNBOUNDED, UNBOUNDED, all),
            Strategy::Custom => (0, 0, UNBOUNDED),
        };
        self.ok_bound = ok;
        self.bad_bound = bad;
        self.end_bound = end;
        self.total = total;
    }

    /// The verdict on the counts as they are.
    #[inline]
    pub fn verdict(&self) -> Verdict {
        if self.ok < self.ok_bound && self.bad < self.bad_bound && self.ok + self.bad < self.end_bound {
            return Verdict::Wait;
        }
        self.reached()
    }

    /// Which of the bounds was reached. Success goes first: `Quorum(0)` of nothing proceeds.
    fn reached(&self) -> Verdict {
        match self.rule.strategy {
            Strategy::Custom => Verdict::Ask,
            _ if self.ok >= self.ok_bound => Verdict::Proceed,
            // Too many have failed, or all have ended: what is there decides, as it does when time is over.
            _ => self.deadline(),
        }
    }

    /// The verdict before any branch has begun: a split can be decided by its numbers alone.
    pub fn opening(&self) -> Verdict {
        match self.rule.strategy {
            // The function is asked after a completion, and there has been none; of nothing it is asked at once.
            Strategy::Custom if self.total != Some(0) => Verdict::Wait,
            _ => self.verdict(),
        }
    }

    /// Counts a success.
    #[inline]
    pub fn succeeded(&mut self) -> Verdict {
        self.ok += 1;
        self.verdict()
    }

    /// Counts a final failure.
    #[inline]
    pub fn failed(&mut self) -> Verdict {
        self.bad += 1;
        self.verdict()
    }

    /// Takes in how many branches there are, now that the lazy source is exhausted.
    ///
    /// # Errors
    ///
    /// [`MachineError::Total`] when more have ended than that.
    pub fn source_ended(&mut self, total: u32) -> Result<Verdict, MachineError> {
        let ended = self.ok + self.bad;
        if total < ended {
            return Err(MachineError::Total { total, ended });
        }
        self.set_total(Some(total));
        Ok(self.verdict())
    }

    /// The verdict when time is over, `Proceed` or `Fail`: `PartialTimeout` counts, the others have failed.
    pub fn deadline(&self) -> Verdict {
        let counts = matches!(self.rule.strategy, Strategy::PartialTimeout);
        if counts && self.ok + self.bad > 0 && self.ok >= self.rule.min_successes {
            Verdict::Proceed
        } else {
            Verdict::Fail
        }
    }

    /// What the user's function decided, made `Fail` where it waits for nothing.
    pub fn answer(&self, verdict: Verdict) -> Verdict {
        if verdict == Verdict::Wait && self.total == Some(self.ok + self.bad) { Verdict::Fail } else { verdict }
    }

    /// The counts as a user's function sees them.
    pub fn progress(&self) -> Progress {
        Progress {
            succeeded: self.ok,
            failed: self.bad,
            pending: self.total.map(|total| total - self.ok - self.bad),
            total: self.total,
        }
    }

    /// Branches that succeeded.
    pub fn ok(&self) -> u32 {
        self.ok
    }

    /// Branches that failed for good.
    pub fn bad(&self) -> u32 {
        self.bad
    }

    /// The number of branches, once it is known.
    pub fn total(&self) -> Option<u32> {
        self.total
    }

    /// What decides.
    pub fn rule(&self) -> &JoinRule {
        &self.rule
    }
}
