//! What a split knows: as it begins, and as the garbage collector sees it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use cano_engine::{Landing, SplitMachine, WakeFlag};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use super::SplitDriver;
use super::events::Wants;
use super::live::{Key, Live, Loser};
use super::place::{LazyScope, Place};
use super::together::Awaited;
use crate::clock::{Clock, Stopwatch};
use crate::columns::Table;
use crate::confined::{Confined, Slot};
use crate::current::{copy_current_context, running_loop};
use crate::indices::ByIndex;
use crate::spec::{CallSpec, Own, SplitSpec};
use crate::threads::Exchange;
use crate::timers::{TimerId, Timers};

/// The state of one split, on its loop's thread.
pub(crate) struct State {
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
    /// What was live at the decision, and has not been told so yet.
    pub(super) losers: RefCell<VecDeque<Loser>>,
    /// What is to be looked at, since something may have been lost; and whether all are, afterwards.
    pub(super) looks: RefCell<VecDeque<Loser>>,
    pub(super) looks_again: Cell<bool>,
    /// The options of branches that have others than the split.
    pub(super) own: RefCell<ByIndex<Own>>,
    /// What branches that back off, or may have to, are called with.
    pub(super) again: RefCell<ByIndex<(CallSpec, Py<PyAny>)>>,
    /// When branches that needed more than one attempt began.
    pub(super) begun: RefCell<ByIndex<f64>>,
    pub(super) table: RefCell<Table>,
    /// Yielded bare in this turn.
    pub(super) batch: RefCell<Vec<Key>>,
    /// Yielded bare before, and not resumed within a slice.
    pub(super) backlog: RefCell<VecDeque<Key>>,
    /// When the time slice is over of the branches that are resumed in this turn of the loop; and whether something is scheduled
    /// that begins the next one.
    pub(super) slice_end: Cell<f64>,
    pub(super) slice_due: Cell<bool>,
    pub(super) jobs: RefCell<Vec<Py<PyAny>>>,
    /// Items of this turn for the workers.
    pub(super) to_threads: RefCell<Vec<(u32, Py<PyAny>)>>,
    pub(super) timers: RefCell<Timers>,
    pub(super) hedge: Cell<TimerId>,
    pub(super) opened: Cell<bool>,
    pub(super) pumping: Cell<bool>,
    /// Whoever awaits the split is taking a step of it.
    pub(super) polling: Cell<bool>,
    /// The branch that awaits the split knows of it.
    pub(super) is_awaited: Cell<bool>,
    /// A panic was caught, or an interrupt: the machine may have been told less than has happened.
    pub(super) broken: Cell<bool>,
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
                losers: RefCell::default(),
                looks: RefCell::default(),
                looks_again: Cell::new(false),
                own: RefCell::default(),
                again: RefCell::default(),
                begun: RefCell::default(),
                table: RefCell::default(),
                batch: RefCell::default(),
                backlog: RefCell::default(),
                slice_end: Cell::new(0.0),
                slice_due: Cell::new(false),
                jobs: RefCell::default(),
                to_threads: RefCell::default(),
                timers: RefCell::default(),
                hedge: Cell::new(0),
                opened: Cell::new(false),
                pumping: Cell::new(false),
                polling: Cell::new(false),
                is_awaited: Cell::new(false),
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
            released: AtomicBool::new(false),
            exchange: Exchange::default(),
            snapshot: snapshot.unbind(),
            event_loop: event_loop.unbind(),
            clock,
        })
    }
}

impl State {
    /// Whether failed attempts of a branch may be made again.
    pub(super) fn retries(&self, index: u32) -> bool {
        match self.own.borrow().get(&index) {
            Some(own) => own.retries(),
            None => self.spec.get().retries(),
        }
    }

    /// How long an attempt of a branch may take.
    pub(super) fn limit_of(&self, index: u32) -> Option<f64> {
        match self.own.borrow().get(&index) {
            Some(own) => own.attempt_timeout,
            None => self.spec.get().attempt_timeout,
        }
    }

    /// Lets go of what a branch that has ended could have been called with again.
    pub(super) fn forget(&self, index: u32) {
        let (own, again) = (self.own.borrow_mut().remove(&index), self.again.borrow_mut().remove(&index));
        drop((own, again)); // no longer borrowed: what is let go of may be the user's
    }

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

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
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
        if let Ok(own) = self.own.try_borrow() {
            for own in own.values() {
                visit.call(&own.retry_object)?;
            }
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

    pub(super) fn clear(&self) {
        self.scope.clear();
        self.awaited.forget();
        for slot in self.slots() {
            slot.set(None);
        }
        let live = self.live.try_borrow_mut().map(|mut live| std::mem::take(&mut *live));
        let own = self.own.try_borrow_mut().map(|mut own| std::mem::take(&mut *own));
        let again = self.again.try_borrow_mut().map(|mut again| std::mem::take(&mut *again));
        let timers = self.timers.try_borrow_mut().map(|mut timers| timers.clear());
        let table = self.table.try_borrow_mut().map(|mut table| std::mem::take(&mut *table));
        let errors = self.loser_errors.try_borrow_mut().map(|mut errors| std::mem::take(&mut *errors));
        let jobs = self.jobs.try_borrow_mut().map(|mut jobs| std::mem::take(&mut *jobs));
        let items = self.to_threads.try_borrow_mut().map(|mut items| std::mem::take(&mut *items));
        drop((live, own, again, timers, table, errors, jobs, items));
    }
}
