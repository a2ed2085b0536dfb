//! Turns of the loop: what ends one, what begins one.

use pyo3::intern;
use pyo3::prelude::*;

use super::entered::Entered;
use super::{CANCELS, Key, SLICE, SplitDriver, State, tell};
use crate::branch::{self, Branch, Outcome, park};
use crate::clock::Stopwatch;
use crate::columns::Row;
use crate::current::call_soon;
use crate::hook::Hook;
use crate::threads::Landed;
use crate::timers::Due;

impl SplitDriver {
    /// Ends a turn of the engine's: start what may start, and schedule the batch of bare yields behind it all.
    pub(crate) fn end_turn(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let state = self.state()?;
        if state.pumping.get() {
            return Ok(());
        }
        if state.closed.get() {
            // The caller is gone; what was cancelled still cleans up.
            return self.schedule_batch(slf, state);
        }
        let may_start = state.machine.borrow().may_start();
        let mut answer = Ok(());
        // While the start loop waits for its next slice nobody else starts anything, or slices would add up in a turn.
        if may_start && !state.pump_scheduled.get() {
            answer = self.pump(slf, state);
            // Behind the start loop: retries that are due go first, and then there may be room for a fresh branch.
            self.give_room(py, state)?;
        }
        self.schedule_batch(slf, state)?;
        let decided = state.machine.borrow().is_decided();
        if decided {
            self.wake(slf, state)?;
        }
        answer
    }

    pub(super) fn schedule_batch(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let batch = std::mem::take(&mut *state.batch.borrow_mut());
        if batch.is_empty() {
            return Ok(());
        }
        let scheduled = Hook::batch(slf, begins_slice(state), batch);
        let answer = scheduled.and_then(|hook| self.have_resumed(slf, state, hook, None));
        if answer.is_err() {
            state.slice_due.set(false); // whatever it was to begin
        }
        answer
    }

    pub(super) fn schedule_backlog(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        call_soon(self.event_loop.bind(slf.py()), Hook::backlog(slf, begins_slice(state))?.as_any())
    }

    /// What is scheduled first for a turn begins the time slice that all shares that resumes branches in it.
    fn begin_slice(&self, py: Python<'_>, state: &State) -> PyResult<Stopwatch> {
        state.slice_due.set(false);
        let watch = self.clock.stopwatch(py)?;
        state.slice_end.set(watch.started() + SLICE);
        Ok(watch)
    }

    /// Has the loop call a hook that resumes branches; if it does not take it, they are in the next batch.
    fn have_resumed(
        &self,
        slf: &Bound<'_, Self>,
        state: &State,
        hook: Bound<'_, Hook>,
        future: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let event_loop = self.event_loop.bind(py);
        let answer = match future {
            None => call_soon(event_loop, hook.as_any()),
            Some(future) => event_loop.call_method1(intern!(py, "call_soon"), (&hook, future)).map(drop),
        };
        if answer.is_err() {
            state.batch.borrow_mut().splice(0..0, hook.get().take_branches());
        }
        answer
    }

    /// The callback that `schedule_pump` asked for has come; `guarded` ends the turn, and so pumps.
    pub(crate) fn pump_is_due(&self) -> PyResult<()> {
        self.state()?.pump_scheduled.set(false);
        Ok(())
    }

    /// Whether a time slice goes on after what was done in it, which may have failed. It ends when the loop's clock raises: what is
    /// left must not be lost for that, and the loop, which asks the clock next, says it to whom it concerns. But an interrupt that
    /// comes in the clock's code comes once.
    fn goes_on(&self, py: Python<'_>, answer: &mut PyResult<()>, watch: &Stopwatch, end: f64) -> bool {
        if answer.is_err() {
            return false;
        }
        match watch.now(&self.clock, py) {
            Ok(now) => now < end,
            Err(error) => {
                if branch::is_fatal(py, &error) {
                    *answer = Err(error);
                }
                false
            }
        }
    }

    /// Takes a step of a suspended branch.
    pub(crate) fn resume(
        &self,
        slf: &Bound<'_, Self>,
        branch: &Bound<'_, Branch>,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        let mut entered = Entered::new(slf, self.state()?);
        let answer = entered.step(branch, error);
        let left = entered.leave();
        answer.and(left)
    }

