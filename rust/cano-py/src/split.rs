//! Drives one split on the loop's thread: starts branches, reports what became of them to the machine, obeys it.
//!
//! The mirror of `pure/driver.py`. All rules of starting and joining are in `cano_engine::SplitMachine`; this knows the loop,
//! the clock and the user's objects. What it must get right (docs/design/branches-in-place.md):
//!
//! - a branch is started in place, from the run's own stack or from a loop callback, never from inside another branch;
//! - branches that yield bare are resumed together, by a callback scheduled at the end of the turn that produced them;
//! - a batch, like the start loop, gives the loop its turn after a time slice;
//! - the decision falls at the deciding completion; losers are cancelled once, and awaited through any number of
//!   cancellations of the run.
//!
//! No `RefCell` is borrowed while Python code can run: not across a call, nor while a Python object is let go of.

mod ending;
mod entered;
pub(crate) mod events;
mod feeding;
mod handover;
mod launch;
mod life;
mod live;
mod paused_collector;
mod place;
mod quick;
mod start;
mod together;
mod turn;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use cano_engine::{Landing, MachineError, SplitMachine, Verdict, WakeFlag};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::branch::{Branch, Outcome};
use crate::clock::{Clock, Stopwatch};
use crate::columns::Table;
use crate::confined::{Confined, Slot};
use crate::current::{copy_current_context, running_loop};
use crate::indices::ByIndex;
use crate::spec::{CallSpec, SplitSpec};
use crate::threads::{Cursor, Exchange};
use crate::timers::{Due, TimerId, Timers};
use events::Wants;
pub(crate) use live::Key;
use live::{Attempt, Live};
use place::LazyScope;
pub(crate) use place::Place;
use together::Awaited;

/// How long the engine works in one loop callback before others have their turn, in seconds (promised: about 10 ms).
pub(crate) const SLICE: f64 = 0.002;
/// A slice ends after so many starts or transitions, too: a clock may stand still, or run backwards.
pub(crate) const STEPS: u32 = 10_000;
/// Eager starts nest on the C stack when branches split again; beyond this depth a split starts from a loop callback.
const DEPTH_LIMIT: u32 = 40;

/// One split of one run.
#[pyclass(frozen, weakref, module = "cano._core")]
pub(crate) struct SplitDriver {
    state: Confined<State>,
    /// Sync attempts that ended on their threads; the only thing other threads write.
    landed: Landing<Py<PyAny>>,
    landing: WakeFlag,
    /// What the workers of a sync split over data take and bring.
    pub(crate) exchange: Exchange,
    /// The context a run was in when it entered the split.
    snapshot: Py<PyAny>,
    event_loop: Py<PyAny>,
    clock: Clock,
}

pub(super) struct State {
    pub(super) spec: Py<SplitSpec>,
    pub(super) store: Py<PyAny>,
    /// `_engine/scope.py`: where this happens, and who listens.
    pub(super) scope: LazyScope,
    pub(super) wants: Wants,
    /// Whether awaiting the split gives its result.
    pub(super) answers: bool,
    pub(super) outbox: Option<Py<PyAny>>,
    pub(super) real_tasks: bool,
    pub(super) entered: f64,
    pub(super) snapshot: Py<PyAny>,
    /// The copy of it that branches run in (`entered.rs`), and whether it is entered.
    pub(super) shared_context: Slot,
    pub(super) shares: Cell<bool>,
    /// Shows the time in what the engine does in one go.
    pub(super) watch: Cell<Option<Stopwatch>>,
    pub(super) machine: RefCell<SplitMachine>,
    /// The source's iterator, until it is exhausted.
    pub(super) items_left: Slot,
    pub(super) plain_source: Cell<bool>,
    pub(super) close_source: Slot,
    pub(super) feeder: Slot,
    pub(super) room: Slot,
    pub(super) live: RefCell<Live>,
    /// What branches that back off, or may have to, are called with.
    pub(super) again: RefCell<ByIndex<(CallSpec, Py<PyAny>)>>,
    /// When branches that needed more than one attempt began.
    pub(super) begun: RefCell<ByIndex<f64>>,
    pub(super) table: RefCell<Table>,
    /// Yielded bare in this turn.
    pub(super) batch: RefCell<Vec<Key>>,
    /// Yielded bare before, and not resumed within a slice.
    pub(super) backlog: RefCell<VecDeque<Key>>,
    pub(super) jobs: RefCell<Vec<Py<PyAny>>>,
    /// Items of this turn for the workers.
    pub(super) to_threads: RefCell<Vec<(u32, Py<PyAny>)>>,
    pub(super) timers: RefCell<Timers>,
    pub(super) hedge: Cell<TimerId>,
    pub(super) opened: Cell<bool>,
    pub(super) pumping: Cell<bool>,
    /// Whoever awaits the split is taking a step of it.
    polling: Cell<bool>,
    /// A panic was caught, or an interrupt: the machine may have been told less than has happened.
    broken: Cell<bool>,
    pub(super) pump_scheduled: Cell<bool>,
    /// What the branch that parked last waits for, and with whom.
    pub(super) awaited: Awaited,
    pub(super) waiter: Slot,
    pub(super) cancelled: Slot,
    pub(super) fatal: Slot,
    pub(super) fatal_raised: Cell<bool>,
    pub(super) failure: Slot,
    pub(super) timed_out: Cell<bool>,
    pub(super) loser_errors: RefCell<Vec<(i64, Py<PyAny>)>>,
    pub(super) closed: Cell<bool>,
}

