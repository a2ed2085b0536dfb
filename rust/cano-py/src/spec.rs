//! What Python described, read once: a split, a callable, a retry. The mirror of `pure/rules.py`.

use cano_engine::{Backoff, JoinRule, RetryPolicy, Strategy};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// How a callable is invoked (`_engine/contract.py`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// Calling it gives a coroutine.
    Coroutine,
    /// It runs on a worker thread.
    Thread,
    /// It runs in place.
    Inline,
}

/// A user's callable, examined.
#[derive(Debug)]
pub(crate) struct CallSpec {
    pub(crate) function: Py<PyAny>,
    pub(crate) kind: CallKind,
    /// Whether it takes the item of a split over data.
    pub(crate) item: bool,
    /// Whether it takes the store.
    pub(crate) store: bool,
    /// The options of a branch whose task has others than its split.
    pub(crate) own: Option<Box<Own>>,
}

/// When an attempt of a branch is made again, and how long it may take.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) retry: RetryPolicy,
    pub(crate) retry_object: Py<PyAny>,
    pub(crate) attempt_timeout: Option<f64>,
}

impl Own {
    fn read(own: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (retry, attempt_timeout): (Bound<'_, PyAny>, Option<f64>) = own.extract()?;
        Ok(Self { retry: read_retry(&retry)?, retry_object: retry.unbind(), attempt_timeout })
    }

    pub(crate) fn retries(&self) -> bool {
        !matches!(self.retry.backoff, Backoff::None)
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { retry: self.retry, retry_object: self.retry_object.clone_ref(py), attempt_timeout: self.attempt_timeout }
    }
}

impl CallSpec {
    /// Reads a `Call` of `_engine/contract.py`.
    pub(crate) fn read(call: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = call.py();
        let kind: u8 = call.getattr(intern!(py, "kind"))?.extract()?;
        let arity: u8 = call.getattr(intern!(py, "arity"))?.extract()?;
        let own = call.getattr(intern!(py, "own"))?;
        Ok(Self {
            own: if own.is_none() { None } else { Some(Box::new(Own::read(&own)?)) },
            function: call.getattr(intern!(py, "function"))?.unbind(),
            kind: match kind {
                0 => CallKind::Coroutine,
                1 => CallKind::Thread,
                2 => CallKind::Inline,
                other => return Err(PyValueError::new_err(format!("no kind of call: {other}"))),
            },
            item: arity >= 2,
            store: arity == 1 || arity == 3,
        })
    }

    /// The same for another attempt; what a branch has of its own is kept by its split.
    pub(crate) fn again(&self, py: Python<'_>) -> Self {
        Self { function: self.function.clone_ref(py), kind: self.kind, item: self.item, store: self.store, own: None }
    }

    /// Calls it.
    #[inline]
    pub(crate) fn call<'py>(
        &self,
        py: Python<'py>,
        item: Option<&Bound<'py, PyAny>>,
        store: &Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        crate::fail::crossing();
        let function = self.function.bind(py);
        match (self.item, self.store, item) {
            (true, false, Some(item)) => function.call1((item,)),
            (true, true, Some(item)) => function.call1((item, store)),
            (_, true, _) => function.call1((store,)),
            _ => function.call0(),
        }
    }
}

/// Reads the numbers of a `Retry`.
pub(crate) fn read_retry(retry: &Bound<'_, PyAny>) -> PyResult<RetryPolicy> {
    type Plan = (u8, u32, f64, f64, f64, f64, Option<f64>);
    let (kind, retries, delay, factor, max_delay, jitter, max_elapsed): Plan =
        retry.getattr(intern!(retry.py(), "plan"))?.extract()?;
    let backoff = match kind {
        0 => Backoff::None,
        1 => Backoff::Fixed { retries, delay },
        _ => Backoff::Exponential { retries, base: delay, factor, max_delay, jitter },
    };
    Ok(RetryPolicy { backoff, max_elapsed })
}

