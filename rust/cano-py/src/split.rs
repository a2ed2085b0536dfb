//! Drives one split on the loop's thread: starts branches, reports what became of them to the machine, obeys it.
//!
//! The mirror of `pure/driver/`. All rules of starting and joining are in `cano_engine::SplitMachine`; this knows the loop,
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
mod interface;
mod launch;
mod life;
mod live;
mod lost;
mod paused_collector;
mod place;
mod quick;
mod start;
mod state;
mod together;
mod turn;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use cano_engine::{Landing, MachineError, SplitMachine, Verdict, WakeFlag};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::branch::Branch;
use crate::clock::{Clock, Stopwatch};
use crate::confined::Confined;
use crate::threads::Exchange;
use crate::timers::{Due, TimerId};
pub(crate) use life::Poll;
use live::Attempt;
pub(crate) use live::Key;
pub(crate) use place::Place;
pub(crate) use start::{is_awaitable, is_coroutine};
use state::State;

/// How long the engine works in one loop callback before others have their turn, in seconds (promised: about 10 ms).
pub(crate) const SLICE: f64 = 0.002;
/// A slice ends after so many starts or transitions, too: a clock may stand still, or run backwards.
pub(crate) const STEPS: u32 = 10_000;
/// How many attempts a turn may cancel, for their time or because the split is decided: that is quick, but what they wait for then
/// calls each of them back in the loop's next turn, where nothing counts, and that takes ten times as long.
const CANCELS: usize = 128;
/// Eager starts nest on the C stack when branches split again; beyond this depth a split starts from a loop callback.
const DEPTH_LIMIT: u32 = 40;

/// One split of one run.
#[pyclass(frozen, weakref, module = "cano._core")]
pub(crate) struct SplitDriver {
    state: Confined<State>,
    /// Sync attempts that ended on their threads; the only thing other threads write.
    landed: Landing<Py<PyAny>>,
    landing: WakeFlag,
    /// All that lives is a loser: it has been told, or is told at its next step; and what has not begun does not begin.
    released: AtomicBool,
    /// What the workers of a sync split over data take and bring.
    pub(crate) exchange: Exchange,
    /// The context a run was in when it entered the split.
    snapshot: Py<PyAny>,
    event_loop: Py<PyAny>,
    clock: Clock,
}

thread_local! {
    /// How many start loops are on this thread's stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl SplitDriver {
    #[inline]
    pub(super) fn state(&self) -> PyResult<&State> {
        self.state.get()
    }

    #[inline]
    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
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
        let (id, earliest) = state.timers.borrow_mut().all.add(when, due);
        if earliest {
            self.arm_loop(slf, state)?;
        }
        Ok(id)
    }

    /// Forgets a timer.
    pub(crate) fn cancel_timer(&self, _py: Python<'_>, id: TimerId) -> PyResult<()> {
        let forgotten = self.state()?.timers.borrow_mut().all.cancel(id);
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
    pub(super) fn is_called_by_the_loop(&self) -> PyResult<bool> {
        let state = self.state()?;
        Ok(!state.pumping.get() && !state.polling.get())
    }

    /// Ends the split with an error of ours. What was to resume a branch may have been lost with it.
    pub(crate) fn fail_internally(&self, slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let state = self.state()?;
        self.count_anew(state);
        state.failure.set(Some(error.into_value(slf.py()).into_any()));
        self.look_later(slf, state)?;
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
        state.fatal.set(Some(crate::errors::exception(py, error).unbind()));
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

/// Whether a verdict asks for anything to be done.
pub(super) fn is_final(verdict: Verdict) -> bool {
    verdict != Verdict::Wait
}
