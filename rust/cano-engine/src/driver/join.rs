//! How a user says what decides a split.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::join::{JoinRule, Strategy, Verdict};

/// A split in numbers, for [`JoinStrategy::Custom`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinProgress {
    /// Branches that succeeded.
    pub succeeded: u32,
    /// Branches that failed for good.
    pub failed: u32,
    /// Branches that have not ended; `None` while the source is not exhausted.
    pub pending: Option<u32>,
    /// The number of branches; `None` while the source is not exhausted.
    pub total: Option<u32>,
    /// Since the split was entered.
    pub elapsed: Duration,
}

/// A user's join function.
pub(crate) type JoinFunction = Arc<dyn Fn(JoinProgress) -> Verdict + Send + Sync>;

/// What decides a split; the table is in [`crate::join`].
#[derive(Clone)]
pub enum JoinStrategy {
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
    /// A function decides after each completion, and once more when a lazy source ends. Anything but `Wait`,
    /// `Proceed` and `Fail` fails the state, and so does a panic.
    Custom(JoinFunction),
}

impl JoinStrategy {
    /// A function decides.
    pub fn custom(decide: impl Fn(JoinProgress) -> Verdict + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(decide))
    }
}

impl fmt::Debug for JoinStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("All"),
            Self::Any => f.write_str("Any"),
            Self::Quorum(n) => write!(f, "Quorum({n})"),
            Self::Percentage(share) => write!(f, "Percentage({share})"),
            Self::PartialResults(n) => write!(f, "PartialResults({n})"),
            Self::PartialTimeout => f.write_str("PartialTimeout"),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

/// How the branches of a split come together.
///
/// ```
/// use std::time::Duration;
/// use cano_engine::{JoinConfig, JoinStrategy};
///
/// let join = JoinConfig::new(JoinStrategy::Quorum(2), "merge").with_timeout(Duration::from_secs(5)).with_bulkhead(8);
/// ```
#[derive(Clone, Debug)]
pub struct JoinConfig<S> {
    pub(crate) strategy: JoinStrategy,
    pub(crate) join_state: S,
    pub(crate) timeout: Option<Duration>,
    pub(crate) bulkhead: Option<u32>,
    pub(crate) hedge_delay: Option<Duration>,
    pub(crate) store_partial_results: bool,
    pub(crate) fail_fast: bool,
    pub(crate) min_successes: u32,
    pub(crate) spawned: bool,
}

impl<S> JoinConfig<S> {
    /// A join that goes on at `join_state`, without limits.
    pub fn new(strategy: JoinStrategy, join_state: S) -> Self {
        Self {
            strategy,
            join_state,
            timeout: None,
            bulkhead: None,
            hedge_delay: None,
            store_partial_results: false,
            fail_fast: true,
            min_successes: 0,
            spawned: false,
        }
    }

    /// How long the split may take, waiting for the bulkhead and retries included.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many branches may be live at once. A branch in retry back-off is not live.
    #[must_use]
    pub fn with_bulkhead(mut self, bulkhead: u32) -> Self {
        self.bulkhead = Some(bulkhead);
        self
    }

    /// With `Any`: the next branch begins when the newest has not answered within this delay, or has failed.
    #[must_use]
    pub fn with_hedge_delay(mut self, delay: Duration) -> Self {
        self.hedge_delay = Some(delay);
        self
    }

    /// Where the run goes on.
    #[must_use]
    pub fn with_join_state(mut self, join_state: S) -> Self {
        self.join_state = join_state;
        self
    }

    /// Puts an `Arc<SplitResult<S>>` into the store, under `split_results`, before the join state's task runs, and also
    /// when the join fails.
    #[must_use]
    pub fn with_store_partial_results(mut self, store: bool) -> Self {
        self.store_partial_results = store;
        self
    }

    /// With `All`: whether the first failure decides (the default), or every branch is waited for.
    #[must_use]
    pub fn with_fail_fast(mut self, fail_fast: bool) -> Self {
        self.fail_fast = fail_fast;
        self
    }

    /// With `PartialTimeout`: how many branches must have succeeded at its end.
    #[must_use]
    pub fn with_min_successes(mut self, min_successes: u32) -> Self {
        self.min_successes = min_successes;
        self
    }

    /// Runs each branch as a task of the runtime, in parallel on its threads, instead of in place. Worth it for
    /// branches that compute; a branch that only waits costs several times more.
    #[must_use]
    pub fn spawned(mut self) -> Self {
        self.spawned = true;
        self
    }

    pub(crate) fn rule(&self) -> JoinRule {
        let strategy = match self.strategy {
            JoinStrategy::All => Strategy::All,
            JoinStrategy::Any => Strategy::Any,
            JoinStrategy::Quorum(n) => Strategy::Quorum(n),
            JoinStrategy::Percentage(share) => Strategy::Percentage(share),
            JoinStrategy::PartialResults(n) => Strategy::PartialResults(n),
            JoinStrategy::PartialTimeout => Strategy::PartialTimeout,
            JoinStrategy::Custom(_) => Strategy::Custom,
        };
        JoinRule { strategy, fail_fast: self.fail_fast, min_successes: self.min_successes }
    }

    /// What is wrong with the settings; `total` where the number of branches is known beforehand.
    pub(crate) fn problems(&self, total: Option<usize>) -> Vec<String> {
        let mut problems = Vec::new();
        if self.bulkhead == Some(0) {
            problems.push("expected a bulkhead of at least 1, got 0".to_owned());
        }
        for (name, duration) in [("timeout", self.timeout), ("hedge delay", self.hedge_delay)] {
            if duration.is_some_and(|duration| duration.is_zero()) {
                problems.push(format!("expected a {name} longer than 0"));
            }
        }
        match self.strategy {
            JoinStrategy::Percentage(share) if !(share > 0.0 && share <= 1.0) => {
                problems.push(format!("expected a percentage in (0, 1], got {share}"));
            }
            JoinStrategy::Quorum(n) | JoinStrategy::PartialResults(n) if total.is_some_and(|all| n as usize > all) => {
                problems.push(format!("{:?} wants more branches than there are", self.strategy));
            }
            JoinStrategy::PartialTimeout if self.timeout.is_none() => {
                problems.push("PartialTimeout needs a timeout: add with_timeout".to_owned());
            }
            _ => {}
        }
        if self.hedge_delay.is_some() && !matches!(self.strategy, JoinStrategy::Any) {
            problems.push(format!("a hedge delay goes with Any alone, not with {:?}", self.strategy));
        }
        problems
    }
}