thread_local! {
    /// How many start loops are on this thread's stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl SplitDriver {
    pub(crate) fn new(
        py: Python<'_>,
        spec: Py<SplitSpec>,
        store: Py<PyAny>,
        place: Option<Place>,
        wants: Wants,
        outbox: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let event_loop = running_loop(py)?;
        let clock = Clock::of(&event_loop)?;
        let introspect = place.as_ref().is_some_and(|place| place.introspect);
        // Of a split in a workflow nobody may ask what came of it; then no result is made.
        let answers = place.is_none();
        let real_tasks = introspect || !event_loop.call_method0(intern!(py, "get_task_factory"))?.is_none();
        let entered = clock.now(py)?;
        let plan = spec.get();
        let snapshot = copy_current_context(py)?;
        let machine = SplitMachine::new(plan.rule, None, plan.bulkhead, plan.hedge_delay.is_some());
        Ok(Self {
            state: Confined::new(State {
                wants,
                spec,
                store,
                scope: LazyScope::new(place),
                answers,
                outbox,
                real_tasks,
                entered,
                snapshot: snapshot.clone().unbind(),
                shared_context: Slot::default(),
                shares: Cell::new(false),
                watch: Cell::new(None),
                machine: RefCell::new(machine),
                items_left: Slot::default(),
                plain_source: Cell::new(false),
                close_source: Slot::default(),
                feeder: Slot::default(),
                room: Slot::default(),
                live: RefCell::default(),
                again: RefCell::default(),
                begun: RefCell::default(),
                table: RefCell::default(),
                batch: RefCell::default(),
                backlog: RefCell::default(),
                jobs: RefCell::default(),
                to_threads: RefCell::default(),
                timers: RefCell::default(),
                hedge: Cell::new(0),
                opened: Cell::new(false),
                pumping: Cell::new(false),
                polling: Cell::new(false),
                broken: Cell::new(false),
                pump_scheduled: Cell::new(false),
                awaited: Awaited::default(),
                waiter: Slot::default(),
                cancelled: Slot::default(),
                fatal: Slot::default(),
                fatal_raised: Cell::new(false),
                failure: Slot::default(),
                timed_out: Cell::new(false),
                loser_errors: RefCell::default(),
                closed: Cell::new(false),
            }),
            landed: Landing::default(),
            landing: WakeFlag::default(),
            exchange: Exchange::default(),
            snapshot: snapshot.unbind(),
            event_loop: event_loop.unbind(),
            clock,
        })
    }

    #[inline]
    pub(super) fn state(&self) -> PyResult<&State> {
        self.state.get()
    }

    /// What `of` gives of the suspended branches, for `crate::collector`.
    pub(crate) fn of_suspended<T>(&self, of: impl Fn(&Branch) -> Option<T>) -> Vec<T> {
        match self.state.get_for_gc().live.try_borrow() {
            Ok(live) => live.of_each(of),
            Err(_) => Vec::new(),
        }
    }

    /// The time on the loop's clock, in seconds.
    #[inline]
    pub(crate) fn now_at(&self, py: Python<'_>) -> PyResult<f64> {
        self.clock.now(py)
    }

    /// The time on the loop's clock, read by the stopwatch of what the engine is doing, if it has one.
    #[inline]
    pub(crate) fn now_in_turn(&self, py: Python<'_>) -> PyResult<f64> {
        match self.state()?.watch.get() {
            Some(watch) => watch.now(&self.clock, py),
            None => self.clock.now(py),
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn stopwatch(&self, py: Python<'_>) -> PyResult<Stopwatch> {
        self.clock.stopwatch(py)
    }

    /// The context the run was in when it entered the split.
    pub(crate) fn snapshot<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.snapshot.bind(py)
    }

    pub(crate) fn task_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.state()?.spec.get().name.bind(py).clone())
    }

    pub(crate) fn event_loop_of<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }

    /// The context that the branch which runs now shares with others.
    pub(crate) fn shared_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.state()?;
        Ok(if state.shares.get() { state.shared_context.get(py) } else { None })
    }

    /// Has a branch that yielded bare resumed with the others of this turn.
    pub(crate) fn batch_branch(&self, branch: Key) -> PyResult<()> {
        self.state()?.batch.borrow_mut().push(branch);
        Ok(())
    }

    /// The suspended branch of a key, if it is suspended still.
    pub(crate) fn suspended<'py>(&self, py: Python<'py>, key: Key) -> PyResult<Option<Bound<'py, Branch>>> {
        Ok(self.state()?.live.borrow().branch(py, key))
    }

    /// Adds a timer.
    pub(crate) fn add_timer(&self, slf: &Bound<'_, Self>, when: f64, due: Due) -> PyResult<TimerId> {
        let state = self.state()?;
        let (id, earliest) = state.timers.borrow_mut().add(when, due);
        if earliest {
            self.arm_loop(slf, state)?;
        }
        Ok(id)
    }

    /// Forgets a timer.
    pub(crate) fn cancel_timer(&self, _py: Python<'_>, id: TimerId) -> PyResult<()> {
        let forgotten = self.state()?.timers.borrow_mut().cancel(id);
        drop(forgotten);
        Ok(())
    }

    /// Whether a `KeyboardInterrupt` or `SystemExit` of a branch must leave through the loop now, as from a Task.
    ///
    /// Not while the start loop is in the run's own stack: there the run itself raises it, after clean-up.
    pub(crate) fn raises_fatal(&self) -> bool {
        let Ok(state) = self.state() else { return true };
        if state.pumping.get() {
            return false;
        }
        state.fatal_raised.set(true);
        true
    }

    /// Whether what is raised now leaves through the loop, rather than through whoever awaits the split.
    fn is_called_by_the_loop(&self) -> PyResult<bool> {
        let state = self.state()?;
        Ok(!state.pumping.get() && !state.polling.get())
    }

    /// Ends the split with an error of ours.
    pub(crate) fn fail_internally(&self, slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let state = self.state()?;
        self.count_anew(state);
        state.failure.set(Some(error.into_value(slf.py()).into_any()));
        self.stop(slf, state)?;
        self.discard_landed(slf.py())?;
        self.wake(slf, state)
    }

    /// Ends the split because a `KeyboardInterrupt` or `SystemExit` has come out of whatever was done; `raised`: through the loop.
    pub(crate) fn break_off(&self, slf: &Bound<'_, Self>, error: &PyErr, raised: bool) -> PyResult<()> {
        let py = slf.py();
        let state = self.state()?;
        if state.fatal.is_set() {
            return Ok(()); // a branch's own, and known
        }
        self.count_anew(state);
        state.fatal.set(Some(error.value(py).clone().into_any().unbind()));
        if raised {
            state.fatal_raised.set(true);
        }
        self.stop(slf, state)?;
        // The decision may have fallen, and not all have been told.
        self.release_all(slf, state)
    }

    /// The machine may have been told less than has happened: from here on, what is left is what counts.
    fn count_anew(&self, state: &State) {
        state.pumping.set(false);
        state.broken.set(true);
        let ended = state.live.borrow_mut().remove_ended();
        drop(ended);
    }

    /// The caller is gone and nobody will wait: cancel everything, and close.
    pub(crate) fn abandon_now(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let state = self.state()?;
        if state.opened.get() && !state.closed.get() { self.abandon(slf, state) } else { Ok(()) }
    }

    /// Whether every attempt, and the feeder, has ended.
    pub(super) fn settled(&self, py: Python<'_>, state: &State) -> PyResult<bool> {
        let settled =
            if state.broken.get() { state.live.borrow().is_empty() } else { state.machine.borrow().is_settled() };
        if !settled {
            return Ok(false);
        }
        match state.feeder.get(py) {
            None => Ok(true),
            Some(feeder) => feeder.call_method0(intern!(py, "done"))?.is_truthy(),
        }
    }

    /// Wakes whoever awaits the split, once it has settled.
    pub(super) fn wake(&self, slf: &Bound<'_, Self>, state: &State) -> PyResult<()> {
        let py = slf.py();
        if state.waiter.is_set()
            && self.settled(py, state)?
            && let Some(waiter) = state.waiter.get(py)
            && !waiter.call_method0(intern!(py, "done"))?.is_truthy()?
        {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        Ok(())
    }
}

