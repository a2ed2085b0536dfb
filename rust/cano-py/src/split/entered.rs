//! Running branches: which one is current, and which context is entered.
//!
//! Making a branch current, entering its context and taking both back costs more than a branch that returns at once, or a step
//! of one that gives the loop a turn. So nothing is taken back between one branch and the next
//! (docs/design/branches-in-place.md):
//!
//! - **the task object** of a branch that ended in its first step serves the next one, if nobody can have noticed;
//! - **one context** serves all branches of a split, as long as none has set a variable in it: then all hold the variables that
//!   the run had when it entered the split. A branch that sets one keeps the context for itself, and the others get a fresh
//!   copy. So does a branch whose context is asked for.

use pyo3::prelude::*;

use super::{SplitDriver, State};
use crate::branch::{self, Branch};
use crate::collector::{has_weak_references, hide, references, show};
use crate::current::{
    copy_context, enter_context, exit_context, has_same_variables, set_current_task, swap_current_task,
};

pub(super) struct Entered<'a, 'py> {
    driver: &'a Bound<'py, SplitDriver>,
    state: &'a State,
    /// The task that was current before; `None` while nothing has been made current.
    previous: Option<Bound<'py, PyAny>>,
    context: Option<Inside<'py>>,
    /// A branch that is current and has no coroutine yet, or one that has ended and left no trace.
    unused: Option<Bound<'py, Branch>>,
}

/// The context that is entered.
struct Inside<'py> {
    context: Bound<'py, PyAny>,
    /// Whether it is the one that branches share, `State::shared_context`.
    shared: bool,
    /// How many references it has while nobody else knows it.
    known: isize,
}

/// References to a branch that waits for something of the engine's, right after the step that made it wait: of the split, of
/// the caller, and of the interpreter, whose current task it still is.
const WAITING: isize = 3;
/// The same of one that has ended: the split has let go of it.
const ENDED: isize = 2;

/// Whether anybody has a reference to a branch, strong or weak, beside those that are `ours`.
#[inline]
fn is_known(branch: &Bound<'_, Branch>, ours: isize) -> bool {
    references(branch.as_ptr()) > ours || has_weak_references(branch.as_ptr())
}

impl<'a, 'py> Entered<'a, 'py> {
    pub(super) fn new(driver: &'a Bound<'py, SplitDriver>, state: &'a State) -> Self {
        Self { driver, state, previous: None, context: None, unused: None }
    }

