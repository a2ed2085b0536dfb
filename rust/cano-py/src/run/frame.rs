//! The frame of a run: how it begins, what limits it from outside, how it ends.

use cano_engine::{Action, Failure, RunMachine, StateId};
use pyo3::exceptions::PyGeneratorExit;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::intern;
use pyo3::prelude::*;

use super::{Doing, SLICE, State, alarm};
use crate::clock::Clock;
use crate::current::running_loop;
use crate::errors::{facts, failures};
use crate::split::events::{Facts, Wants};

/// Enters the initial state.
pub(super) fn begin(py: Python<'_>, state: &State) -> PyResult<Action> {
    let event_loop = running_loop(py)?;
    let clock = Clock::of(&event_loop)?;
    let began = clock.now(py)?;
    *state.clock.borrow_mut() = Some(clock);
    state.event_loop.set(Some(event_loop.clone().unbind()));
    state.began.set(began);
    state.slice_end.set(began + SLICE);
    if state.wants.has(Wants::WORKFLOW_START) {
        let value = Some(state.state_of(py, state.initial).into_bound(py));
        state.emit(py, Wants::WORKFLOW_START, None, None, Facts { value, ..Facts::default() })?;
    }
    if state.timeout.is_some() || state.token.is_some() {
        if let Some(token) = &state.token
            && token.bind(py).getattr(intern!(py, "cancelled"))?.is_truthy()?
        {
            return Err(token_error(py, state)?);
        }
        let alarm = alarm::make(py, &event_loop)?;
        if let Some(timeout) = state.timeout {
            alarm.call_method1(intern!(py, "at"), (began + timeout,))?;
        }
        if let Some(token) = &state.token {
            alarm.call_method1(intern!(py, "watch"), (token,))?;
        }
        state.alarm.set(Some(alarm.unbind()));
    }
    let action = state.tell(py, |machine| machine.begin(state.initial))?;
    state.enter(py)?;
    Ok(action)
}

/// Between states: the loop cannot interrupt a chain that never suspends, and a task may have swallowed it.
pub(super) fn check_limits(py: Python<'_>, state: &State) -> PyResult<()> {
    let Some(alarm) = state.alarm.get(py) else { return Ok(()) };
    let what = alarm::fired(&alarm)?;
    let timed_out = if !what.is_empty() {
        what == "timeout"
    } else if let Some(timeout) = state.timeout
        && state.now(py)? - state.began.get() >= timeout
    {
        true
    } else if let Some(token) = &state.token
        && token.bind(py).getattr(intern!(py, "cancelled"))?.is_truthy()?
    {
        false
    } else {
        return Ok(());
    };
    if what.is_empty() {
        alarm::disarm(&alarm)?;
    }
    Err(if timed_out { timeout_error(py, state)? } else { token_error(py, state)? })
}

fn where_it_is<'py>(py: Python<'py>, state: &State) -> PyResult<[(&'static str, Bound<'py, PyAny>); 2]> {
    let current = match state.current() {
        Some(index) => state.state_of(py, index).into_bound(py),
        None => py.None().into_bound(py),
    };
    Ok([("state", current), ("path", state.path(py)?.into_any())])
}

fn timeout_error(py: Python<'_>, state: &State) -> PyResult<PyErr> {
    let limit = state.timeout.unwrap_or(0.0);
    let value = Some(limit.into_pyobject(py)?.into_any());
    state.emit(py, Wants::TIMEOUT, state.current(), None, Facts { value, ..Facts::default() })?;
    let elapsed = state.now(py)? - state.began.get();
    let place = facts(py, &where_it_is(py, state)?)?;
    let error = failures(py)?.getattr(intern!(py, "run_timed_out"))?.call((elapsed, limit), Some(&place))?;
    Ok(PyErr::from_value(error))
}

fn token_error(py: Python<'_>, state: &State) -> PyResult<PyErr> {
    let reason = match &state.token {
        Some(token) => token.bind(py).getattr(intern!(py, "reason"))?,
        None => py.None().into_bound(py),
    };
    let value = Some(reason.clone());
    state.emit(py, Wants::CANCELLED, state.current(), None, Facts { value, ..Facts::default() })?;
    let place = facts(py, &where_it_is(py, state)?)?;
    let error = failures(py)?.getattr(intern!(py, "run_cancelled"))?.call((reason,), Some(&place))?;
    Ok(PyErr::from_value(error))
}