    /// It is the turn of branches that yielded bare: they are resumed, behind those whose turn it was before.
    pub(crate) fn run_batch(&self, slf: &Bound<'_, Self>, begins: bool, batch: Vec<Key>) -> PyResult<()> {
        let state = self.state()?;
        let waiting = {
            let mut backlog = state.backlog.borrow_mut();
            let waiting = !backlog.is_empty();
            backlog.extend(batch);
            waiting
        };
        if !waiting {
            return self.work_off(slf, begins);
        }
        if begins { self.begin_slice(slf.py(), state).map(drop) } else { Ok(()) }
    }

    /// Whether branches have not had their turn yet.
    pub(crate) fn has_backlog(&self) -> PyResult<bool> {
        Ok(!self.state()?.backlog.borrow().is_empty())
    }

    /// Resumes the branches whose turn it is, in order, until the time slice of this turn of the loop is over.
    pub(crate) fn work_off(&self, slf: &Bound<'_, Self>, begins: bool) -> PyResult<()> {
        let state = self.state()?;
        let py = slf.py();
        let watch = if begins { self.begin_slice(py, state) } else { self.clock.stopwatch(py) };
        let answer = watch.and_then(|watch| {
            self.resume_each(slf, state, watch, state.slice_end.get(), || state.backlog.borrow_mut().pop_front(), None)
        });
        // What is left goes before what yielded meanwhile; also when a KeyboardInterrupt got us out of the loop.
        if self.has_backlog()? {
            self.schedule_backlog(slf, state)?;
        } else if state.looks_again.get() {
            self.look_once_more(slf, state)?;
        }
        answer
    }

    /// Resumes branches that waited for `future`, in order, for at most a time slice.
    pub(crate) fn wake_together(
        &self,
        slf: &Bound<'_, Self>,
        branches: Vec<Key>,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let mut left = branches.into_iter();
        let state = self.state()?;
        let answer = self.clock.stopwatch(slf.py()).and_then(|watch| {
            self.resume_each(slf, state, watch, watch.started() + SLICE, || left.next(), Some(future))
        });
        let rest: Vec<Key> = left.collect();
        if !rest.is_empty() {
            self.have_resumed(slf, state, Hook::together(slf, rest)?, Some(future))?;
        }
        answer
    }

    /// Resumes branches until a time slice is over, with what `future` makes whoever awaits it raise.
    fn resume_each(
        &self,
        slf: &Bound<'_, Self>,
        state: &State,
        watch: Stopwatch,
        slice_end: f64,
        mut next: impl FnMut() -> Option<Key>,
        future: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        // What asyncio's own futures answer once they answer always; others may run code, which is not to find a branch current.
        let succeeded = future.is_some_and(|future| park::is_plain(future) && park::error_of(future).is_none());
        let mut answer = Ok(());
        let mut entered = Entered::new(slf, state);
        state.watch.set(Some(watch));
        while let Some(key) = next() {
            let Some(branch) = state.live.borrow().branch(py, key) else { continue };
            let error = match future {
                Some(future) if !succeeded => {
                    entered.leave()?;
                    park::error_of(future)
                }
                _ => None,
            };
            answer = entered.step(&branch, error);
            if !self.goes_on(py, &mut answer, &watch, slice_end) {
                break;
            }
        }
        let left = entered.leave();
        state.watch.set(None);
        answer.and(left)
    }

