//! One attempt of a state's task: starting it, and what came of it.

use cano_engine::{Action, RunMachine, StateId};
use pyo3::exceptions::PyException;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::{Doing, Run, State, Went, alarm};
use crate::current::copy_current_context;
use crate::errors::{exception, facts, failures};
use crate::once::Once;
use crate::plan::TaskSpec;
use crate::spec::{CallKind, SplitSpec};
use crate::split::events::{Facts, Wants};

fn task_of(state: &State, index: StateId) -> Option<&TaskSpec> {
    state.plan.get().states[index as usize].task.as_ref()
}

fn missing(py: Python<'_>) -> PyErr {
    crate::errors::internal(py, "a task state without a task")
}

/// Starts an attempt of a state's task.
pub(super) fn start<'py>(slf: &Bound<'py, Run>, state: &State, index: StateId, attempt: u32) -> PyResult<Went<'py>> {
    let py = slf.py();
    let task = task_of(state, index).ok_or_else(|| missing(py))?;
    state.tries.set(attempt);
    if attempt == 1 && task.retries {
        state.first_attempt.set(state.now(py)?);
    }
    if state.wants.has(Wants::TASK_START) {
        let place = Facts { attempt: Some(attempt), ..Facts::default() };
        state.emit(py, Wants::TASK_START, Some(index), Some(task.name.bind(py).as_any()), place)?;
    }
    if let Some(limit) = task.attempt_timeout
        && let Some(event_loop) = state.event_loop.get(py)
    {
        let alarm = alarm::make(py, &event_loop)?;
        alarm.call_method1(intern!(py, "at"), (state.now(py)? + limit,))?;
        state.attempt_alarm.set(Some(alarm.unbind()));
    }
    let value = match call(py, state, task) {
        Ok(value) => value,
        Err(error) => return raised(py, state, error).map(Went::Act),
    };
    if task.call.kind == CallKind::Inline && !crate::split::is_awaitable(&value) {
        return returned(slf, state, value);
    }
    match awaited(&value) {
        Ok(iterator) => {
            state.doing.set(Doing::Task(iterator.unbind()));
            Ok(Went::Again)
        }
        Err(error) => raised(py, state, error).map(Went::Act),
    }
}

/// What to step of something that is awaited: a coroutine itself, else what its `__await__` gives.
fn awaited<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if crate::split::is_coroutine(value) {
        Ok(value.clone())
    } else {
        value.call_method0(intern!(value.py(), "__await__"))
    }
}

/// Calls the task: a coroutine, a value, or the future of a worker thread.
fn call<'py>(py: Python<'py>, state: &State, task: &TaskSpec) -> PyResult<Bound<'py, PyAny>> {
    if task.call.kind != CallKind::Thread {
        return task.call.call(py, None, &state.store);
    }
    static START: Once<Py<PyAny>> = Once::new();
    let store = state.store.bind(py);
    let arguments = if task.call.store { PyTuple::new(py, [store])? } else { PyTuple::empty(py) };
    START
        .get_or_try_init(py, || py.import("cano._engine.threads")?.getattr("start_in_thread").map(Bound::unbind))?
        .bind(py)
        .call1((state.event_loop.get(py), copy_current_context(py)?, &task.call.function, arguments))
}

/// The attempt returned a value (or, from a thread, something to await).
pub(super) fn returned<'py>(slf: &Bound<'py, Run>, state: &State, value: Bound<'py, PyAny>) -> PyResult<Went<'py>> {
    let py = slf.py();
    let Some(index) = state.current() else { return Err(missing(py)) };
    let task = task_of(state, index).ok_or_else(|| missing(py))?;
    if task.call.kind == CallKind::Thread && crate::split::is_awaitable(&value) {
        return match awaited(&value) {
            Ok(iterator) => {
                state.doing.set(Doing::Task(iterator.unbind()));
                Ok(Went::Again)
            }
            Err(error) => raised(py, state, error).map(Went::Act),
        };
    }
    if let Some(alarm) = state.attempt_alarm.get(py)
        && alarm::is_on_its_way(&alarm)?
    {
        state.doing.set(Doing::AbsorbAttempt(value.unbind()));
        return Ok(Went::Yield(py.None().into_bound(py)));
    }
    finished(slf, state, value)
}

