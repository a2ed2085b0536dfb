//! Drives one split: starts what the machine hands out, reports what ends, cancels and awaits the losers.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;

use crate::driver::attempt::{AttemptFacts, AttemptOutcome, BranchAttempt, Work};
use crate::driver::slice::Slice;
use crate::driver::timers::{Due, Timers};
use crate::driver::{JoinConfig, JoinProgress, JoinStrategy, MemoryStore, SplitResult, SplitTaskResult, TaskFailure};
use crate::error::MachineError;
use crate::host::{BoxError, SharedTask, TaskResult};
use crate::join::Verdict;
use crate::policy::RetryPolicy;
use crate::split::{SplitMachine, SplitPhase, Start};
use crate::trace::{Observed, TraceEvent, tell};

/// Branches drawn one by one.
pub(crate) type BranchIter<S> = Box<dyn Iterator<Item = SharedTask<S>> + Send>;

/// Makes the branches of one run of a split.
pub(crate) type BranchSource<S> = dyn Fn(&MemoryStore) -> Result<BranchIter<S>, BoxError> + Send + Sync;

/// Where branches come from.
pub(crate) enum Branches<S> {
    List(Arc<[SharedTask<S>]>),
    Source(Box<BranchSource<S>>),
}

/// What is registered for a split.
pub(crate) struct SplitSpec<S> {
    pub(crate) branches: Branches<S>,
    pub(crate) join: JoinConfig<S>,
    pub(crate) retry: RetryPolicy,
    pub(crate) attempt_timeout: Option<Duration>,
}

/// How a split came out.
pub(crate) enum Decision {
    Proceeded,
    Failed,
    TimedOut,
    /// The source or the join function failed.
    Broken(TaskFailure),
    /// The run stopped it.
    Stopped,
}

/// What a split leaves behind.
pub(crate) struct SplitEnd<S> {
    pub(crate) decision: Decision,
    pub(crate) result: Arc<SplitResult<S>>,
    /// Whether the result is to be stored.
    pub(crate) stores: bool,
}

/// The tasks of branches that may begin.
enum Drawing<S> {
    List(Arc<[SharedTask<S>]>),
    /// The tasks handed out are kept only where a retry may ask for them.
    Lazy {
        source: Option<BranchIter<S>>,
        kept: HashMap<u32, SharedTask<S>>,
    },
}

pub(crate) struct SplitRun<S> {
    machine: SplitMachine,
    spec: Arc<SplitSpec<S>>,
    state: S,
    store: MemoryStore,
    drawing: Drawing<S>,
    running: FuturesUnordered<BranchAttempt<S>>,
    /// Branches between two attempts: which attempt comes next, and when the first began.
    backing_off: HashMap<u32, (u32, Instant)>,
    timers: Timers,
    successes: Vec<SplitTaskResult<S>>,
    errors: Vec<SplitTaskResult<S>>,
    opened: Instant,
    /// The last look at the clock: one per completion is enough, for a branch that runs at once began when the one
    /// before it ended.
    now: Instant,
    broken: Option<TaskFailure>,
    losers_cancelled: bool,
    observer: Observed<S>,
}

