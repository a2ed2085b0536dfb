//! Drives one run: performs the machine's actions and reports what came of them.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::driver::attempt::{AttemptOutcome, Work};
use crate::driver::flow::{Flow, Handler};
use crate::driver::slice::Slice;
use crate::driver::split::{Branches, Decision, SplitEnd, SplitRun, SplitSpec, random_unit};
use crate::driver::{CancelToken, MemoryStore, RunError, RunReport, SplitResult, StateVisit, TaskFailure};
use crate::host::TaskResult;
use crate::machine::{Action, Failure, RunMachine};
use crate::plan::StateId;
use crate::policy::RetryPolicy;
use crate::trace::{Observed, TraceEvent, tell};

/// Under which key a split's result is stored.
const SPLIT_RESULTS: &str = "split_results";

/// What a run does at the moment.
enum Step<S> {
    Task(Work<S>),
    Split(Box<SplitRun<S>>),
    BackOff(Pin<Box<Sleep>>),
    /// It has not begun, or is over.
    Nothing,
}

/// Why a run ends before its time.
#[derive(Clone, Copy)]
enum Ending {
    Cancelled,
    TimedOut(Duration),
}

/// What only a report needs, and only a run with a report keeps.
struct Notes<S> {
    began: Instant,
    entered: Instant,
    visits: Vec<StateVisit<S>>,
    splits: Vec<Arc<SplitResult<S>>>,
}

type Cancellation = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Run<S> {
    flow: Arc<Flow<S>>,
    store: MemoryStore,
    machine: RunMachine,
    step: Step<S>,
    initial: S,
    begun: bool,
    /// When the first attempt of the state's task began; read only where a policy asks for it.
    first_attempt: Option<Instant>,
    /// Why the last task or split failed, until the machine has said what that means.
    failure: Option<RunError<S>>,
    ending: Option<Ending>,
    limit: Option<(Duration, Pin<Box<Sleep>>)>,
    cancel: Option<(CancelToken, Cancellation)>,
    notes: Option<Box<Notes<S>>>,
    observer: Observed<S>,
}

