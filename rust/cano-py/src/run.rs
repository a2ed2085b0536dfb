//! Drives one run on the loop's thread: the transition loop. The mirror of `pure/run.py`.
//!
//! `Run` is what `orchestrate` awaits. A state's task is stepped in place, in the stack and the context of whoever awaits:
//! no task, no hop. What comes from outside (timeout, token) cancels the asyncio task that awaits the run, and is
//! recognised and taken back here (`_engine/alarm.py`).

mod alarm;
mod alone;
mod attempt;
mod frame;
mod state;

use std::cell::{Cell, RefCell};

use cano_engine::{Action, RunMachine, StateId};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::branch::{Stepped, step};
use crate::confined::{Confined, Home, Slot};
use crate::current::is_finalizing;
use crate::plan::PlanSpec;
use crate::spec::SplitSpec;
use crate::split::events::Wants;
use crate::split::{Place, Poll, SLICE, STEPS, SplitDriver};
pub(crate) use alone::SplitRun;
use state::State;

/// What the run waits for.
enum Doing {
    NotBegun,
    /// A state's task, or a future with what a thread made of it.
    Task(Py<PyAny>),
    /// The back-off before another attempt.
    BackOff(Py<PyAny>),
    Split(Py<SplitDriver>),
    /// The loop has its turn; then this action goes on.
    Turn(Action),
    /// An attempt has ended, but the cancellation of its timeout is still on the way.
    AbsorbAttempt(Py<PyAny>),
    /// Likewise for the run, which ended in this state.
    AbsorbRun(StateId),
    Over,
}

/// What a step of the run came to.
enum Went<'py> {
    /// Something to yield to the loop.
    Yield(Bound<'py, PyAny>),
    /// On to the next action of the machine.
    Act(Action),
    /// Whatever `doing` says now.
    Again,
    /// The exit state reached.
    Ended(StateId),
}

/// One run of a plan; awaited once.
#[pyclass(frozen, weakref, module = "cano._core")]
pub(crate) struct Run {
    state: Confined<State>,
    home: Home,
}

