//! What becomes of attempts, and how a split is decided.

use std::sync::atomic::Ordering;

use cano_engine::{SplitMachine, SplitPhase, Verdict};
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;

use super::events::{Facts, Wants};
use super::live::Loser;
use super::{Attempt, CANCELS, SplitDriver, State, is_final, tell};
use crate::branch::{self, Branch, Outcome};
use crate::columns::Row;
use crate::current::call_soon;
use crate::errors::{facts, failures};
use crate::hook::Hook;
use crate::timers::Due;

/// After this many seconds a branch that has not ended since its cancellation is named in a warning.
const LOSER_PATIENCE: f64 = 5.0;

fn is_fatal(error: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>() || error.is_instance_of::<PySystemExit>()
}

/// What of an attempt matters when it ends.
struct Ended {
    index: u32,
    attempt: u32,
    started: f64,
    timed_out: bool,
}

impl SplitDriver {
    /// Takes in that a branch has ended.
    pub(crate) fn branch_ended(
        &self,
        slf: &Bound<'_, Self>,
        branch: &Bound<'_, Branch>,
        outcome: Outcome,
        payload: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let state = self.state()?;
        let ended = branch.get().state()?;
        let index = ended.index.get();
        let removed = state.live.borrow_mut().remove(ended.key.take());
        drop(removed);
        let ended = Ended {
            index,
            attempt: ended.attempt.get(),
            started: ended.started.get(),
            timed_out: ended.timed_out.get(),
        };
        self.attempt_is_over(slf, state, &ended, outcome, payload)
    }

    /// Takes in that an attempt of `_engine/attempts.py` has ended.
    pub(super) fn other_ended(
        &self,
        slf: &Bound<'_, Self>,
        attempt: &Bound<'_, PyAny>,
        outcome: Outcome,
        payload: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let state = self.state()?;
        let ended = Ended {
            index: attempt.getattr(intern!(py, "index"))?.extract()?,
            attempt: attempt.getattr(intern!(py, "attempt"))?.extract()?,
            started: attempt.getattr(intern!(py, "started"))?.extract()?,
            timed_out: attempt.getattr(intern!(py, "timed_out"))?.is_truthy()?,
        };
        // Told twice: once by `look_again`.
        let known = state.live.borrow().is_other(ended.index, attempt);
        if !known {
            return Ok(());
        }
        let removed = state.live.borrow_mut().remove_other(ended.index);
        drop(removed);
        self.attempt_is_over(slf, state, &ended, outcome, payload)
    }

    fn attempt_is_over(
        &self,
        slf: &Bound<'_, Self>,
        state: &State,
        ended: &Ended,
        outcome: Outcome,
        payload: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let decided = state.machine.borrow().is_decided();
        if decided {
            return self.lost(slf, state, ended.index, outcome, payload);
        }
        if outcome != Outcome::Cancelled {
            return self.ended(slf, state, ended.index, ended.attempt, ended.started, outcome, payload, None);
        }
        let error = self.cancellation_error(py, state, ended, payload)?;
        if ended.timed_out && state.wants.has(Wants::TIMEOUT) {
            let limit = state.limit_of(ended.index).unwrap_or(0.0).into_pyobject(py)?.into_any();
            let place = Facts {
                branch: Some(ended.index),
                attempt: Some(ended.attempt),
                value: Some(limit),
                ..Facts::default()
            };
            self.emit(py, state, Wants::TIMEOUT, place)?;
        }
        self.ended(slf, state, ended.index, ended.attempt, ended.started, Outcome::Error, error, None)
    }

