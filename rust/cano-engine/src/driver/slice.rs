//! A turn's worth of work: what never suspends must still let the runtime's other tasks run.

use std::time::{Duration, Instant};

/// How long one poll may go on while there is more to do.
const LENGTH: Duration = Duration::from_millis(1);

/// The clock is read once per so many steps: reading it costs about half a step.
const STEPS: u32 = 64;

/// Measures one poll. On the real clock, which a paused test clock does not stop.
pub(crate) struct Slice {
    steps: u32,
    began: Option<Instant>,
}

impl Slice {
    pub(crate) fn new() -> Self {
        Self { steps: 0, began: None }
    }

    /// Counts a step and says whether the turn is over.
    #[inline]
    pub(crate) fn is_over(&mut self) -> bool {
        self.steps += 1;
        self.steps % STEPS == 0 && self.look()
    }

    #[cold]
    fn look(&mut self) -> bool {
        let now = Instant::now();
        now.duration_since(*self.began.get_or_insert(now)) >= LENGTH
    }
}