/// The attempt is over, with a value: find out where the run goes.
pub(super) fn finished<'py>(slf: &Bound<'py, Run>, state: &State, value: Bound<'py, PyAny>) -> PyResult<Went<'py>> {
    let py = slf.py();
    if let Some(alarm) = state.attempt_alarm.take() {
        let alarm = alarm.bind(py);
        alarm::settle(alarm)?;
        alarm::close(alarm)?;
    }
    let Some(index) = state.current() else { return Err(missing(py)) };
    let task = task_of(state, index).ok_or_else(|| missing(py))?;
    let mut value = value;
    let mut split = None;
    let mut refused = None;
    if is_task_result(&value)? {
        if !value.getattr(intern!(py, "join"))?.is_none() {
            match dynamic_split(py, state, task, &value) {
                Ok(found) => split = Some(found),
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    let error = error.into_value(py).into_any().into_bound(py);
                    let place = place(py, state, index, task)?;
                    failures(py)?.getattr(intern!(py, "locate"))?.call((&error,), Some(&place))?;
                    refused = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        value = value.getattr(intern!(py, "state"))?;
    }
    let following = state.plan.get().find(&value)?;
    let following = match (following, refused) {
        (Some(following), None) => following,
        (_, refused) => return Err(refuse(py, state, index, task, &value, refused)?),
    };
    if state.wants.has(Wants::TASK_SUCCESS) {
        let place = Facts { attempt: Some(state.tries.get()), value: Some(value), ..Facts::default() };
        state.emit(py, Wants::TASK_SUCCESS, Some(index), Some(task.name.bind(py).as_any()), place)?;
    }
    if let Some(split) = split {
        state.tell(py, |machine| machine.fan_out(following))?;
        return Run::start_split(slf, state, index, split);
    }
    let action = state.tell(py, |machine| machine.finished(following))?;
    Run::moved(py, state, Some(index), action).map(Went::Act)
}

fn is_task_result(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CLASS: Once<Py<PyAny>> = Once::new();
    let py = value.py();
    let class = CLASS.get_or_try_init(py, || py.import("cano.steps")?.getattr("TaskResult").map(Bound::unbind))?;
    Ok(value.get_type().is(class))
}

fn dynamic_split(py: Python<'_>, state: &State, task: &TaskSpec, result: &Bound<'_, PyAny>) -> PyResult<Py<SplitSpec>> {
    let plan = py
        .import(intern!(py, "cano._engine.dynamic"))?
        .call_method1(intern!(py, "split_of"), (result, &task.plan, &state.store))?;
    Py::new(py, SplitSpec::read(&plan)?)
}

fn place<'py>(
    py: Python<'py>,
    state: &State,
    index: StateId,
    task: &TaskSpec,
) -> PyResult<Bound<'py, pyo3::types::PyDict>> {
    facts(
        py,
        &[
            ("state", state.state_of(py, index).into_bound(py)),
            ("task", task.name.bind(py).clone().into_any()),
            ("path", state.path(py)?.into_any()),
        ],
    )
}

/// The answer steers the run nowhere.
fn refuse<'py>(
    py: Python<'py>,
    state: &State,
    index: StateId,
    task: &TaskSpec,
    value: &Bound<'py, PyAny>,
    refused: Option<Bound<'py, PyAny>>,
) -> PyResult<PyErr> {
    let error = match refused {
        Some(refused) => refused,
        None => {
            let place = place(py, state, index, task)?;
            place.set_item("reason", if value.is_none() { "none" } else { "unknown" })?;
            failures(py)?.getattr(intern!(py, "bad_result"))?.call((value,), Some(&place))?
        }
    };
    state.tell(py, RunMachine::stop)?;
    task_failed(py, state, index, task, &error)?;
    state.leave(py, index, Some(&error))?;
    Ok(PyErr::from_value(error))
}