/// Reports to the machine and reads its answer.
pub(super) fn tell<T>(
    py: Python<'_>,
    state: &State,
    event: impl FnOnce(&mut SplitMachine) -> Result<T, MachineError>,
) -> PyResult<T> {
    crate::fail::point();
    let answer = event(&mut state.machine.borrow_mut());
    answer.map_err(|error| crate::errors::machine_error(py, error))
}

/// What Python calls: the attempts and the feeder of `_engine/`, which are Python under both engines.
#[pymethods]
impl SplitDriver {
    /// The loop the split runs on.
    #[getter(r#loop)]
    fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// The `SplitPlan`.
    #[getter]
    fn plan(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.state()?.spec.get().plan.clone_ref(py))
    }

    /// The time on the loop's clock; from any thread.
    fn now(&self, py: Python<'_>) -> PyResult<f64> {
        self.clock.now(py)
    }

    /// Has an attempt told when its time is up.
    fn arm(slf: &Bound<'_, Self>, attempt: Py<PyAny>, due: f64) -> PyResult<TimerId> {
        slf.get().add_timer(slf, due, Due::OtherAttempt(attempt))
    }

    /// Forgets a timer.
    #[pyo3(name = "cancel_timer")]
    fn forget_timer(&self, py: Python<'_>, timer: TimerId) -> PyResult<()> {
        self.cancel_timer(py, timer)
    }

    /// Takes in that an attempt of `_engine/attempts.py` has ended.
    fn attempt_ended(
        slf: &Bound<'_, Self>,
        attempt: &Bound<'_, PyAny>,
        outcome: u8,
        result: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (outcome, payload) = match outcome {
            0 => (Outcome::Ok, result),
            1 => (Outcome::Error, error),
            _ => (Outcome::Cancelled, error),
        };
        let answer = crate::hook::protected(slf, || slf.get().other_ended(slf, attempt, outcome, payload.clone()));
        if let Err(error) = &answer
            && crate::branch::is_fatal(slf.py(), error)
            && slf.get().is_called_by_the_loop()?
        {
            // The machine may not have been told: it has to count anew.
            crate::hook::protected(slf, || slf.get().break_off(slf, error, true))?;
        }
        answer
    }

    /// Notes that a task of asyncio's has raised a `KeyboardInterrupt` or `SystemExit` through the loop.
    #[pyo3(name = "raises_fatal")]
    fn python_raises_fatal(&self) -> bool {
        self.raises_fatal()
    }

    /// Ends a turn of the engine's.
    #[pyo3(name = "end_turn")]
    fn python_end_turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        crate::hook::protected(slf, || slf.get().end_turn(slf))
    }

    /// Takes in, on a worker thread, that a sync attempt has ended. What comes back, the loop is to be woken with.
    #[pyo3(name = "landed")]
    fn python_landed(slf: &Bound<'_, Self>, attempt: Py<PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        match crate::hook::caught(py, || slf.get().land(slf, attempt)) {
            Ok(hook) => Ok(hook.map(Py::into_any)),
            // The thread has nobody to raise it to, and the attempt would never end: the loop has to hear of it.
            Err(error) => {
                let partial = py.import("functools")?.getattr("partial")?;
                partial.call1((slf.getattr("worker_failed")?, error.into_value(py))).map(|call| Some(call.unbind()))
            }
        }
    }

    /// A worker begins; whether another worker's job must be submitted.
    fn take_up(&self, py: Python<'_>) -> PyResult<bool> {
        crate::hook::caught(py, || {
            crate::fail::point();
            Ok(self.exchange.items.take_up())
        })
    }

    /// A worker's way through the items, in a context of its own.
    fn cursor(slf: &Bound<'_, Self>) -> PyResult<Cursor> {
        crate::hook::caught(slf.py(), || Cursor::new(slf))
    }

    /// A worker has failed, and no function of the user's: what it had in hand will never be reported.
    fn worker_failed(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        crate::hook::guarded(slf, || {
            let is_decided = slf.get().state()?.machine.borrow().is_decided();
            if is_decided { Ok(()) } else { slf.get().fail_internally(slf, PyErr::from_value(error.clone())) }
        })
    }

    /// Waits (as a future) until a fresh branch may start; true at once if it may.
    fn room<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().make_room(slf)
    }

    /// Starts a branch on an item drawn by `feed`; false when nothing may start now.
    fn offer(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        let answer = crate::hook::caught(py, || slf.get().take_offer(slf, item));
        if let Err(error) = &answer
            && crate::branch::is_fatal(py, error)
        {
            // The machine has given out a branch that will never be: it has to count anew. The feeder's task raises the error.
            crate::hook::protected(slf, || slf.get().break_off(slf, error, true))?;
        }
        answer
    }

    /// The source turned out to have a length.
    fn known(slf: &Bound<'_, Self>, total: u64) -> PyResult<()> {
        crate::hook::caught(slf.py(), || slf.get().take_total(slf, total))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<cano split {}>", self.task_name(py)?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.snapshot)?;
        self.exchange.visit(&visit)?;
        self.landed.show(|attempt| visit.call(attempt))?;
        self.state.get_for_gc().visit(&visit)
    }

    fn __clear__(&self) {
        self.state.get_for_gc().clear();
    }
}

