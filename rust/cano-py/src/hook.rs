//! What the loop calls: one small object for every kind of callback of a driver.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::branch::Branch;
use crate::errors::internal_error;
use crate::leaving::Inside;
use crate::split::{Key, SplitDriver};

enum What {
    /// Go on starting branches.
    Pump,
    /// The armed timer fired.
    Timers,
    /// Sync attempts have landed.
    Drain,
    /// The feeder's task has ended.
    Fed,
    /// Resume the branches that yielded bare. With whether it is the first of its turn.
    Batch(bool, Box<std::sync::Mutex<Vec<Key>>>),
    /// Resume those that have not had their turn; likewise.
    Backlog(bool),
    /// Cancel the losers that have not been told, if there are still so many.
    Release(usize),
    /// Wake the branches that wait for the same future, which is the argument.
    Together(Box<std::sync::Mutex<Vec<Key>>>),
    /// Look at all that may have been lost.
    Look,
    /// Go on with that, if there is still so much of it.
    LookOn(usize),
    /// Throw an error into a branch.
    Throw(Py<Branch>, Py<PyAny>),
    /// Resume a branch if it has taken no step since: what was to do so was lost.
    LookAgain(Py<Branch>, u32),
}

/// A callback of a driver.
#[pyclass(frozen, weakref, module = "cano._core")]
pub(crate) struct Hook {
    driver: Option<Py<SplitDriver>>,
    what: What,
}