impl<S: Clone + Send + Sync + 'static> SplitRun<S> {
    /// A split that was entered just now.
    pub(crate) fn new(spec: Arc<SplitSpec<S>>, state: S, store: &MemoryStore, observer: &Observed<S>) -> Self {
        let mut broken = None;
        let (drawing, total) = match &spec.branches {
            Branches::List(tasks) => (Drawing::List(Arc::clone(tasks)), u32::try_from(tasks.len()).ok()),
            Branches::Source(source) => {
                let made = catch_unwind(AssertUnwindSafe(|| source(store)));
                let source = match made {
                    Ok(Ok(source)) => Some(source),
                    Ok(Err(error)) => {
                        broken = Some(TaskFailure::Error(error));
                        None
                    }
                    Err(payload) => {
                        broken = Some(TaskFailure::panicked(payload.as_ref()));
                        None
                    }
                };
                (Drawing::Lazy { source, kept: HashMap::new() }, None)
            }
        };
        let hedged = spec.join.hedge_delay.is_some();
        let now = Instant::now();
        Self {
            machine: SplitMachine::new(spec.join.rule(), total, spec.join.bulkhead, hedged),
            state,
            store: store.clone(),
            drawing,
            running: FuturesUnordered::new(),
            backing_off: HashMap::new(),
            timers: Timers::default(),
            successes: Vec::new(),
            errors: Vec::new(),
            opened: now,
            now,
            broken,
            losers_cancelled: false,
            observer: observer.clone(),
            spec,
        }
    }

    /// Ends the split without a verdict; poll it on until it is ready, for its losers to end.
    pub(crate) fn stop(&mut self) {
        self.machine.stop();
    }

    /// Drives the split. Ready when it is decided and no branch of it runs any more.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<SplitEnd<S>, MachineError>> {
        match self.drive(cx) {
            Ok(Poll::Ready(())) => Poll::Ready(Ok(self.end())),
            Ok(Poll::Pending) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, MachineError> {
        let mut slice = Slice::new();
        if self.machine.phase() == SplitPhase::New {
            self.open()?;
        } else {
            self.now = Instant::now();
        }
        loop {
            self.fire_timers()?;
            loop {
                match self.machine.next_start() {
                    Start::Fresh(index) => self.begin(index, cx)?,
                    Start::Again(index) => self.begin_again(index, cx)?,
                    Start::Blocked => break,
                }
                if slice.is_over() {
                    cx.waker().wake_by_ref();
                    return Ok(Poll::Pending);
                }
            }
            if self.machine.is_decided() {
                return self.await_losers(cx);
            }
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some((facts, outcome))) => {
                    self.completed(facts, outcome)?;
                    // With Tokio's budget spent every other branch would be polled in vain: the square of their number.
                    if slice.is_over() || !has_budget_remaining() {
                        cx.waker().wake_by_ref();
                        return Ok(Poll::Pending);
                    }
                }
                Poll::Ready(None) | Poll::Pending => {
                    if self.timers.poll(cx).is_pending() {
                        return Ok(Poll::Pending);
                    }
                }
            }
        }
    }

    fn open(&mut self) -> Result<(), MachineError> {
        tell(&self.observer, || TraceEvent::SplitStart(self.state.clone()));
        if self.broken.is_some() {
            self.machine.stop();
            return Ok(());
        }
        if let Some(timeout) = self.spec.join.timeout {
            self.timers.set(self.opened, timeout, Due::Deadline);
        }
        let verdict = self.machine.opening()?;
        self.take(verdict)
    }

    fn begin(&mut self, index: u32, cx: &mut Context<'_>) -> Result<(), MachineError> {
        let task = match &mut self.drawing {
            Drawing::List(tasks) => {
                let work = Self::work(&self.spec, &tasks[index as usize], &self.store);
                return self.run(index, 1, self.now, work, cx);
            }
            Drawing::Lazy { source, .. } => catch_unwind(AssertUnwindSafe(|| source.as_mut().and_then(Iterator::next))),
        };
        match task {
            Ok(Some(task)) => {
                let work = Self::work(&self.spec, &task, &self.store);
                if let (Drawing::Lazy { kept, .. }, true) = (&mut self.drawing, self.spec.retry.retries() > 0) {
                    kept.insert(index, task);
                }
                self.run(index, 1, self.now, work, cx)
            }
            Ok(None) => {
                self.machine.withdraw(index)?;
                let verdict = self.machine.source_ended()?;
                self.take(verdict)
            }
            Err(payload) => {
                self.machine.withdraw(index)?;
                self.broken = Some(TaskFailure::panicked(payload.as_ref()));
                self.machine.stop();
                Ok(())
            }
        }
    }

    fn begin_again(&mut self, index: u32, cx: &mut Context<'_>) -> Result<(), MachineError> {
        let task = match &self.drawing {
            Drawing::List(tasks) => tasks.get(index as usize),
            Drawing::Lazy { kept, .. } => kept.get(&index),
        };
        let (Some(task), Some((attempt, first))) = (task, self.backing_off.remove(&index)) else {
            unreachable!("only a branch that backed off begins again");
        };
        let work = Self::work(&self.spec, task, &self.store);
        self.run(index, attempt, first, work, cx)
    }

    fn work(spec: &SplitSpec<S>, task: &SharedTask<S>, store: &MemoryStore) -> Work<S> {
        if spec.join.spawned {
            Work::spawned(task, store, spec.attempt_timeout)
        } else {
            Work::in_place(task, store, spec.attempt_timeout)
        }
    }

    /// Polls an attempt where it begins. Only one that suspends is given a place among the running ones, which polls it
    /// once more: a second poll is cheaper than a place for each.
    fn run(
        &mut self,
        index: u32,
        attempt: u32,
        first: Instant,
        mut work: Work<S>,
        cx: &mut Context<'_>,
    ) -> Result<(), MachineError> {
        if attempt == 1 {
            tell(&self.observer, || TraceEvent::BranchStart(self.state.clone(), index));
            if let Some(delay) = self.spec.join.hedge_delay {
                self.timers.set(self.now, delay, Due::Hedge(index));
            }
        }
        let facts = AttemptFacts { index, attempt, first, started: self.now };
        if !self.spec.join.spawned {
            if let Poll::Ready(outcome) = work.poll(cx) {
                return self.completed(facts, outcome);
            }
        }
        self.running.push(BranchAttempt { facts, work });
        Ok(())
    }

    fn completed(&mut self, facts: AttemptFacts, outcome: AttemptOutcome<S>) -> Result<(), MachineError> {
        let AttemptFacts { index, attempt, first, started } = facts;
        self.now = Instant::now();
        let duration = self.now.duration_since(started);
        let result = match outcome {
            Ok(TaskResult::Split(..)) => {
                Err(TaskFailure::Unfit("expected a state or an output from a branch, got a split"))
            }
            outcome => outcome,
        };
        let verdict = match &result {
            Ok(_) => {
                tell(&self.observer, || TraceEvent::BranchSuccess(self.state.clone(), index));
                self.machine.succeeded(index)?
            }
            Err(failure) => {
                if let Some(delay) = self.delay(failure, attempt, first) {
                    return self.back_off(index, attempt + 1, first, delay);
                }
                tell(&self.observer, || TraceEvent::BranchFailure(self.state.clone(), index));
                self.machine.failed(index)?
            }
        };
        let column = if result.is_ok() { &mut self.successes } else { &mut self.errors };
        column.push(SplitTaskResult { task_index: index, result, attempts: attempt, duration });
        if let Drawing::Lazy { kept, .. } = &mut self.drawing {
            if !kept.is_empty() {
                kept.remove(&index);
            }
        }
        if verdict == Verdict::Wait { Ok(()) } else { self.take(verdict) }
    }

    fn delay(&self, failure: &TaskFailure, attempt: u32, first: Instant) -> Option<Duration> {
        if self.spec.retry.retries() == 0 || !failure.is_retryable() {
            return None;
        }
        retry_delay(&self.spec.retry, attempt, self.now.duration_since(first))
    }

    fn back_off(&mut self, index: u32, attempt: u32, first: Instant, delay: Duration) -> Result<(), MachineError> {
        self.machine.backing_off(index)?;
        tell(&self.observer, || TraceEvent::Retry(self.state.clone(), Some(index), attempt));
        self.backing_off.insert(index, (attempt, first));
        if delay.is_zero() {
            return self.machine.retry_due(index);
        }
        self.timers.set(self.now, delay, Due::Retry(index));
        Ok(())
    }

    /// Takes in a verdict: asks the user's function where it is to be asked.
    fn take(&mut self, mut verdict: Verdict) -> Result<(), MachineError> {
        while verdict == Verdict::Ask {
            let JoinStrategy::Custom(decide) = &self.spec.join.strategy else {
                unreachable!("only a custom join asks");
            };
            let counts = self.machine.progress();
            let progress = JoinProgress {
                succeeded: counts.succeeded,
                failed: counts.failed,
                pending: counts.pending,
                total: counts.total,
                elapsed: self.now.duration_since(self.opened),
            };
            verdict = match catch_unwind(AssertUnwindSafe(|| decide(progress))) {
                Ok(Verdict::Ask) => {
                    let what = "expected Wait, Proceed or Fail from the join function, got Ask";
                    self.broken = Some(TaskFailure::Unfit(what));
                    self.machine.stop();
                    return Ok(());
                }
                Ok(answer) => self.machine.answer(answer)?,
                Err(payload) => {
                    self.broken = Some(TaskFailure::panicked(payload.as_ref()));
                    self.machine.stop();
                    return Ok(());
                }
            };
        }
        if verdict != Verdict::Wait {
            tell(&self.observer, || TraceEvent::Join(self.state.clone(), verdict == Verdict::Proceed));
        }
        Ok(())
    }

    fn fire_timers(&mut self) -> Result<(), MachineError> {
        if self.timers.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        while !self.machine.is_decided() {
            let Some(due) = self.timers.pop_due(now) else { break };
            match due {
                Due::Deadline => {
                    tell(&self.observer, || TraceEvent::SplitTimeout(self.state.clone()));
                    let verdict = self.machine.deadline()?;
                    self.take(verdict)?;
                }
                Due::Retry(index) => self.machine.retry_due(index)?,
                // A younger branch has a timer of its own.
                Due::Hedge(index) if self.machine.drawn() == index + 1 => self.machine.hedge_due()?,
                Due::Hedge(_) => {}
            }
        }
        Ok(())
    }

    /// Cancels the losers, once, and waits until they have ended.
    fn await_losers(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, MachineError> {
        if !self.losers_cancelled {
            self.losers_cancelled = true;
            self.timers.clear();
            if let Drawing::Lazy { source, .. } = &mut self.drawing {
                let source = source.take();
                let _ = catch_unwind(AssertUnwindSafe(move || drop(source)));
            }
            for BranchAttempt { facts, work } in std::mem::take(&mut self.running) {
                match work.cancel() {
                    Some(work) => self.running.push(BranchAttempt { facts, work }),
                    None => self.machine.dropped(facts.index)?,
                }
            }
        }
        while let Poll::Ready(Some((facts, _))) = self.running.poll_next_unpin(cx) {
            self.machine.dropped(facts.index)?;
        }
        Ok(if self.machine.is_settled() { Poll::Ready(()) } else { Poll::Pending })
    }

    fn end(&mut self) -> SplitEnd<S> {
        let mut cancelled = Vec::new();
        if self.machine.cancelled() > 0 {
            let total = self.machine.total().unwrap_or(0);
            let mut ended = vec![false; total as usize];
            for &index in self.machine.ok_order().iter().chain(self.machine.bad_order()) {
                ended[index as usize] = true;
            }
            cancelled.extend((0..total).filter(|&index| !ended[index as usize]));
            for &index in &cancelled {
                tell(&self.observer, || TraceEvent::BranchCancelled(self.state.clone(), index));
            }
        }
        let decision = match (self.broken.take(), self.machine.phase()) {
            (Some(failure), _) => Decision::Broken(failure),
            (None, SplitPhase::Proceeded) => Decision::Proceeded,
            (None, SplitPhase::Stopped) => Decision::Stopped,
            // PartialTimeout has its say at the deadline: what it refuses is a failed join.
            _ if self.machine.timed_out() && !matches!(self.spec.join.strategy, JoinStrategy::PartialTimeout) => {
                Decision::TimedOut
            }
            _ => Decision::Failed,
        };
        let successes = std::mem::take(&mut self.successes);
        let errors = std::mem::take(&mut self.errors);
        SplitEnd {
            decision,
            result: Arc::new(SplitResult { successes, errors, cancelled }),
            stores: self.spec.join.store_partial_results,
        }
    }
}

/// What the policy says, with chance drawn here: the machines have none.
pub(crate) fn retry_delay(policy: &RetryPolicy, failed_attempts: u32, elapsed: Duration) -> Option<Duration> {
    let delay = policy.delay(failed_attempts, elapsed.as_secs_f64(), random_unit())?;
    Some(Duration::try_from_secs_f64(delay).unwrap_or(Duration::MAX))
}

/// A number in [-1, 1], good enough to keep retries apart. Every `RandomState` is keyed anew by the standard library.
pub(crate) fn random_unit() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 52) as f64 - 1.0
}