/// What the machine's refusal to go on is for the user.
pub(super) fn failure(py: Python<'_>, state: &State, failure: Failure) -> PyResult<PyErr> {
    let plan = state.plan.get();
    let path = state.path(py)?;
    let module = failures(py)?;
    let error = match failure {
        Failure::NoHandler { state: index } => {
            let place = facts(py, &[("path", path.into_any())])?;
            module.getattr(intern!(py, "no_handler"))?.call((state.state_of(py, index),), Some(&place))?
        }
        Failure::TooManyTransitions { .. } => {
            let place = facts(py, &where_it_is(py, state)?)?;
            let limit = plan.max_transitions.unwrap_or(0);
            module.getattr(intern!(py, "too_many_transitions"))?.call((limit, path), Some(&place))?
        }
        Failure::Undeclared { state: index, next } => {
            let spec = &plan.states[index as usize];
            let task = match (&spec.task, &spec.split) {
                (Some(task), _) => task.name.bind(py).clone().into_any(),
                (None, Some(split)) => split.get().name.bind(py).clone().into_any(),
                (None, None) => py.None().into_bound(py),
            };
            let declared: Vec<Py<PyAny>> = plan.machine.states()[index as usize]
                .next
                .iter()
                .flatten()
                .map(|&index| state.state_of(py, index))
                .collect();
            let place = facts(py, &where_it_is(py, state)?)?;
            place.set_item("task", task)?;
            place.set_item("reason", "undeclared")?;
            place.set_item("declared", declared)?;
            module.getattr(intern!(py, "bad_result"))?.call((state.state_of(py, next),), Some(&place))?
        }
        other => return Ok(crate::errors::internal(py, &format!("a run failed for no reason: {other:?}"))),
    };
    Ok(PyErr::from_value(error))
}

/// The run has reached an exit state. Something to yield first, if a cancellation of ours is still on its way.
pub(super) fn end<'py>(py: Python<'py>, state: &State, exit: StateId) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(alarm) = state.alarm.take() {
        let alarm = alarm.bind(py);
        if alarm::is_on_its_way(alarm)? {
            state.alarm.set(Some(alarm.clone().unbind()));
            state.doing.set(Doing::AbsorbRun(exit));
            return Ok(Some(py.None().into_bound(py)));
        }
        alarm::settle(alarm)?;
        alarm::close(alarm)?;
    }
    if state.wants.has(Wants::WORKFLOW_END) {
        let value = Some(state.state_of(py, exit).into_bound(py));
        state.emit(py, Wants::WORKFLOW_END, None, None, Facts { value, ..Facts::default() })?;
    }
    Ok(None)
}

/// The cancellation that was on its way has arrived, and changes nothing any more.
pub(super) fn absorbed(py: Python<'_>, state: &State) -> PyResult<()> {
    if let Some(alarm) = state.alarm.take() {
        let alarm = alarm.bind(py);
        alarm::settle(alarm)?;
        alarm::close(alarm)?;
    }
    Ok(())
}

/// The run has failed: what it raises in the end, once the observers know.
pub(super) fn end_with_error(py: Python<'_>, state: &State, error: PyErr) -> PyResult<PyErr> {
    let mut error = error;
    if let Some(alarm) = state.attempt_alarm.take() {
        alarm::close(alarm.bind(py))?;
    }
    if let Some(alarm) = state.alarm.take() {
        let alarm = alarm.bind(py);
        if alarm::settle(alarm)? && error.is_instance_of::<CancelledError>(py) {
            let timed_out = alarm::fired(alarm)? == "timeout";
            let ours = if timed_out { timeout_error(py, state)? } else { token_error(py, state)? };
            ours.set_cause(py, Some(error));
            error = ours;
        }
        alarm::close(alarm)?;
    }
    if error.is_instance_of::<CancelledError>(py) && state.wants.has(Wants::CANCELLED) {
        let arguments = error.value(py).getattr(intern!(py, "args"))?;
        let value = arguments.get_item(0).ok();
        state.emit(py, Wants::CANCELLED, state.current(), None, Facts { value, ..Facts::default() })?;
    }
    if state.wants.has(Wants::WORKFLOW_END) {
        let raised = crate::errors::exception(py, &error);
        state.emit(py, Wants::WORKFLOW_END, None, None, Facts { error: Some(&raised), ..Facts::default() })?;
    }
    Ok(error)
}

/// The caller is gone: close what the run waited for, and tell the observers.
pub(super) fn close(py: Python<'_>, state: &State, doing: Doing) -> PyResult<()> {
    let answer = match doing {
        Doing::NotBegun | Doing::Over => return Ok(()),
        Doing::Task(task) => task.bind(py).call_method0(intern!(py, "close")).map(drop),
        Doing::BackOff(pause) => pause.bind(py).call_method0(intern!(py, "close")).map(drop),
        Doing::Split(driver) => driver.get().abandon_now(driver.bind(py)),
        Doing::Turn(_) | Doing::AbsorbAttempt(_) | Doing::AbsorbRun(_) => Ok(()),
    };
    let _ = state.tell(py, RunMachine::stop);
    let error = PyGeneratorExit::new_err(());
    if let Some(index) = state.current() {
        state.leave(py, index, Some(error.value(py).as_any()))?;
    }
    end_with_error(py, state, error)?;
    answer
}