    /// A branch without a coroutine that is current, in the context that branches share.
    #[inline]
    pub(super) fn fresh(&mut self) -> PyResult<Bound<'py, Branch>> {
        match &self.unused {
            Some(unused) => Ok(unused.clone()),
            None => self.fresh_in(None),
        }
    }

    /// A branch without a coroutine that is current, in a context of its own if there is one.
    pub(super) fn fresh_in(&mut self, own: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, Branch>> {
        let py = self.driver.py();
        let event_loop = self.driver.get().event_loop.bind(py);
        let branch = Bound::new(py, Branch::new(self.driver, event_loop, self.state.snapshot.bind(py)))?;
        hide(&branch);
        if let Some(own) = own {
            branch.get().state()?.set_own_context(own.clone().unbind());
        }
        self.make_current(&branch)?;
        self.enter_its(branch.get().state()?)?;
        self.unused = Some(branch.clone());
        Ok(branch)
    }

    /// Enters the context that branches share, for a call that is no branch's task: what was current stays so.
    #[inline]
    pub(super) fn enter_shared(&mut self) -> PyResult<()> {
        match &self.context {
            Some(inside) if inside.shared => Ok(()),
            _ => self.enter(None).map(drop),
        }
    }

    /// Such a call has returned. If it has changed the context that branches share, it is left, and is the caller's.
    #[inline]
    pub(super) fn called(&mut self) -> Option<Bound<'py, PyAny>> {
        if self.is_context_unchanged() {
            return None;
        }
        let changed = self.keep_context();
        let _ = self.exit();
        changed
    }

    /// Takes a step of a suspended branch: it is current afterwards. An error that comes out is fatal.
    pub(super) fn step(&mut self, branch: &Bound<'py, Branch>, error: Option<PyErr>) -> PyResult<()> {
        let its = branch.get().state()?;
        if its.is_done() {
            return Ok(());
        }
        if let Err(error) = self.switch_to(branch, its) {
            its.running.set(false);
            return Err(error);
        }
        if self.driver.get().is_released() {
            branch::overtake(its);
        }
        crate::fail::crossing();
        let answer = branch::take_step(branch, its, error);
        crate::fail::crossing();
        self.stepped(branch, its);
        answer
    }

    /// Makes a branch current, in its context; the last one is no longer.
    pub(super) fn switch_to(&mut self, branch: &Bound<'py, Branch>, its: &branch::State) -> PyResult<()> {
        self.unused = None;
        its.running.set(true);
        self.make_current(branch)?;
        self.enter_its(its)
    }

    fn make_current(&mut self, branch: &Bound<'py, Branch>) -> PyResult<()> {
        let event_loop = self.driver.get().event_loop.bind(self.driver.py());
        if self.previous.is_some() {
            return set_current_task(event_loop, branch.as_any());
        }
        self.previous = Some(swap_current_task(event_loop, branch.as_any())?);
        Ok(())
    }

    /// Enters a context: a branch's own, or the one that branches share. What comes back is a branch's own from now on.
    fn enter(&mut self, own: Option<Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.driver.py();
        match (&self.context, &own) {
            (Some(inside), None) if inside.shared => return Ok(None),
            (Some(_), _) => self.exit()?,
            (None, _) => {}
        }
        let mut fresh = None;
        let (context, shared) = match own {
            Some(own) => (own, false),
            None if self.state.shares.replace(true) => {
                // Entered further down in this stack, and no context can be entered twice.
                let context = copy_context(self.state.snapshot.bind(py))?;
                fresh = Some(context.clone());
                (context, false)
            }
            None => match self.state.shared_context.get(py) {
                Some(shared) => (shared, true),
                None => {
                    let context = copy_context(self.state.snapshot.bind(py))?;
                    self.state.shared_context.set(Some(context.clone().unbind()));
                    (context, true)
                }
            },
        };
        if let Err(error) = enter_context(&context) {
            self.state.shares.set(self.state.shares.get() && !shared);
            return Err(error);
        }
        let known = references(context.as_ptr());
        self.context = Some(Inside { context, shared, known });
        Ok(fresh)
    }

    /// Enters the context of a branch.
    #[inline]
    fn enter_its(&mut self, its: &branch::State) -> PyResult<()> {
        if let Some(fresh) = self.enter(its.own_context(self.driver.py()))? {
            its.set_own_context(fresh.unbind());
        }
        Ok(())
    }

    /// The context that branches share has been changed: it stays entered, but they share it no more.
    fn keep_context(&mut self) -> Option<Bound<'py, PyAny>> {
        let inside = self.context.as_mut()?;
        if inside.shared {
            inside.shared = false;
            self.state.shares.set(false);
            self.state.shared_context.set(None);
        }
        Some(inside.context.clone())
    }

    fn exit(&mut self) -> PyResult<()> {
        let Some(inside) = self.context.take() else { return Ok(()) };
        if inside.shared {
            self.state.shares.set(false);
        }
        exit_context(&inside.context)
    }

    /// Whether the context that branches share is as it was, and nobody has taken a reference to it.
    #[inline]
    fn is_context_unchanged(&self) -> bool {
        self.context.as_ref().is_some_and(|inside| {
            references(inside.context.as_ptr()) == inside.known
                && has_same_variables(&inside.context, self.state.snapshot.bind(self.driver.py()))
        })
    }

    /// Whether a branch that returned in its first step left no trace of itself, so that the next may be it.
    #[inline]
    pub(super) fn is_unshared(&self, branch: &Bound<'py, Branch>, its: &branch::State) -> bool {
        // References: of the interpreter, of `unused`, and the caller's.
        its.is_untouched()
            && references(branch.as_ptr()) == WAITING
            && !has_weak_references(branch.as_ptr())
            && self.is_context_unchanged()
    }

    /// A branch has taken a step; it is still current, and the split has it if it waits. What it has done to the context that
    /// branches share is its own, and the collector need not see it as long as nobody else does.
    #[inline]
    pub(super) fn stepped(&mut self, branch: &Bound<'py, Branch>, its: &branch::State) {
        self.unused = None;
        if self.context.as_ref().is_some_and(|inside| inside.shared)
            && !self.is_context_unchanged()
            && let Some(context) = self.keep_context()
        {
            its.set_own_context(context.unbind());
        }
        its.running.set(false);
        if its.is_done() {
            if is_known(branch, ENDED) {
                show(branch);
            }
        } else {
            if is_known(branch, WAITING) {
                show(branch);
            }
            its.hide_coroutine();
        }
    }

    /// Leaves, and restores the task that was current before; whatever happened.
    pub(super) fn leave(&mut self) -> PyResult<()> {
        self.unused = None;
        let exited = self.exit();
        let Some(previous) = self.previous.take() else { return exited };
        let py = self.driver.py();
        exited.and(set_current_task(self.driver.get().event_loop.bind(py), &previous))
    }
}

impl Drop for Entered<'_, '_> {
    /// A panic on its way out: a current task that is not restored would poison the loop.
    fn drop(&mut self) {
        let _ = self.leave();
    }
}