impl Hook {
    fn make<'py>(driver: &Bound<'py, SplitDriver>, what: What) -> PyResult<Bound<'py, Self>> {
        Bound::new(driver.py(), Self { driver: Some(driver.clone().unbind()), what })
    }

    pub(crate) fn pump<'py>(driver: &Bound<'py, SplitDriver>) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Pump)
    }

    pub(crate) fn timers<'py>(driver: &Bound<'py, SplitDriver>) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Timers)
    }

    pub(crate) fn drain<'py>(driver: &Bound<'py, SplitDriver>) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Drain)
    }

    pub(crate) fn fed<'py>(driver: &Bound<'py, SplitDriver>) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Fed)
    }

    pub(crate) fn batch<'py>(
        driver: &Bound<'py, SplitDriver>,
        begins: bool,
        batch: Vec<Key>,
    ) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Batch(begins, Box::new(std::sync::Mutex::new(batch))))
    }

    pub(crate) fn backlog<'py>(driver: &Bound<'py, SplitDriver>, begins: bool) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Backlog(begins))
    }

    pub(crate) fn together<'py>(driver: &Bound<'py, SplitDriver>, branches: Vec<Key>) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Together(Box::new(std::sync::Mutex::new(branches))))
    }

    pub(crate) fn release<'py>(driver: &Bound<'py, SplitDriver>, left: usize) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Release(left))
    }

    /// Adds a branch to those that are woken together.
    pub(crate) fn join(&self, branch: Key) {
        if let What::Together(branches) = &self.what {
            let mut branches = branches.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            branches.push(branch);
        }
    }

    pub(crate) fn look_again<'py>(
        driver: &Bound<'py, SplitDriver>,
        branch: &Bound<'py, Branch>,
        steps: u32,
    ) -> PyResult<Bound<'py, Self>> {
        crate::collector::show(branch);
        Self::make(driver, What::LookAgain(branch.clone().unbind(), steps))
    }

    pub(crate) fn look<'py>(driver: &Bound<'py, SplitDriver>) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::Look)
    }

    pub(crate) fn look_on<'py>(driver: &Bound<'py, SplitDriver>, left: usize) -> PyResult<Bound<'py, Self>> {
        Self::make(driver, What::LookOn(left))
    }

    /// The branches it would have resumed, which the loop did not take.
    pub(crate) fn take_branches(&self) -> Vec<Key> {
        match &self.what {
            What::Batch(_, batch) | What::Together(batch) => {
                std::mem::take(&mut *batch.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn throw<'py>(
        py: Python<'py>,
        branch: &Bound<'py, Branch>,
        error: Py<pyo3::exceptions::PyBaseException>,
    ) -> PyResult<Bound<'py, Self>> {
        crate::collector::show(branch);
        Bound::new(py, Self { driver: None, what: What::Throw(branch.clone().unbind(), error.into_any()) })
    }
}

#[pymethods]
impl Hook {
    #[pyo3(signature = (*arguments))]
    fn __call__(&self, py: Python<'_>, arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        if let What::Throw(branch, error) = &self.what {
            return crate::branch::resume_with(branch.bind(py), error.clone_ref(py));
        }
        let Some(driver) = &self.driver else {
            return Ok(());
        };
        let driver = driver.bind(py);
        if let What::LookAgain(branch, steps) = &self.what
            && !or_break_off(driver, crate::branch::is_lost(branch.bind(py), *steps))?
        {
            return Ok(()); // hardly ever is one lost; and what is no turn of the engine's ends none
        }
        guarded(driver, || match &self.what {
            What::Pump => driver.get().pump_is_due(),
            What::Timers => driver.get().fire_timers(driver),
            What::Drain => driver.get().drain(driver),
            What::Fed => driver.get().fed(driver),
            What::Batch(begins, batch) => {
                let batch = std::mem::take(&mut *batch.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
                driver.get().run_batch(driver, *begins, batch)
            }
            What::Backlog(begins) => driver.get().work_off(driver, *begins),
            What::Release(left) => driver.get().release_more(driver, *left),
            What::Together(branches) => {
                let branches = std::mem::take(&mut *branches.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
                driver.get().wake_together(driver, branches, &arguments.get_item(0)?)
            }
            What::Look => driver.get().look(driver),
            What::LookOn(left) => driver.get().look_on(driver, *left),
            What::LookAgain(branch, _) => crate::branch::resume_lost(driver, branch.bind(py)),
            What::Throw(..) => Ok(()),
        })
    }

    fn __repr__(&self) -> &'static str {
        match self.what {
            What::Pump => "<cano: start branches>",
            What::Timers => "<cano: timers>",
            What::Drain => "<cano: sync attempts landed>",
            What::Fed => "<cano: source ended>",
            What::Batch(..) | What::Backlog(_) => "<cano: resume branches>",
            What::Together(_) => "<cano: wake branches>",
            What::Release(_) => "<cano: cancel branches>",
            What::Throw(..) => "<cano: throw into a branch>",
            What::Look | What::LookAgain(..) | What::LookOn(_) => "<cano: look at a branch again>",
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.driver)?;
        if let What::Throw(branch, error) = &self.what {
            visit.call(branch)?;
            visit.call(error)?;
        }
        if let What::LookAgain(branch, _) = &self.what {
            visit.call(branch)?;
        }
        Ok(())
    }
}

/// Does one turn's work of a driver and ends the turn; a panic becomes the run's `InternalError`.
///
/// A `KeyboardInterrupt` may come from any Python code on the way: it leaves through the loop, and ends the run.
pub(crate) fn guarded(driver: &Bound<'_, SplitDriver>, work: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    let _inside = Inside::enter(driver.py());
    crate::fail::crossing();
    let answer = protected(driver, || {
        crate::fail::point();
        work()
    });
    let ended = protected(driver, || driver.get().end_turn(driver));
    let answer = or_break_off(driver, answer.and(ended));
    crate::fail::crossing();
    answer
}

/// Ends the split where a `KeyboardInterrupt` or `SystemExit` has come out of work for it; that goes on through the loop.
pub(crate) fn or_break_off<T>(driver: &Bound<'_, SplitDriver>, answer: PyResult<T>) -> PyResult<T> {
    if let Err(error) = &answer
        && crate::branch::is_fatal(driver.py(), error)
    {
        protected(driver, || driver.get().break_off(driver, error, true))?;
    }
    answer
}

/// Does work of a driver; a panic becomes the run's `InternalError`.
pub(crate) fn protected(driver: &Bound<'_, SplitDriver>, work: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(answer) => answer,
        Err(panic) => driver.get().fail_internally(driver, internal_error(driver.py(), &panic)),
    }
}

/// Does what a coroutine's step does; a panic becomes `InternalError`.
pub(crate) fn caught<T>(py: Python<'_>, work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let _inside = Inside::enter(py);
    crate::fail::crossing();
    let answer = catch_unwind(AssertUnwindSafe(work));
    crate::fail::crossing();
    match answer {
        Ok(answer) => answer,
        Err(panic) => Err(internal_error(py, &panic)),
    }
}

/// Does work and then restores what was before, also when the work panics: what is not restored poisons the loop.
pub(crate) fn restoring(work: impl FnOnce() -> PyResult<()>, restore: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    let answer = catch_unwind(AssertUnwindSafe(work));
    let restored = restore();
    match answer {
        Ok(answer) => restored.and(answer),
        Err(panic) => resume_unwind(panic),
    }
}