    /// Has the loop call back at the moment of the earliest timer.
    pub(super) fn arm_loop(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        let (earliest, old) = {
            let mut timers = state.timers.borrow_mut();
            let earliest = timers.all.earliest();
            if timers.armed.as_ref().map(|(when, _)| *when) == earliest {
                return Ok(());
            }
            (earliest, timers.armed.take())
        };
        if let Some((_, handle)) = old {
            handle.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        if let Some(when) = earliest {
            let handle = self.event_loop.bind(py).call_method1(intern!(py, "call_at"), (when, Hook::timers(slf)?))?;
            state.timers.borrow_mut().armed = Some((when, handle.unbind()));
        }
        Ok(())
    }

    /// The armed timer fired: do what is due.
    pub(crate) fn fire_timers(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let state = self.state()?;
        let fired = state.timers.borrow_mut().armed.take();
        drop(fired);
        let watch = match self.clock.stopwatch(py) {
            Ok(watch) => watch,
            Err(error) => {
                self.arm_loop(slf, state)?; // what is due is due in the next turn
                return Err(error);
            }
        };
        // asyncio fires a handle up to one clock resolution early; then a timer's own moment counts as reached.
        let now = watch.started() + 1e-9;
        let slice_end = watch.started() + SLICE;
        let newest = state.timers.borrow().all.newest();
        let mut expired = 0;
        let mut answer = Ok(());
        let mut entered = Entered::new(slf, state);
        state.watch.set(Some(watch));
        loop {
            let due = state.timers.borrow_mut().all.take_due(now, newest);
            let Some(due) = due else { break };
            expired += usize::from(matches!(due, Due::Attempt(_) | Due::OtherAttempt(_)));
            answer = self.is_due(slf, state, &mut entered, due);
            // What is left is due at once in the loop's next turn.
            if expired == CANCELS || !self.goes_on(py, &mut answer, &watch, slice_end) {
                break;
            }
        }
        let left = entered.leave();
        state.watch.set(None);
        self.arm_loop(slf, state)?;
        answer.and(left)
    }

    fn is_due<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        entered: &mut Entered<'_, 'py>,
        due: Due,
    ) -> PyResult<()> {
        let py = slf.py();
        if let Due::Pause(key) = due {
            let Some(branch) = self.suspended(py, key)? else { return Ok(()) };
            crate::pause::end(branch.get().state()?, py)?;
            return entered.step(&branch, None);
        }
        entered.leave()?;
        let decided = state.machine.borrow().is_decided();
        match due {
            Due::Deadline if decided => Ok(()),
            Due::Deadline => self.deadline(slf, state),
            Due::Hedge => {
                state.hedge.set(0);
                if decided { Ok(()) } else { tell(py, state, cano_engine::SplitMachine::hedge_due) }
            }
            Due::Retry(_) if decided => Ok(()),
            Due::Retry(index) => tell(py, state, |machine| machine.retry_due(index)),
            Due::Attempt(key) => match self.suspended(py, key)? {
                Some(branch) => branch::expire(&branch),
                None => Ok(()),
            },
            Due::OtherAttempt(attempt) => attempt.bind(py).call_method1(intern!(py, "expire"), (py.None(),)).map(drop),
            Due::Pause(_) => Ok(()),
            Due::StillRunning => self.still_running(slf, state),
        }
    }

    fn still_running(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        let live = state.live.borrow().indices();
        if live.is_empty() {
            return Ok(());
        }
        py.import(intern!(py, "cano._engine.losers"))?
            .call_method1(intern!(py, "warn_of_losers"), (state.scope.get(py)?, &state.spec.get().name, live))
            .map(drop)
    }

    /// Takes in the sync attempts that have landed.
    pub(crate) fn drain(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let state = self.state()?;
        self.landing.lower();
        crate::fail::point();
        let taken = self.take_from_threads(slf, state).and_then(|()| self.take_attempts(slf, state));
        let more = !(self.exchange.landed.is_empty() && self.landed.is_empty());
        if more && self.landing.raise() {
            call_soon(self.event_loop.bind(py), Hook::drain(slf)?.as_any())?;
        }
        taken
    }

    /// Takes in the attempts that workers have brought one by one, for at most a time slice.
    fn take_attempts(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        let watch = self.clock.stopwatch(py)?;
        let mut answer = Ok(());
        while let Some(attempt) = self.landed.pop() {
            answer = self.take_landed(slf, state, attempt.bind(py));
            if !self.goes_on(py, &mut answer, &watch, watch.started() + SLICE) {
                break;
            }
        }
        answer
    }