impl Run {
    /// Steps the run until it has something to yield, or has ended.
    fn drive<'py>(slf: &Bound<'py, Self>, error: Option<PyErr>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let state = slf.get().state.get()?;
        state.slice_end.set(state.now(py)? + SLICE);
        state.steps.set(0);
        match Self::drive_inside(slf, state, error) {
            Ok(Some(yielded)) => Ok(yielded),
            Ok(None) => {
                state.doing.set(Doing::Over);
                let reached = state.state_of(py, state.current().unwrap_or(state.initial));
                Err(crate::errors::answer(reached.bind(py)))
            }
            Err(error) => {
                state.doing.set(Doing::Over);
                Err(crate::errors::leaving(py, error))
            }
        }
    }

    /// The loop of `drive`; `None` when the run has reached its exit state.
    fn drive_inside<'py>(
        slf: &Bound<'py, Self>,
        state: &State,
        error: Option<PyErr>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let mut error = error;
        let mut next: Option<Action> = None;
        loop {
            let went = crate::hook::caught(py, || match next.take() {
                Some(action) => Self::act(slf, state, action),
                None => Self::go_on(slf, state, error.take()),
            });
            let went = match went {
                Ok(went) => went,
                Err(raised) => return Err(frame::end_with_error(py, state, raised)?),
            };
            match went {
                Went::Yield(yielded) => return Ok(Some(yielded)),
                Went::Act(action) => next = Some(action),
                Went::Again => {}
                Went::Ended(exit) => match frame::end(py, state, exit)? {
                    Some(yielded) => return Ok(Some(yielded)),
                    None => return Ok(None),
                },
            }
        }
    }

    /// Goes on with what the run waits for.
    fn go_on<'py>(slf: &Bound<'py, Self>, state: &State, error: Option<PyErr>) -> PyResult<Went<'py>> {
        let py = slf.py();
        match state.doing.replace(Doing::Over) {
            Doing::NotBegun => match error {
                Some(error) => Err(error),
                None => {
                    let action = frame::begin(py, state)?;
                    if let Some(event_loop) = state.event_loop.get(py) {
                        slf.get().home.set(event_loop.unbind());
                    }
                    Ok(Went::Act(action))
                }
            },
            Doing::Task(task) => match step(task.bind(py), error) {
                Stepped::Yielded(yielded) => {
                    state.doing.set(Doing::Task(task));
                    Ok(Went::Yield(yielded))
                }
                Stepped::Returned(value) => attempt::returned(slf, state, value),
                Stepped::Raised(raised) => attempt::raised(py, state, raised).map(Went::Act),
            },
            Doing::AbsorbAttempt(value) => {
                // What arrives here, if anything, is the cancellation that was on its way.
                attempt::finished(slf, state, value.into_bound(py))
            }
            Doing::AbsorbRun(exit) => {
                frame::absorbed(py, state)?;
                Ok(Went::Ended(exit))
            }
            Doing::BackOff(pause) => match step(pause.bind(py), error) {
                Stepped::Yielded(yielded) => {
                    state.doing.set(Doing::BackOff(pause));
                    Ok(Went::Yield(yielded))
                }
                Stepped::Returned(_) => state.tell(py, RunMachine::retry_due).map(Went::Act),
                Stepped::Raised(raised) => Err(state.interrupted(py, raised)?),
            },
            Doing::Split(driver) => match driver.get().poll(driver.bind(py), error) {
                Ok(Poll::Pending(future)) => {
                    state.doing.set(Doing::Split(driver));
                    Ok(Went::Yield(future))
                }
                Ok(Poll::Ready(_)) => {
                    let left = state.current();
                    let action = state.tell(py, RunMachine::joined)?;
                    Self::moved(py, state, left, action).map(Went::Act)
                }
                Err(raised) => {
                    state.tell(py, RunMachine::stop)?;
                    if let Some(index) = state.current() {
                        state.leave(py, index, Some(&crate::errors::exception(py, &raised)))?;
                    }
                    Err(raised)
                }
            },
            Doing::Turn(action) => match error {
                Some(error) => Err(state.interrupted(py, error)?),
                None => Self::act_now(slf, state, action),
            },
            Doing::Over => Err(pyo3::exceptions::PyRuntimeError::new_err("cannot await a run that has ended")),
        }
    }

    /// Tells of leaving one state and entering another, if that is what happened.
    fn moved(py: Python<'_>, state: &State, left: Option<StateId>, action: Action) -> PyResult<Action> {
        if state.wants.any() {
            // An undeclared or surplus transition is refused in the state that was left.
            let refused = matches!(
                action,
                Action::Fail(cano_engine::Failure::Undeclared { .. } | cano_engine::Failure::TooManyTransitions { .. })
            );
            if !refused && !matches!(action, Action::BackOff { .. }) {
                if let Some(left) = left {
                    state.leave(py, left, None)?;
                }
                state.enter(py)?;
            }
        } else {
            state.tries.set(0);
        }
        Ok(action)
    }

    /// Performs an action, after the loop has had its turn if its time has come.
    fn act<'py>(slf: &Bound<'py, Self>, state: &State, action: Action) -> PyResult<Went<'py>> {
        let py = slf.py();
        match action {
            Action::Exit(exit) => Ok(Went::Ended(exit)),
            Action::Fail(failure) => {
                let error = frame::failure(py, state, failure)?;
                if let Some(index) = state.current() {
                    state.leave(py, index, Some(&crate::errors::exception(py, &error)))?;
                }
                Err(error)
            }
            _ if state.steps.replace(state.steps.get() + 1) >= STEPS || state.now(py)? >= state.slice_end.get() => {
                state.doing.set(Doing::Turn(action));
                Ok(Went::Yield(py.None().into_bound(py)))
            }
            _ => Self::act_now(slf, state, action),
        }
    }

    fn act_now<'py>(slf: &Bound<'py, Self>, state: &State, action: Action) -> PyResult<Went<'py>> {
        let py = slf.py();
        if state.alarm.is_set()
            && let Err(error) = frame::check_limits(py, state)
        {
            return Err(state.interrupted(py, error)?);
        }
        match action {
            Action::Task { state: index, attempt } => attempt::start(slf, state, index, attempt),
            Action::Split { state: index } => {
                let split = state.plan.get().states[index as usize].split.as_ref().map(|split| split.clone_ref(py));
                match split {
                    Some(split) => Self::start_split(slf, state, index, split),
                    None => Err(crate::errors::internal(py, "a split state without a split")),
                }
            }
            Action::BackOff { delay, .. } => {
                let pause = py
                    .import(intern!(py, "cano._core"))?
                    .getattr(intern!(py, "Pause"))?
                    .call1((delay, py.None()))?
                    .call_method0(intern!(py, "__await__"))?;
                state.doing.set(Doing::BackOff(pause.unbind()));
                Ok(Went::Again)
            }
            Action::Exit(_) | Action::Fail(_) => Self::act(slf, state, action),
        }
    }

    fn start_split<'py>(
        slf: &Bound<'py, Self>,
        state: &State,
        index: StateId,
        split: Py<SplitSpec>,
    ) -> PyResult<Went<'py>> {
        let py = slf.py();
        state.tries.set(1);
        let place = Place {
            state: state.state_of(py, index),
            run: slf.clone().unbind(),
            dispatcher: state.dispatcher.as_ref().map(|dispatcher| dispatcher.clone_ref(py)),
            began: state.began.get(),
            introspect: state.plan.get().introspect,
        };
        let driver = SplitDriver::new(py, split, state.store.clone_ref(py), Some(place), state.wants, None)?;
        let driver = Py::new(py, driver)?;
        state.doing.set(Doing::Split(driver));
        Ok(Went::Again)
    }
}