impl State {
    fn slots(&self) -> [&Slot; 9] {
        [
            &self.shared_context,
            &self.items_left,
            &self.close_source,
            &self.feeder,
            &self.room,
            &self.waiter,
            &self.cancelled,
            &self.fatal,
            &self.failure,
        ]
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.spec)?;
        visit.call(&self.store)?;
        self.scope.visit(visit)?;
        self.awaited.visit(visit)?;
        visit.call(&self.outbox)?;
        visit.call(&self.snapshot)?;
        for slot in self.slots() {
            slot.visit(visit)?;
        }
        // What is borrowed is in use, so it is no garbage.
        if let Ok(live) = self.live.try_borrow() {
            live.visit(visit)?;
        }
        if let Ok(again) = self.again.try_borrow() {
            for (call, item) in again.values() {
                visit.call(&call.function)?;
                visit.call(item)?;
            }
        }
        if let Ok(table) = self.table.try_borrow() {
            table.visit(visit)?;
        }
        if let Ok(timers) = self.timers.try_borrow() {
            timers.visit(visit)?;
        }
        if let Ok(errors) = self.loser_errors.try_borrow() {
            for (_, error) in errors.iter() {
                visit.call(error)?;
            }
        }
        if let Ok(jobs) = self.jobs.try_borrow() {
            for job in jobs.iter() {
                visit.call(job)?;
            }
        }
        if let Ok(items) = self.to_threads.try_borrow() {
            for (_, item) in items.iter() {
                visit.call(item)?;
            }
        }
        Ok(())
    }

    fn clear(&self) {
        self.scope.clear();
        self.awaited.forget();
        for slot in self.slots() {
            slot.set(None);
        }
        let live = self.live.try_borrow_mut().map(|mut live| std::mem::take(&mut *live));
        let again = self.again.try_borrow_mut().map(|mut again| std::mem::take(&mut *again));
        let timers = self.timers.try_borrow_mut().map(|mut timers| timers.clear());
        let table = self.table.try_borrow_mut().map(|mut table| std::mem::take(&mut *table));
        let errors = self.loser_errors.try_borrow_mut().map(|mut errors| std::mem::take(&mut *errors));
        let jobs = self.jobs.try_borrow_mut().map(|mut jobs| std::mem::take(&mut *jobs));
        let items = self.to_threads.try_borrow_mut().map(|mut items| std::mem::take(&mut *items));
        drop((live, again, timers, table, errors, jobs, items));
    }
}

pub(crate) use life::Poll;
pub(crate) use start::{is_awaitable, is_coroutine};

/// Whether a verdict asks for anything to be done.
pub(super) fn is_final(verdict: Verdict) -> bool {
    verdict != Verdict::Wait
}