    /// Lets go of what has landed in a split that has failed of itself: nobody takes it in any more.
    pub(super) fn discard_landed(&self, py: Python<'_>) -> PyResult<()> {
        let discard = py.import(intern!(py, "cano._engine.threads"))?.getattr(intern!(py, "discard"))?;
        while let Some(attempt) = self.landed.pop() {
            discard.call1((attempt.getattr(py, intern!(py, "outcome"))?,))?;
        }
        for one in self.exchange.landed.take() {
            if let Ok(value) = one.outcome {
                discard.call1((value,))?;
            }
        }
        Ok(())
    }

    fn take_landed(&self, slf: &Bound<'_, Self>, state: &State, attempt: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if self.is_released() || attempt.getattr(intern!(py, "over"))?.is_truthy()? {
            return py
                .import(intern!(py, "cano._engine.threads"))?
                .call_method1(intern!(py, "discard"), (attempt.getattr(intern!(py, "outcome"))?,))
                .map(drop);
        }
        attempt.setattr(intern!(py, "over"), true)?;
        if let Some(timer) = attempt.getattr(intern!(py, "timer"))?.extract::<Option<u64>>()? {
            self.cancel_timer(py, timer)?;
        }
        let index: u32 = attempt.getattr(intern!(py, "index"))?.extract()?;
        let number: u32 = attempt.getattr(intern!(py, "attempt"))?.extract()?;
        let begun = attempt.getattr(intern!(py, "begun"))?.is_truthy()?;
        let removed = state.live.borrow_mut().remove_other(index);
        drop(removed);
        let error = attempt.getattr(intern!(py, "error"))?;
        let outcome = attempt.getattr(intern!(py, "outcome"))?;
        let ended: f64 = attempt.getattr(intern!(py, "ended"))?.extract()?;
        // No look at a clock that raises.
        let started = if begun { attempt.getattr(intern!(py, "started"))?.extract()? } else { ended };
        if !error.is_none() {
            return self.ended(slf, state, index, number, started, Outcome::Error, error, Some(ended));
        }
        if super::start::is_awaitable(&outcome) {
            let context = attempt.getattr(intern!(py, "context"))?;
            return self.begin(slf, state, index, number, &outcome, Some(&context), started);
        }
        self.ended(slf, state, index, number, started, Outcome::Ok, outcome, Some(ended))
    }

    /// Takes in what the workers of a sync split over data have brought, for at most a time slice.
    fn take_from_threads(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        if self.exchange.landed.is_empty() {
            return Ok(());
        }
        let py = slf.py();
        let watch = self.clock.stopwatch(py)?; // before anything is taken: it may raise
        let mut landed = self.exchange.landed.take();
        let mut answer = Ok(());
        while let Some(one) = landed.pop_front() {
            answer = self.take_one(slf, state, one);
            if !self.goes_on(py, &mut answer, &watch, watch.started() + SLICE) {
                break;
            }
        }
        if !landed.is_empty() {
            self.exchange.landed.put_back(landed);
        }
        answer
    }

    fn take_one(&self, slf: &Bound<'_, Self>, state: &State, landed: Landed) -> PyResult<()> {
        let py = slf.py();
        let Landed { index, outcome, started, ended } = landed;
        let decided = state.machine.borrow().is_decided();
        match outcome {
            Ok(value) if decided => {
                py.import(intern!(py, "cano._engine.threads"))?.call_method1(intern!(py, "discard"), (value,)).map(drop)
            }
            Err(_) if decided => Ok(()),
            Ok(value) if super::start::is_awaitable(value.bind(py)) => {
                self.begin(slf, state, index, 1, value.bind(py), None, started)
            }
            Ok(value) => {
                {
                    let mut table = state.table.borrow_mut();
                    // Not written before: nothing is let go of here.
                    table.rows[index as usize] = Row { value: Some(value), duration: ended - started };
                }
                let verdict = tell(py, state, |machine| machine.succeeded(index))?;
                if super::is_final(verdict) { self.obey(slf, state, verdict) } else { Ok(()) }
            }
            Err(error) => {
                let error = error.into_bound(py);
                self.ended(slf, state, index, 1, started, Outcome::Error, error, Some(ended))
            }
        }
    }
}

/// Whether what is about to be scheduled is the first of its turn: many small batches would add up, each with a slice of its own.
fn begins_slice(state: &State) -> bool {
    !state.slice_due.replace(true)
}