/// What was thrown into an awaitable: `throw(error)`, or the three arguments of old.
pub(crate) fn thrown(arguments: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let value = match arguments.get_item(1) {
        Ok(value) if !value.is_none() => value,
        _ => arguments.get_item(0)?,
    };
    Ok(PyErr::from_value(value))
}

#[pymethods]
impl Run {
    #[new]
    fn new(
        py: Python<'_>,
        plan: Py<PlanSpec>,
        initial: StateId,
        store: Py<PyAny>,
        timeout: Option<f64>,
        token: Option<Py<PyAny>>,
        dispatcher: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let wants = match &dispatcher {
            Some(dispatcher) => Wants::of(dispatcher.bind(py))?,
            None => Wants::default(),
        };
        let machine = RunMachine::new(plan.get().machine.clone());
        Ok(Self {
            state: Confined::new(State {
                plan,
                initial,
                store,
                timeout,
                token,
                dispatcher,
                wants,
                machine: RefCell::new(machine),
                doing: Cell::new(Doing::NotBegun),
                event_loop: Slot::default(),
                clock: RefCell::new(None),
                began: Cell::new(0.0),
                slice_end: Cell::new(0.0),
                steps: Cell::new(0),
                entered: Cell::new(0.0),
                tries: Cell::new(0),
                first_attempt: Cell::new(0.0),
                alarm: Slot::default(),
                attempt_alarm: Slot::default(),
            }),
            home: Home::default(),
        })
    }

    fn __await__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        crate::hook::caught(slf.py(), || Self::drive(slf, None))
    }

    fn send<'py>(slf: &Bound<'py, Self>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::__next__(slf)
    }

    #[pyo3(signature = (*error))]
    fn throw<'py>(slf: &Bound<'py, Self>, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let error = thrown(error)?;
        crate::hook::caught(slf.py(), || Self::drive(slf, Some(error)))
    }

    /// The caller is gone: close what the run waits for.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if is_finalizing(py) {
            return Ok(());
        }
        let Ok(state) = slf.get().state.get() else { return slf.get().home.close(slf.as_any()) };
        frame::close(py, state, state.doing.replace(Doing::Over))
    }

    /// The states entered so far (the last 1,000).
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.state.get()?.path(py)
    }

    /// The time on the loop's clock.
    fn now(&self, py: Python<'_>) -> PyResult<f64> {
        self.state.get()?.now(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Ok(state) = self.state.get() else {
            return Ok("<cano run of another thread's event loop>".to_owned());
        };
        match state.current() {
            Some(index) => Ok(format!("<cano run in {}>", state.state_of(py, index).bind(py).repr()?)),
            None => Ok("<cano run, not begun>".to_owned()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.home.visit(&visit)?;
        let state = self.state.get_for_gc();
        visit.call(&state.plan)?;
        visit.call(&state.store)?;
        visit.call(&state.token)?;
        visit.call(&state.dispatcher)?;
        for slot in [&state.event_loop, &state.alarm, &state.attempt_alarm] {
            slot.visit(&visit)?;
        }
        let doing = state.doing.replace(Doing::Over);
        let answer = match &doing {
            Doing::Task(it) | Doing::BackOff(it) | Doing::AbsorbAttempt(it) => visit.call(it),
            Doing::Split(driver) => visit.call(driver),
            _ => Ok(()),
        };
        state.doing.set(doing);
        answer
    }

    fn __clear__(&self) {
        let state = self.state.get_for_gc();
        drop(state.doing.replace(Doing::Over));
        for slot in [&state.event_loop, &state.alarm, &state.attempt_alarm] {
            slot.set(None);
        }
    }
}
