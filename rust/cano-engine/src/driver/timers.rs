//! What is due when, in one split: a heap and one timer of the runtime, armed for the earliest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Something that a split waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// The split's time is over.
    Deadline,
    /// The back-off of this branch is over.
    Retry(u32),
    /// The hedge delay is over of this branch, the newest when the timer was set.
    Hedge(u32),
}

/// The timers of one split. Nothing is allocated before there is one.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Due)>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    /// Adds what is due after a delay.
    pub(crate) fn set(&mut self, from: Instant, delay: Duration, due: Due) {
        // A delay beyond what the clock can say never comes.
        if let Some(at) = from.checked_add(delay) {
            self.heap.push(Reverse((at, due)));
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Takes out the earliest, if it is due by `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Due> {
        let &Reverse((at, due)) = self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some(due)
    }

    /// Ready when the earliest is due already; pending with a wake-up for it, or when there is none.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(&Reverse((at, _))) = self.heap.peek() else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }

    /// Forgets them all.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.sleep = None;
    }
}