/// A split, as its plan says.
#[pyclass(frozen, module = "cano._core")]
pub(crate) struct SplitSpec {
    /// The `SplitPlan` it was read from.
    pub(crate) plan: Py<PyAny>,
    /// The `JoinStrategy`.
    pub(crate) strategy: Py<PyAny>,
    pub(crate) name: Py<PyString>,
    /// The function of a split over data; without one every item is a task of its own.
    pub(crate) call: Option<CallSpec>,
    pub(crate) rule: JoinRule,
    pub(crate) timeout: Option<f64>,
    pub(crate) bulkhead: Option<u32>,
    pub(crate) hedge_delay: Option<f64>,
    pub(crate) store_partial_results: bool,
    pub(crate) retry: RetryPolicy,
    pub(crate) retry_object: Py<PyAny>,
    pub(crate) attempt_timeout: Option<f64>,
}

impl SplitSpec {
    pub(crate) fn retries(&self) -> bool {
        !matches!(self.retry.backoff, Backoff::None)
    }

    /// Reads a `SplitPlan` of `_engine/contract.py`.
    pub(crate) fn read(plan: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = plan.py();
        let join = plan.getattr(intern!(py, "join"))?;
        let strategy = join.getattr(intern!(py, "strategy"))?;
        let call = plan.getattr(intern!(py, "call"))?;
        let retry = plan.getattr(intern!(py, "retry"))?;
        Ok(Self {
            rule: read_rule(&join, &strategy)?,
            strategy: strategy.unbind(),
            name: plan.getattr(intern!(py, "name"))?.cast_into::<PyString>()?.unbind(),
            call: if call.is_none() { None } else { Some(CallSpec::read(&call)?) },
            timeout: join.getattr(intern!(py, "timeout"))?.extract()?,
            bulkhead: read_bulkhead(&join)?,
            hedge_delay: join.getattr(intern!(py, "hedge_delay"))?.extract()?,
            store_partial_results: join.getattr(intern!(py, "store_partial_results"))?.is_truthy()?,
            retry: read_retry(&retry)?,
            retry_object: retry.unbind(),
            attempt_timeout: plan.getattr(intern!(py, "attempt_timeout"))?.extract()?,
            plan: plan.clone().unbind(),
        })
    }
}

/// A count of branches; more than the machine can count is as good as no limit.
fn clamp(count: Option<u64>) -> Option<u32> {
    count.map(|count| u32::try_from(count).unwrap_or(u32::MAX - 1))
}

fn read_bulkhead(join: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
    Ok(clamp(join.getattr(intern!(join.py(), "bulkhead"))?.extract()?))
}

fn read_rule(join: &Bound<'_, PyAny>, strategy: &Bound<'_, PyAny>) -> PyResult<JoinRule> {
    let py = join.py();
    let kind = strategy.getattr(intern!(py, "kind"))?.cast_into::<PyString>()?;
    let threshold = strategy.getattr(intern!(py, "threshold"))?;
    let need = || -> PyResult<u32> { Ok(clamp(Some(threshold.extract()?)).unwrap_or(0)) };
    let strategy = match &*kind.to_cow()? {
        "all" => Strategy::All,
        "any" => Strategy::Any,
        "quorum" => Strategy::Quorum(need()?),
        "percentage" => Strategy::Percentage(threshold.extract()?),
        "partial_results" => Strategy::PartialResults(need()?),
        "partial_timeout" => Strategy::PartialTimeout,
        "custom" => Strategy::Custom,
        other => return Err(PyValueError::new_err(format!("no strategy: {other}"))),
    };
    let mut rule = JoinRule::new(strategy);
    rule.fail_fast = join.getattr(intern!(py, "fail_fast"))?.is_truthy()?;
    rule.min_successes = clamp(Some(join.getattr(intern!(py, "min_successes"))?.extract()?)).unwrap_or(0);
    Ok(rule)
}

#[pymethods]
impl SplitSpec {
    #[new]
    fn new(plan: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::read(plan)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.plan)?;
        visit.call(&self.strategy)?;
        visit.call(&self.retry_object)?;
        if let Some(call) = &self.call {
            visit.call(&call.function)?;
        }
        Ok(())
    }
}