fn task_failed(
    py: Python<'_>,
    state: &State,
    index: StateId,
    task: &TaskSpec,
    error: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let place = Facts { attempt: Some(state.tries.get()), error: Some(error), ..Facts::default() };
    state.emit(py, Wants::TASK_FAILURE, Some(index), Some(task.name.bind(py).as_any()), place)
}

/// The attempt raised: retry it, or end the run.
pub(super) fn raised(py: Python<'_>, state: &State, error: PyErr) -> PyResult<Action> {
    let Some(index) = state.current() else { return Err(error) };
    let task = task_of(state, index).ok_or_else(|| missing(py))?;
    let mut error = error;
    if let Some(alarm) = state.attempt_alarm.take() {
        let alarm = alarm.bind(py);
        if alarm::settle(alarm)? && error.is_instance_of::<CancelledError>(py) {
            error = attempt_timed_out(py, state, index, task, error)?;
        }
        alarm::close(alarm)?;
    }
    if !error.is_instance_of::<PyException>(py) {
        state.tell(py, RunMachine::stop)?;
        let raised = exception(py, &error);
        if !error.is_instance_of::<CancelledError>(py) {
            task_failed(py, state, index, task, &raised)?;
        }
        state.leave(py, index, Some(&raised))?;
        return Err(error);
    }
    let mut retryable = false;
    let mut elapsed = 0.0;
    let mut unit = 0.0;
    if task.retries {
        elapsed = state.now(py)? - state.first_attempt.get();
        let wants = task.retry_object.bind(py).call_method1(intern!(py, "wants"), (exception(py, &error),));
        match wants.and_then(|it| it.is_truthy()) {
            Ok(wanted) => retryable = wanted,
            Err(broken) if broken.is_instance_of::<PyException>(py) => {
                broken.set_context(py, Some(error));
                error = broken;
            }
            Err(fatal) => {
                state.tell(py, RunMachine::stop)?;
                state.leave(py, index, Some(&exception(py, &fatal)))?;
                return Err(fatal);
            }
        }
        unit = py.import(intern!(py, "cano._engine.scope"))?.call_method0(intern!(py, "unit"))?.extract()?;
    }
    let attempt = state.tries.get();
    let action = state.tell(py, |machine| machine.failed(retryable, elapsed, unit))?;
    let value = error.into_value(py).into_any().into_bound(py);
    if let Action::BackOff { delay, .. } = action {
        if state.wants.has(Wants::RETRY) {
            let place = Facts {
                branch: None,
                attempt: Some(attempt),
                value: Some(delay.into_pyobject(py)?.into_any()),
                error: Some(&value),
            };
            state.emit(py, Wants::RETRY, Some(index), Some(task.name.bind(py).as_any()), place)?;
        }
        return Ok(action);
    }
    task_failed(py, state, index, task, &value)?;
    let place = place(py, state, index, task)?;
    place.set_item("attempts", attempt)?;
    place.set_item("retried", attempt > 1)?;
    let failure = failures(py)?.getattr(intern!(py, "task_failed"))?.call((value,), Some(&place))?;
    state.leave(py, index, Some(&failure))?;
    Err(PyErr::from_value(failure))
}

fn attempt_timed_out(py: Python<'_>, state: &State, index: StateId, task: &TaskSpec, cause: PyErr) -> PyResult<PyErr> {
    let limit = task.attempt_timeout.unwrap_or(0.0);
    let attempt = state.tries.get();
    let value = Some(limit.into_pyobject(py)?.into_any());
    let facts = Facts { attempt: Some(attempt), value, ..Facts::default() };
    state.emit(py, Wants::TIMEOUT, Some(index), Some(task.name.bind(py).as_any()), facts)?;
    let place = place(py, state, index, task)?;
    place.set_item("attempt", attempt)?;
    place.set_item("cause", cause.into_value(py))?;
    let error = failures(py)?.getattr(intern!(py, "attempt_timed_out"))?.call((limit,), Some(&place))?;
    Ok(PyErr::from_value(error))
}