impl<S: Clone + Eq + Hash + Debug + Send + Sync + 'static> Run<S> {
    pub(crate) fn new(
        flow: Arc<Flow<S>>,
        initial: S,
        store: MemoryStore,
        timeout: Option<Duration>,
        cancel: Option<CancelToken>,
        observer: Observed<S>,
        with_report: bool,
    ) -> Self {
        let notes = with_report.then(|| {
            let now = Instant::now();
            Box::new(Notes { began: now, entered: now, visits: Vec::new(), splits: Vec::new() })
        });
        Self {
            machine: RunMachine::new(Arc::clone(&flow.plan)),
            flow,
            store,
            step: Step::Nothing,
            initial,
            begun: false,
            first_attempt: None,
            failure: None,
            ending: None,
            limit: timeout.map(|limit| (limit, Box::pin(sleep(limit)))),
            cancel: cancel.map(|token| {
                let waiting = token.clone();
                let cancelled: Cancellation = Box::pin(async move { waiting.cancelled().await });
                (token, cancelled)
            }),
            notes,
            observer,
        }
    }

    /// What the run has noted; call it after the run has ended.
    pub(crate) fn report(&mut self, state: S) -> RunReport<S> {
        match self.notes.take() {
            None => RunReport { state, visits: Vec::new(), splits: Vec::new(), elapsed: Duration::ZERO },
            Some(notes) => {
                let Notes { began, visits, splits, .. } = *notes;
                RunReport { state, visits, splits, elapsed: began.elapsed() }
            }
        }
    }

    /// Drives the run. Ready when nothing of it runs any more.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<S, RunError<S>>> {
        if self.ending.is_none() {
            self.poll_ending(cx);
        }
        let polled = if self.ending.is_some() { self.poll_to_the_end(cx) } else { self.drive(cx) };
        if let Poll::Ready(outcome) = &polled {
            let reached = outcome.is_ok();
            tell(&self.observer, || TraceEvent::WorkflowEnd(reached));
        }
        polled
    }

    /// Looks whether the run is to end before its time.
    fn poll_ending(&mut self, cx: &mut Context<'_>) {
        if let Some((token, cancelled)) = &mut self.cancel {
            if token.is_cancelled() || cancelled.as_mut().poll(cx).is_ready() {
                self.ending = Some(Ending::Cancelled);
            }
        }
        if let (None, Some((limit, sleep))) = (self.ending, &mut self.limit) {
            if sleep.as_mut().poll(cx).is_ready() {
                self.ending = Some(Ending::TimedOut(*limit));
            }
        }
        if self.ending.is_some() {
            if let Step::Split(split) = &mut self.step {
                split.stop();
            }
        }
    }

    /// Cancels what runs, and waits for it.
    fn poll_to_the_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<S, RunError<S>>> {
        match std::mem::replace(&mut self.step, Step::Nothing) {
            Step::Task(work) => {
                let waited_for = work.cancel();
                debug_assert!(waited_for.is_none(), "a state's task runs in place");
            }
            Step::Split(mut split) => {
                let Poll::Ready(ended) = split.poll(cx) else {
                    self.step = Step::Split(split);
                    return Poll::Pending;
                };
                match ended {
                    Ok(SplitEnd { result, stores, .. }) => self.keep(result, stores),
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            Step::BackOff(_) | Step::Nothing => {}
        }
        // A run that has ended already is not polled again, so there is something to stop.
        if let Err(error) = self.machine.stop() {
            return Poll::Ready(Err(error.into()));
        }
        let path = self.path();
        Poll::Ready(Err(match self.ending {
            Some(Ending::TimedOut(limit)) => RunError::Timeout { limit, path },
            Some(Ending::Cancelled) | None => RunError::Cancelled { path },
        }))
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<S, RunError<S>>> {
        let mut slice = Slice::new();
        loop {
            let action = match &mut self.step {
                Step::Task(work) => match work.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(outcome) => self.task_ended(outcome),
                },
                Step::Split(split) => match split.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(end)) => self.split_ended(end),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                },
                Step::BackOff(sleep) => match sleep.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => self.machine.retry_due().map_err(RunError::from),
                },
                Step::Nothing if self.begun => unreachable!("a run that has ended is not polled again"),
                Step::Nothing => self.begin(),
            };
            match action {
                Err(error) => {
                    self.step = Step::Nothing;
                    return Poll::Ready(Err(error));
                }
                // The split has its task's place already.
                Ok(Action::Split { .. }) if matches!(self.step, Step::Split(_)) => {}
                Ok(action) => {
                    if let Some(outcome) = self.perform(action) {
                        return Poll::Ready(outcome);
                    }
                }
            }
            if slice.is_over() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    fn begin(&mut self) -> Result<Action, RunError<S>> {
        self.begun = true;
        match self.flow.id(&self.initial) {
            Some(initial) => Ok(self.machine.begin(initial)?),
            None => Err(RunError::NoHandler { state: self.initial.clone() }),
        }
    }

    /// Does what the machine says; returns how the run has ended, if it has.
    fn perform(&mut self, action: Action) -> Option<Result<S, RunError<S>>> {
        match action {
            Action::Task { state, attempt } => {
                if attempt == 1 {
                    self.entered(state);
                }
                if let Some(visit) = self.notes.as_mut().and_then(|notes| notes.visits.last_mut()) {
                    visit.attempts = attempt;
                }
                let Handler::Task { task, attempt_timeout } = &self.flow.handlers[state as usize] else {
                    unreachable!("the plan and the handlers are made together");
                };
                tell(&self.observer, || TraceEvent::TaskStart(self.flow.states[state as usize].clone(), attempt));
                self.step = Step::Task(Work::in_place(task, &self.store, *attempt_timeout));
                None
            }
            Action::Split { state } => {
                self.entered(state);
                let Handler::Split(spec) = &self.flow.handlers[state as usize] else {
                    unreachable!("the plan and the handlers are made together");
                };
                let spec = Arc::clone(spec);
                self.begin_split(spec, state);
                None
            }
            Action::BackOff { delay, attempt } => {
                let delay = Duration::try_from_secs_f64(delay).unwrap_or(Duration::MAX);
                tell(&self.observer, || TraceEvent::Retry(self.state(), None, attempt));
                if delay.is_zero() {
                    return match self.machine.retry_due() {
                        Ok(action) => self.perform(action),
                        Err(error) => Some(Err(error.into())),
                    };
                }
                self.step = Step::BackOff(Box::pin(sleep(delay)));
                None
            }
            Action::Exit(state) => {
                self.entered(state);
                self.left();
                self.step = Step::Nothing;
                Some(Ok(self.flow.states[state as usize].clone()))
            }
            Action::Fail(failure) => {
                self.step = Step::Nothing;
                Some(Err(self.error(failure)))
            }
        }
    }

    fn begin_split(&mut self, spec: Arc<SplitSpec<S>>, state: StateId) {
        let state = self.flow.states[state as usize].clone();
        self.step = Step::Split(Box::new(SplitRun::new(spec, state, &self.store, &self.observer)));
    }

    fn task_ended(&mut self, outcome: AttemptOutcome<S>) -> Result<Action, RunError<S>> {
        let failure = match outcome {
            Ok(TaskResult::Single(next)) => {
                tell(&self.observer, || TraceEvent::TaskSuccess(self.state()));
                let Some(next) = self.flow.id(&next) else { return Err(RunError::NoHandler { state: next }) };
                return Ok(self.machine.finished(next)?);
            }
            Ok(TaskResult::Split(tasks, join)) => {
                let problems = join.problems(Some(tasks.len()));
                if !problems.is_empty() {
                    return Err(RunError::Configuration(problems));
                }
                let Some(join_state) = self.flow.id(&join.join_state) else {
                    return Err(RunError::NoHandler { state: join.join_state });
                };
                tell(&self.observer, || TraceEvent::TaskSuccess(self.state()));
                let action = self.machine.fan_out(join_state)?;
                let branches = Branches::List(tasks.into());
                let spec = SplitSpec { branches, join, retry: RetryPolicy::none(), attempt_timeout: None };
                if let Action::Split { state } = action {
                    self.begin_split(Arc::new(spec), state);
                }
                return Ok(action);
            }
            Ok(TaskResult::Output(_)) => TaskFailure::Unfit("expected a state from a state's task, got an output"),
            Err(failure) => failure,
        };
        let elapsed = self.first_attempt.map_or(Duration::ZERO, |first| first.elapsed());
        let attempts = self.machine.attempt();
        let retry = &self.flow.plan.states()[self.machine.state().unwrap_or(0) as usize].retry;
        // Chance is drawn only where somebody asks for it.
        let unit = if retry.retries() == 0 { 0.0 } else { random_unit() };
        let action = self.machine.failed(failure.is_retryable(), elapsed.as_secs_f64(), unit)?;
        if let Action::Fail(_) = action {
            tell(&self.observer, || TraceEvent::TaskFailure(self.state()));
            self.failure = Some(RunError::Task { state: self.state(), attempts, failure });
        }
        Ok(action)
    }

    fn split_ended(&mut self, end: SplitEnd<S>) -> Result<Action, RunError<S>> {
        let SplitEnd { decision, result, stores } = end;
        self.keep(Arc::clone(&result), stores);
        self.step = Step::Nothing;
        let state = self.state();
        self.failure = Some(match decision {
            Decision::Proceeded => return Ok(self.machine.joined()?),
            Decision::Failed => RunError::Join { state, result },
            Decision::TimedOut => RunError::SplitTimeout { state, result },
            Decision::Broken(failure) => RunError::Source { state, failure, result },
            Decision::Stopped => RunError::Cancelled { path: self.path() },
        });
        Ok(self.machine.join_failed()?)
    }

    fn keep(&mut self, result: Arc<SplitResult<S>>, stores: bool) {
        if stores {
            self.store.put(SPLIT_RESULTS, Arc::clone(&result));
        }
        if let Some(notes) = &mut self.notes {
            notes.splits.push(result);
        }
    }

    fn error(&mut self, failure: Failure) -> RunError<S> {
        let name = |state: StateId| self.flow.states[state as usize].clone();
        match failure {
            Failure::NoHandler { state } => RunError::NoHandler { state: name(state) },
            Failure::Undeclared { state, next } => RunError::Undeclared { state: name(state), next: name(next) },
            Failure::TooManyTransitions { .. } => {
                RunError::TooManyTransitions { limit: self.machine.transitions(), path: self.path() }
            }
            Failure::Task { .. } | Failure::Join { .. } | Failure::Stopped => {
                self.failure.take().unwrap_or_else(|| RunError::Cancelled { path: self.path() })
            }
        }
    }

    #[inline]
    fn entered(&mut self, state: StateId) {
        if self.notes.is_some() {
            self.left();
            self.note_entered(state);
        }
        if self.flow.plan.states()[state as usize].retry.max_elapsed.is_some() {
            self.first_attempt = Some(Instant::now());
        }
        tell(&self.observer, || TraceEvent::StateEnter(self.flow.states[state as usize].clone()));
    }

    fn note_entered(&mut self, state: StateId) {
        let state = self.flow.states[state as usize].clone();
        if let Some(notes) = &mut self.notes {
            notes.entered = Instant::now();
            notes.visits.push(StateVisit { state, duration: Duration::ZERO, attempts: 0 });
        }
    }

    /// Completes the note on the state that is being left.
    fn left(&mut self) {
        if let Some(notes) = &mut self.notes {
            if let Some(visit) = notes.visits.last_mut() {
                visit.duration = notes.entered.elapsed();
            }
        }
    }

    /// The state the run is in.
    fn state(&self) -> S {
        self.machine.state().map_or_else(|| self.initial.clone(), |state| self.flow.states[state as usize].clone())
    }

    fn path(&self) -> Vec<S> {
        self.machine.path().map(|state| self.flow.states[state as usize].clone()).collect()
    }
}
