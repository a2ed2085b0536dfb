//! The loop's clock. A standard loop's `time()` is the monotonic clock, which Rust reads without calling Python.

use std::sync::OnceLock;
use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::once::Once;

#[derive(Debug)]
pub(crate) enum Clock {
    /// The monotonic clock, and what the loop's clock showed at an instant.
    Monotonic { origin: Instant, shown: f64 },
    /// Whatever the loop says (virtual time, uvloop's cached time).
    Loop(Py<PyAny>),
}

static STANDARD: Once<Py<PyAny>> = Once::new();
/// A type of loops whose clock is the standard one: the first that was seen.
static KNOWN: Once<Py<PyType>> = Once::new();
/// What the monotonic clock showed at an instant.
static SHOWN: OnceLock<(Instant, f64)> = OnceLock::new();

impl Clock {
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let class = event_loop.get_type();
        let standard = STANDARD.get_or_try_init(py, || {
            py.import("asyncio.base_events")?.getattr("BaseEventLoop")?.getattr("time").map(Bound::unbind)
        })?;
        let known = KNOWN.get(py).is_some_and(|known| class.is(known));
        // On Windows Python's monotonic clock is a coarser one than Rust's.
        if !known && (!cfg!(unix) || !class.getattr(intern!(py, "time"))?.is(standard)) {
            return Ok(Self::Loop(event_loop.clone().unbind()));
        }
        // Somebody may have put a clock into this one loop, or into the class since it was seen.
        let time = event_loop.getattr(intern!(py, "time"))?;
        if !time.getattr(intern!(py, "__func__")).is_ok_and(|function| function.is(standard)) {
            return Ok(Self::Loop(event_loop.clone().unbind()));
        }
        if let (true, Some(&(origin, shown))) = (known, SHOWN.get()) {
            return Ok(Self::Monotonic { origin, shown });
        }
        let time: f64 = time.call0()?.extract()?;
        let &(origin, shown) = SHOWN.get_or_init(|| (Instant::now(), time));
        KNOWN.get_or_init(py, || class.unbind());
        Ok(Self::Monotonic { origin, shown })
    }

    /// The time on the loop's clock, in seconds.
    #[inline]
    pub(crate) fn now(&self, py: Python<'_>) -> PyResult<f64> {
        match self {
            Self::Monotonic { origin, shown } => Ok(shown + origin.elapsed().as_secs_f64()),
            Self::Loop(event_loop) => event_loop.bind(py).call_method0(intern!(py, "time"))?.extract(),
        }
    }
}

/// Reads the processor's time-stamp counter, where it runs at a constant rate.
///
/// Reading the monotonic clock costs 20-60 ns, as much as the rest of a branch that returns at once; the counter costs a
/// third of that.
#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: the instruction exists on every x86-64 processor; it reads a register.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    0
}

/// An instant by both clocks, and whether the counter can be used at all.
static ORIGIN: OnceLock<Option<(Instant, u64)>> = OnceLock::new();

/// Notes the instant from which the counter's rate is measured. Called when the module is loaded.
pub(crate) fn calibrate() {
    ORIGIN.get_or_init(|| if has_constant_rate() { Some((Instant::now(), ticks())) } else { None });
}

#[cfg(target_arch = "x86_64")]
fn has_constant_rate() -> bool {
    use core::arch::x86_64::__cpuid;

    // "Invariant TSC" (AMD64 Architecture Programmer's Manual 3, Fn8000_0007_EDX bit 8; Intel SDM 3, 18.17.1).
    const POWER: u32 = 0x8000_0007;
    __cpuid(0x8000_0000).eax >= POWER && __cpuid(POWER).edx & (1 << 8) != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn has_constant_rate() -> bool {
    false
}

/// The loop's clock for the length of a time slice: read once, then extrapolated by the counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    started: f64,
    started_ticks: u64,
    /// 0 where the clock itself must be read each time.
    seconds_per_tick: f64,
}

impl Clock {
    /// Starts a stopwatch.
    pub(crate) fn stopwatch(&self, py: Python<'_>) -> PyResult<Stopwatch> {
        let started = self.now(py)?;
        let started_ticks = ticks();
        let mut seconds_per_tick = 0.0;
        if let (Self::Monotonic { .. }, Some(Some((instant, origin)))) = (self, ORIGIN.get()) {
            let seconds = instant.elapsed().as_secs_f64();
            let counted = started_ticks.saturating_sub(*origin);
            // After a millisecond the rate is known to a few parts in 100,000.
            if seconds > 1e-3 && counted > 0 {
                seconds_per_tick = seconds / counted as f64;
            }
        }
        Ok(Stopwatch { started, started_ticks, seconds_per_tick })
    }
}

impl Stopwatch {
    /// When it was started, on the loop's clock.
    pub(crate) fn started(&self) -> f64 {
        self.started
    }

    /// The time on the loop's clock, which must be the one that made the stopwatch.
    #[inline]
    pub(crate) fn now(&self, clock: &Clock, py: Python<'_>) -> PyResult<f64> {
        if self.seconds_per_tick > 0.0 {
            // Another core's counter may be behind by a few ticks: time does not run backwards for that.
            Ok(self.started + ticks().saturating_sub(self.started_ticks) as f64 * self.seconds_per_tick)
        } else {
            clock.now(py)
        }
    }
}
