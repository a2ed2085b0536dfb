//! When a failed attempt is made again. Pure: time and randomness are handed in, so that a decision can be repeated.

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Backoff {
    /// There is one attempt.
    #[default]
    None,
    /// The same delay before every retry.
    Fixed {
        /// Attempts after the first.
        retries: u32,
        /// Seconds.
        delay: f64,
    },
    /// Delays that grow from retry to retry.
    Exponential {
        /// Attempts after the first.
        retries: u32,
        /// Seconds before the first retry.
        base: f64,
        /// What the delay is multiplied by from retry to retry.
        factor: f64,
        /// Seconds; no delay is longer.
        max_delay: f64,
        /// The share of the delay that chance adds or takes away, in [0, 1].
        jitter: f64,
    },
}

/// How often a task is tried again.
///
/// ```
/// use cano_engine::RetryPolicy;
///
/// let policy = RetryPolicy::fixed(2, 0.5);
/// assert_eq!(policy.delay(1, 0.0, 0.0), Some(0.5));
/// assert_eq!(policy.delay(3, 1.0, 0.0), None); // the first attempt and two retries have failed
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetryPolicy {
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Seconds since the first attempt began after which no attempt may begin.
    pub max_elapsed: Option<f64>,
}

impl RetryPolicy {
    /// One attempt.
    pub const fn none() -> Self {
        Self { backoff: Backoff::None, max_elapsed: None }
    }

    /// `retries` attempts after the first, each after `delay` seconds.
    pub const fn fixed(retries: u32, delay: f64) -> Self {
        Self { backoff: Backoff::Fixed { retries, delay }, max_elapsed: None }
    }

    /// Delays from `base` seconds, multiplied by `factor` from retry to retry up to `max_delay`, give or take `jitter`.
    pub const fn exponential(retries: u32, base: f64, factor: f64, max_delay: f64, jitter: f64) -> Self {
        Self { backoff: Backoff::Exponential { retries, base, factor, max_delay, jitter }, max_elapsed: None }
    }

    /// The same policy, but no attempt begins later than this many seconds after the first.
    #[must_use]
    pub const fn within(mut self, max_elapsed: f64) -> Self {
        self.max_elapsed = Some(max_elapsed);
        self
    }

    /// Attempts after the first.
    pub const fn retries(&self) -> u32 {
        match self.backoff {
            Backoff::None => 0,
            Backoff::Fixed { retries, .. } | Backoff::Exponential { retries, .. } => retries,
        }
    }

    /// Seconds to wait before the next attempt; `None` when none is left, because the retries are used up or it would
    /// begin later than `max_elapsed`.
    ///
    /// `failed_attempts` counts the failures so far (1 before the first retry), `elapsed` is seconds since the first
    /// attempt began, `unit` is the caller's randomness in [-1, 1] (0: no jitter).
    pub fn delay(&self, failed_attempts: u32, elapsed: f64, unit: f64) -> Option<f64> {
        if failed_attempts > self.retries() {
            return None;
        }
        let delay = match self.backoff {
            Backoff::None => return None,
            Backoff::Fixed { delay, .. } => delay,
            Backoff::Exponential { base, factor, max_delay, jitter, .. } => {
                let retry = f64::from(failed_attempts.saturating_sub(1));
                // 0 times an overflow is no number, so a base of 0 goes its own way.
                let grown = if base > 0.0 { base * factor.powf(retry) } else { 0.0 };
                (grown.min(max_delay) * (1.0 + jitter * unit)).max(0.0).min(max_delay)
            }
        };
        match self.max_elapsed {
            Some(limit) if elapsed + delay > limit => None,
            _ => Some(delay),
        }
    }
}
