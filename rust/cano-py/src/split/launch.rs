//! Starting one attempt, in whichever way its callable wants, with whatever the split keeps of it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::entered::Entered;
use super::events::{Facts, Wants};
use super::start::{is_awaitable, is_coroutine};
use super::{SplitDriver, State};
use crate::branch::{self, Branch, Outcome, Stepped, is_fatal};
use crate::current::copy_context;
use crate::once::Once;
use crate::spec::{CallKind, CallSpec};
use crate::timers::Due;

impl SplitDriver {
    /// Acts on what the first step of a branch came to; the branch is current.
    pub(super) fn first_step<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        entered: &mut Entered<'_, 'py>,
        branch: &Bound<'py, Branch>,
        stepped: Stepped<'py>,
    ) -> PyResult<()> {
        let its = branch.get().state()?;
        if let Stepped::Yielded(_) = stepped {
            its.key.set(state.live.borrow_mut().keep(its.index.get(), branch.clone().unbind()));
        }
        let settled = branch::settle(branch, its, stepped);
        entered.stepped(branch, its);
        settled?;
        if its.is_done() {
            return Ok(());
        }
        if state.machine.borrow().is_decided() {
            // Its own first step decided: it is the first of the losers.
            branch::release(branch)
        } else if let Some(limit) = state.limit_of(its.index.get()) {
            let due = its.started.get() + limit;
            its.timer.set(self.add_timer(slf, due, Due::Attempt(its.key.get()))?);
            Ok(())
        } else {
            Ok(())
        }
    }

    pub(super) fn register(&self, state: &State, index: u32, attempt: Py<PyAny>) {
        let replaced = state.live.borrow_mut().keep_other(index, attempt);
        drop(replaced);
    }

    /// Starts an attempt of a branch that holds a permit, in whichever way its callable wants.
    pub(super) fn launch<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        index: u32,
        call: &CallSpec,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let attempt = state.table.borrow().attempts.get(&index).copied().unwrap_or(1);
        if let Some(own) = &call.own {
            let replaced = state.own.borrow_mut().insert(index, own.clone_ref(py));
            drop(replaced);
        }
        if state.retries(index) {
            let replaced = state.again.borrow_mut().insert(index, (call.again(py), item.clone().unbind()));
            drop(replaced);
        }
        if state.wants.has(Wants::BRANCH_START) {
            let place = Facts { branch: Some(index), attempt: Some(attempt), ..Facts::default() };
            self.emit(py, state, Wants::BRANCH_START, place)?;
        }
        let item = if call.item { Some(item) } else { None };
        if call.kind == CallKind::Thread {
            let context = copy_context(state.snapshot.bind(py))?;
            return self.launch_thread(slf, state, index, attempt, call, item, &context);
        }
        let started = self.now_in_turn(py)?;
        let mut context = None;
        let outcome = if call.kind == CallKind::Coroutine {
            call.call(py, item, &state.store)
        } else {
            let context = &*context.insert(copy_context(state.snapshot.bind(py))?);
            crate::current::enter_context(context)?;
            let outcome = call.call(py, item, &state.store);
            crate::current::exit_context(context)?;
            outcome
        };
        match outcome {
            Err(error) => {
                let error = error.into_value(py).into_any().into_bound(py);
                self.ended(slf, state, index, attempt, started, Outcome::Error, error, None)
            }
            Ok(value) if call.kind == CallKind::Coroutine || is_awaitable(&value) => {
                self.begin(slf, state, index, attempt, &value, context.as_ref(), started)
            }
            Ok(value) => self.ended(slf, state, index, attempt, started, Outcome::Ok, value, None),
        }
    }

    #[allow(clippy::too_many_arguments)] // the facts of one attempt
    fn launch_thread<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        index: u32,
        attempt: u32,
        call: &CallSpec,
        item: Option<&Bound<'py, PyAny>>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        static CLASS: Once<Py<PyAny>> = Once::new();
        let py = slf.py();
        let store = state.store.bind(py);
        let arguments = match (item, call.store) {
            (Some(item), true) => PyTuple::new(py, [item, store])?,
            (Some(item), false) => PyTuple::new(py, [item])?,
            (None, true) => PyTuple::new(py, [store])?,
            (None, false) => PyTuple::empty(py),
        };
        let job = CLASS
            .get_or_try_init(py, || py.import("cano._engine.attempts")?.getattr("ThreadAttempt").map(Bound::unbind))?
            .bind(py)
            .call1((slf, index, attempt, &call.function, arguments, context, state.limit_of(index)))?;
        self.register(state, index, job.clone().unbind());
        state.jobs.borrow_mut().push(job.clone().unbind());
        self.arm_other(slf, state, index, &job, self.now_at(py)?)
    }

    fn arm_other(
        &self,
        slf: &Bound<'_, Self>,
        state: &State,
        index: u32,
        attempt: &Bound<'_, PyAny>,
        started: f64,
    ) -> PyResult<()> {
        let py = slf.py();
        if let Some(limit) = state.limit_of(index) {
            let due = started + limit;
            let timer = self.add_timer(slf, due, Due::OtherAttempt(attempt.clone().unbind()))?;
            attempt.setattr(intern!(py, "timer"), timer)?;
        }
        Ok(())
    }

    /// Takes the first step of an asynchronous attempt; in `context`, if it has one of its own already.
    #[allow(clippy::too_many_arguments)] // the facts of one attempt
    pub(super) fn begin<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &State,
        index: u32,
        attempt: u32,
        awaitable: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        started: f64,
    ) -> PyResult<()> {
        let py = slf.py();
        if !is_awaitable(awaitable) {
            // Declared a coroutine function, but what came is a plain value: then that is the output.
            return self.ended(slf, state, index, attempt, started, Outcome::Ok, awaitable.clone(), None);
        }
        let coro = if is_coroutine(awaitable) {
            awaitable.clone()
        } else {
            py.import(intern!(py, "cano._engine.attempts"))?.call_method1(intern!(py, "as_coroutine"), (awaitable,))?
        };
        if state.real_tasks {
            let task = py
                .import(intern!(py, "cano._engine.attempts"))?
                .call_method1(intern!(py, "TaskAttempt"), (slf, index, attempt, started))?;
            self.register(state, index, task.clone().unbind());
            let context = match context {
                Some(context) => context.clone(),
                None => copy_context(state.snapshot.bind(py))?,
            };
            task.call_method1(intern!(py, "begin"), (coro, context))?;
            let alive = state.live.borrow().has_other(index);
            return if alive { self.arm_other(slf, state, index, &task, started) } else { Ok(()) };
        }
        let mut entered = Entered::new(slf, state);
        let branch = entered.fresh_in(context)?;
        branch.get().state()?.assign(index, attempt, started, &coro);
        let stepped = branch::step(&coro, None);
        drop(coro);
        let answer = self.first_step(slf, state, &mut entered, &branch, stepped);
        let left = entered.leave();
        match answer {
            Err(error) if is_fatal(py, &error) && state.pumping.get() => Err(error),
            answer => answer.and(left),
        }
    }
}