    /// What a cancelled attempt of an undecided split failed with.
    fn cancellation_error<'py>(
        &self,
        py: Python<'py>,
        state: &State,
        ended: &Ended,
        payload: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let spec = state.spec.get();
        let place = facts(
            py,
            &[
                ("state", state.scope.get(py)?.getattr(intern!(py, "state"))?),
                ("task", spec.name.bind(py).clone().into_any()),
            ],
        )?;
        if ended.timed_out {
            place.set_item("attempt", ended.attempt)?;
            place.set_item("cause", payload)?;
            let limit = state.limit_of(ended.index).unwrap_or(0.0);
            failures(py)?.getattr(intern!(py, "attempt_timed_out"))?.call((limit,), Some(&place))
        } else {
            failures(py)?.getattr(intern!(py, "branch_cancelled"))?.call((payload,), Some(&place))
        }
    }

    /// Takes in the end of an attempt of an undecided split: retry it, or report it to the machine.
    #[allow(clippy::too_many_arguments)] // the facts of one attempt
    pub(super) fn ended(
        &self,
        slf: &Bound<'_, Self>,
        state: &State,
        index: u32,
        attempt: u32,
        started: f64,
        outcome: Outcome,
        payload: Bound<'_, PyAny>,
        ended: Option<f64>,
    ) -> PyResult<()> {
        let py = slf.py();
        let retries = state.retries(index);
        let special = retries || !state.own.borrow().is_empty();
        let now = match ended {
            Some(ended) => ended,
            None => self.now_in_turn(py)?,
        };
        let mut payload = payload;
        let began = if retries { state.begun.borrow().get(&index).copied() } else { None };
        let started = began.unwrap_or(started);
        let verdict = if outcome == Outcome::Ok {
            if special {
                state.forget(index);
            }
            self.record(py, state, index, attempt, now - started, Some(&payload), None)?;
            if state.wants.has(Wants::BRANCH_SUCCESS) {
                let value = Some(payload.clone());
                let place = Facts { branch: Some(index), attempt: Some(attempt), value, error: None };
                self.emit(py, state, Wants::BRANCH_SUCCESS, place)?;
            }
            tell(py, state, |machine| machine.succeeded(index))?
        } else {
            if retries {
                match self.another(py, state, index, &payload, attempt, now - started)? {
                    Ok(delay) => {
                        return self.back_off(slf, state, index, attempt, started, now, delay, &payload);
                    }
                    Err(error) => payload = error.unwrap_or(payload),
                }
            }
            if special {
                state.forget(index);
            }
            if state.outbox.is_none() && !is_fatal(&payload) {
                let noted = failures(py)?.getattr(intern!(py, "note_branch"))?.call1((&payload, index));
                if let Err(raised) = noted {
                    payload = raised.into_value(py).into_any().into_bound(py);
                }
            }
            // The branch's own, or its retry filter's.
            if is_fatal(&payload) {
                // It has ended, whatever comes of it: noted before the others are cancelled.
                state.table.borrow_mut().errors.insert(index, payload.clone().unbind());
                state.fatal.set(Some(payload.unbind()));
                self.stop(slf, state)?;
                return tell(py, state, |machine| machine.dropped(index));
            }
            self.record(py, state, index, attempt, now - started, None, Some(&payload))?;
            if state.wants.has(Wants::BRANCH_FAILURE) {
                let place = Facts { branch: Some(index), attempt: Some(attempt), value: None, error: Some(&payload) };
                self.emit(py, state, Wants::BRANCH_FAILURE, place)?;
            }
            let newest = state.machine.borrow().drawn() == index + 1;
            if newest {
                // The next branch starts for this failure, not for the delay.
                let hedge = state.hedge.replace(0);
                if hedge != 0 {
                    self.cancel_timer(py, hedge)?;
                }
            }
            tell(py, state, |machine| machine.failed(index))?
        };
        if is_final(verdict) { self.obey(slf, state, verdict) } else { Ok(()) }
    }

    /// Writes an outcome into the columns, or hands it to whoever takes them one by one.
    #[allow(clippy::too_many_arguments)] // one row
    fn record(
        &self,
        py: Python<'_>,
        state: &State,
        index: u32,
        attempt: u32,
        duration: f64,
        value: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if let Some(outbox) = &state.outbox {
            return outbox
                .bind(py)
                .call_method1(intern!(py, "put"), (index, value, error, attempt, duration))
                .map(drop);
        }
        let mut table = state.table.borrow_mut();
        // Neither has been written before: nothing is let go of while the table is borrowed.
        table.rows[index as usize] = Row { value: value.map(|value| value.clone().unbind()), duration };
        if let Some(error) = error {
            table.errors.insert(index, error.clone().unbind());
        }
        Ok(())
    }

    /// The delay before another attempt, or (as the inner error) none, with what the user's filter itself raised.
    #[allow(clippy::type_complexity)] // an answer within an answer; both are read at the one place that asks
    fn another<'py>(
        &self,
        py: Python<'py>,
        state: &State,
        index: u32,
        error: &Bound<'py, PyAny>,
        attempt: u32,
        elapsed: f64,
    ) -> PyResult<Result<f64, Option<Bound<'py, PyAny>>>> {
        let (policy, retry) = match state.own.borrow().get(&index) {
            Some(own) => (own.retry, own.retry_object.clone_ref(py)),
            None => (state.spec.get().retry, state.spec.get().retry_object.clone_ref(py)),
        };
        match retry.bind(py).call_method1(intern!(py, "wants"), (error,)).and_then(|it| it.is_truthy()) {
            Ok(false) => return Ok(Err(None)),
            Ok(true) => {}
            Err(broken) => {
                broken.set_context(py, Some(PyErr::from_value(error.clone())));
                return Ok(Err(Some(broken.into_value(py).into_any().into_bound(py))));
            }
        }
        let unit: f64 = state.scope.get(py)?.call_method0(intern!(py, "unit"))?.extract()?;
        Ok(policy.delay(attempt, elapsed, unit).ok_or(None))
    }

    #[allow(clippy::too_many_arguments)] // the facts of one attempt
    fn back_off(
        &self,
        slf: &Bound<'_, Self>,
        state: &State,
        index: u32,
        attempt: u32,
        started: f64,
        now: f64,
        delay: f64,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        state.table.borrow_mut().attempts.insert(index, attempt + 1);
        state.begun.borrow_mut().insert(index, started);
        tell(py, state, |machine| machine.backing_off(index))?;
        if state.wants.has(Wants::RETRY) {
            let value = Some(delay.into_pyobject(py)?.into_any());
            let place = Facts { branch: Some(index), attempt: Some(attempt), value, error: Some(error) };
            self.emit(py, state, Wants::RETRY, place)?;
        }
        self.add_timer(slf, now + delay, Due::Retry(index)).map(drop)
    }

    /// A branch of a decided split has ended.
    fn lost(
        &self,
        slf: &Bound<'_, Self>,
        state: &State,
        index: u32,
        outcome: Outcome,
        payload: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        tell(py, state, |machine| machine.dropped(index))?;
        state.forget(index);
        if outcome == Outcome::Error {
            if is_fatal(&payload) {
                if !state.fatal.is_set() {
                    state.fatal.set(Some(payload.unbind()));
                }
            } else {
                state.loser_errors.borrow_mut().push((i64::from(index), payload.unbind()));
            }
        }
        if state.wants.has(Wants::BRANCH_CANCELLED) {
            self.emit(py, state, Wants::BRANCH_CANCELLED, Facts { branch: Some(index), ..Facts::default() })?;
        }
        self.wake(slf, state)
    }

    /// Acts on what the machine said.
    pub(super) fn obey(&self, slf: &Bound<'_, Self>, state: &State, verdict: Verdict) -> PyResult<()> {
        if verdict == Verdict::Ask {
            self.ask(slf, state)?;
        }
        let decided = state.machine.borrow().is_decided();
        if decided { self.release_all(slf, state) } else { Ok(()) }
    }

    /// Asks the user's strategy function.
    fn ask(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        let progress = state.machine.borrow().progress();
        let elapsed = self.now_at(py)? - state.entered;
        let counts = (progress.succeeded, progress.failed, progress.pending, progress.total);
        let asked = failures(py)?
            .getattr(intern!(py, "ask_strategy"))?
            .call1((&state.spec.get().strategy, counts, elapsed))
            .and_then(|answer| answer.extract::<(u8, Bound<'_, PyAny>)>());
        let (answer, failure) = match asked {
            Ok(asked) => asked,
            Err(fatal) => {
                state.fatal.set(Some(fatal.into_value(py).into_any()));
                state.machine.borrow_mut().stop();
                return Ok(());
            }
        };
        if state.machine.borrow().phase() != SplitPhase::Asking {
            return Ok(()); // the function itself ended the run
        }
        if !failure.is_none() {
            self.locate(py, state, &failure)?;
            state.failure.set(Some(failure.unbind()));
            state.machine.borrow_mut().stop();
            return Ok(());
        }
        let verdict = match answer {
            0 => Verdict::Wait,
            1 => Verdict::Proceed,
            _ => Verdict::Fail,
        };
        tell(py, state, |machine| machine.answer(verdict)).map(drop)
    }

    /// The source raised.
    pub(super) fn source_failed(&self, slf: &Bound<'_, Self>, state: &State, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if branch::is_fatal(py, &error) {
            state.fatal.set(Some(error.into_value(py).into_any()));
        } else {
            let failure = self.source_failure(py, state, error)?;
            state.failure.set(Some(failure.unbind()));
        }
        state.items_left.set(None);
        self.stop(slf, state)
    }

    /// No worker thread could be started: the split fails, once what runs has ended.
    pub(super) fn without_threads(&self, slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if branch::is_fatal(py, &error) {
            return Err(error);
        }
        let place = facts(py, &self.place(py, self.state()?)?)?;
        place.set_item(intern!(py, "attempts"), 1)?;
        place.set_item(intern!(py, "retried"), false)?;
        let failure = failures(py)?.getattr(intern!(py, "task_failed"))?.call((error.into_value(py),), Some(&place))?;
        self.fail_internally(slf, PyErr::from_value(failure))
    }

    /// The split's time is up.
    pub(super) fn deadline(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        // At its deadline PartialTimeout decides like at any other moment; the others have run out of time.
        let decides = state.spec.get().rule.strategy == cano_engine::Strategy::PartialTimeout;
        state.timed_out.set(!decides);
        let verdict = tell(slf.py(), state, SplitMachine::deadline)?;
        self.obey(slf, state, verdict)
    }

    /// Ends the split without a decision of the join; once it is decided, there is nothing to stop.
    pub(super) fn stop(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let decided = state.machine.borrow().is_decided();
        if decided {
            return Ok(());
        }
        state.machine.borrow_mut().stop();
        self.release_all(slf, state)
    }

    /// Cancels everything that still runs, each once, in the order of their starts: so many in a turn of the loop.
    pub(super) fn release_all(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        let again = std::mem::take(&mut *state.again.borrow_mut());
        drop(again);
        if let Some(feeder) = state.feeder.get(py)
            && !feeder.call_method0(intern!(py, "done"))?.is_truthy()?
        {
            feeder.call_method0(intern!(py, "cancel"))?;
        }
        self.give_room(py, state)?;
        self.forget_items(py, state)?;
        self.released.store(true, Ordering::Relaxed);
        let losers = state.live.borrow().losers();
        if !losers.is_empty() {
            // Real tasks all at once: nobody can tell when one takes a step.
            let most = if state.real_tasks { losers.len() } else { CANCELS };
            *state.losers.borrow_mut() = losers;
            self.release_some(slf, state, most)?;
        }
        self.wake(slf, state)
    }

    /// Cancels the next `most` of them, and has the loop call for the others.
    pub(super) fn release_some(&self, slf: &Bound<'_, Self>, state: &State, most: usize) -> PyResult<()> {
        let mut answer = Ok(());
        for _ in 0..most {
            let Some(loser) = state.losers.borrow_mut().pop_front() else { break };
            answer =
                self.release_one(slf.py(), state, loser).or_else(|error| self.not_cancelled(slf, state, loser, error));
            if answer.is_err() {
                break;
            }
        }
        let all = state.losers.borrow().is_empty();
        let scheduled = if all { self.await_losers(slf, state) } else { self.schedule_release(slf, state) };
        answer.and(scheduled)
    }

    /// All have been told: whoever does not end soon is named in a warning.
    fn await_losers(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let nobody = state.live.borrow().is_empty();
        if nobody {
            return Ok(());
        }
        self.add_timer(slf, self.now_at(slf.py())? + LOSER_PATIENCE, Due::StillRunning).map(drop)
    }

    /// What a loser waits for may be anything, and raise when it is cancelled: the loop is told, and the branch at its next step.
    fn not_cancelled(&self, slf: &Bound<'_, Self>, state: &State, loser: Loser, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if branch::is_fatal(py, &error) {
            return Err(error);
        }
        let attempt = state.live.borrow().loser(py, loser);
        if let Some(Attempt::Branch(branch)) = attempt {
            // Perhaps it was cancelled, and called back where the branch could not go on.
            branch::look_again(slf, branch.bind(py))?;
        }
        py.import(intern!(py, "cano._engine.losers"))?
            .call_method1(
                intern!(py, "not_cancelled"),
                (self.event_loop.bind(py), &state.spec.get().name, crate::errors::exception(py, &error)),
            )
            .map(drop)
    }

    fn release_one(&self, py: Python<'_>, state: &State, loser: Loser) -> PyResult<()> {
        let attempt = state.live.borrow().loser(py, loser);
        match attempt {
            None => Ok(()), // it has ended by itself
            Some(Attempt::Branch(branch)) => branch::release(branch.bind(py)),
            Some(Attempt::Other(other)) => other.bind(py).call_method0(intern!(py, "release")).map(drop),
        }
    }

    /// Has the loop call for those that have not been told yet.
    pub(super) fn schedule_release(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let left = state.losers.borrow().len();
        if left == 0 { Ok(()) } else { call_soon(self.event_loop.bind(slf.py()), Hook::release(slf, left)?.as_any()) }
    }

    /// The loop calls for those; unless others than `left` are left: then somebody else has been here since.
    pub(crate) fn release_more(&self, slf: &Bound<'_, Self>, left: usize) -> PyResult<()> {
        let state = self.state()?;
        let there = state.losers.borrow().len();
        if there == left { self.release_some(slf, state, CANCELS) } else { Ok(()) }
    }

    /// Cancels what is queued for worker threads, or runs on one in a way that is not in `live`: nobody waits for it.
    fn forget_items(&self, py: Python<'_>, state: &State) -> PyResult<()> {
        let queued = self.exchange.items.withdraw();
        let turn = std::mem::take(&mut *state.to_threads.borrow_mut());
        drop((queued, turn));
        if state.broken.get() {
            return Ok(()); // what is left is what counts, and the machine is not asked any more
        }
        let running = {
            let machine = state.machine.borrow();
            let live = state.live.borrow();
            if machine.live() as usize <= live.len() || !self.exchange.items.is_used() {
                return Ok(());
            }
            let table = state.table.borrow();
            let suspended = live.indices();
            (0..machine.drawn())
                .filter(|index| {
                    let ended = table.rows.get(*index as usize).is_some_and(|row| row.value.is_some())
                        || table.errors.contains_key(index);
                    !ended && suspended.binary_search(index).is_err()
                })
                .collect::<Vec<u32>>()
        };
        for index in running {
            tell(py, state, |machine| machine.dropped(index))?;
        }
        Ok(())
    }
}
