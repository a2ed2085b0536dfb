//! The Tokio driver under shuttle: a split's join against cancellation and timers, in schedules drawn at random.
//!
//! Branches are tasks of their own, a further one sets the run's token, and another expires the limits of attempts; shuttle
//! chooses who runs at each step, and prints the schedule of one that fails. Whatever the order: a run ends once, with one of
//! its possible endings, each branch is counted once, the join was right, and nothing of the split goes on afterwards.
//! The deadline alone is on the real clock (shuttle has none), so a schedule that fails by it need not fail again.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cano_engine::{
    BoxError, CancelToken, JoinConfig, JoinStrategy, MemoryStore, RunError, RunOptions, SplitResult, TaskFailure,
    TaskOptions, TaskResult, Workflow,
};
use shuttle::rand::{Rng, thread_rng};
use tokio::task::yield_now;
use tokio::time::{clear_triggers, trigger_timeouts};

const FAN: &str = "fan";
const DONE: &str = "done";
const BRANCHES: u32 = 3;

/// How many schedules: as `CANO_SCHEDULES` says, or 10,000.
fn schedules() -> usize {
    std::env::var("CANO_SCHEDULES").map_or(10_000, |count| count.parse().expect("CANO_SCHEDULES is a number"))
}

/// One that is at work; gone when it is dropped, however that comes.
struct AtWork(Arc<AtomicI32>);

impl AtWork {
    fn new(count: &Arc<AtomicI32>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a branch does: steps at which another may run, and an end, or none.
#[derive(Clone, Copy)]
enum End {
    Succeeds,
    Fails,
    Hangs,
}

async fn some_turns(most: u32) {
    for _ in 0..thread_rng().gen_range(0..=most) {
        yield_now().await;
    }
}

fn strategy(which: u32) -> (JoinStrategy, &'static str) {
    match which {
        0 => (JoinStrategy::All, "All"),
        1 => (JoinStrategy::Any, "Any"),
        2 => (JoinStrategy::Quorum(2), "Quorum"),
        3 => (JoinStrategy::PartialResults(1), "PartialResults"),
        _ => (JoinStrategy::PartialTimeout, "PartialTimeout"),
    }
}

/// Whether what a split came to is what its strategy asks for.
fn is_met(name: &str, ok: u32, bad: u32) -> bool {
    match name {
        "All" => ok == BRANCHES,
        "Any" | "PartialResults" => ok >= 1,
        "Quorum" => ok >= 2,
        _ => ok + bad >= 1,
    }
}

fn counts(result: &SplitResult<&'static str>) -> (u32, u32) {
    let column = |of: &[cano_engine::SplitTaskResult<_>]| of.iter().map(|one| one.task_index).collect::<Vec<_>>();
    let (ok, bad) = (column(&result.successes), column(&result.errors));
    let mut all = [ok.as_slice(), &bad, &result.cancelled].concat();
    all.sort_unstable();
    assert_eq!(all, (0..BRANCHES).collect::<Vec<_>>(), "each branch is counted once");
    (ok.len() as u32, bad.len() as u32)
}

async fn one_run(seen: Arc<Mutex<BTreeMap<String, u32>>>) {
    clear_triggers();
    let at_work = Arc::new(AtomicI32::new(0));
    let token = CancelToken::new();
    let (strategy, name) = strategy(thread_rng().gen_range(0..5));
    let cancels = thread_rng().gen_ratio(1, 3);
    let limited = thread_rng().gen_ratio(1, 3);
    let deadline = matches!(strategy, JoinStrategy::PartialTimeout) || thread_rng().gen_ratio(1, 4);
    let tasks: Vec<_> = (0..BRANCHES)
        .map(|index| {
            let end = match thread_rng().gen_range(0..10) {
                // One that hangs has to be ended by something.
                0..=2 if cancels || limited || deadline => End::Hangs,
                0..=4 => End::Fails,
                _ => End::Succeeds,
            };
            let at_work = Arc::clone(&at_work);
            move |_: MemoryStore| {
                let here = AtWork::new(&at_work);
                async move {
                    let _here = here;
                    some_turns(4).await;
                    match end {
                        End::Succeeds => Ok(TaskResult::output(index)),
                        End::Fails => Err(BoxError::from("no")),
                        End::Hangs => std::future::pending().await,
                    }
                }
            }
        })
        .collect();
    let mut join = JoinConfig::new(strategy, DONE).with_store_partial_results(true).spawned();
    if deadline {
        join = join.with_timeout(Duration::from_micros(thread_rng().gen_range(1..60)));
    }
    if thread_rng().r#gen() {
        join = join.with_bulkhead(2);
    }
    let mut options = TaskOptions::new();
    if limited {
        options = options.with_attempt_timeout(Duration::from_secs(1));
    }
    let others = [
        cancels.then(|| {
            let token = token.clone();
            tokio::spawn(async move {
                some_turns(12).await;
                token.cancel();
            })
        }),
        limited.then(|| {
            tokio::spawn(async move {
                some_turns(12).await;
                trigger_timeouts(|_| true);
            })
        }),
    ];
    let store = MemoryStore::new();
    let workflow = Workflow::new().register_split_with(FAN, tasks, join, options).add_exit_state(DONE);
    let ended = workflow.execute(FAN, RunOptions::new().with_cancel(token.clone()).with_store(store.clone())).await;
    assert_eq!(at_work.load(Ordering::SeqCst), 0, "nothing outlives its run");
    let how = match &ended {
        Ok(report) => {
            let (ok, bad) = counts(&report.splits[0]);
            assert!(is_met(name, ok, bad), "{name} with {ok} and {bad}");
            "met"
        }
        Err(RunError::Join { result, .. }) => {
            let (ok, bad) = counts(result);
            assert!(name == "PartialTimeout" || !is_met(name, ok, bad), "{name} with {ok} and {bad}");
            "failed"
        }
        Err(RunError::SplitTimeout { result, .. }) => {
            let (ok, bad) = counts(result);
            assert!(deadline && !is_met(name, ok, bad), "{name} with {ok} and {bad}");
            "too late"
        }
        Err(RunError::Cancelled { .. }) => {
            assert!(token.is_cancelled());
            if let Ok(result) = store.get::<Arc<SplitResult<&'static str>>>("split_results") {
                counts(&result);
            }
            "cancelled"
        }
        Err(error) => panic!("{error}"),
    };
    let limits = |result: &SplitResult<_>| {
        result.errors.iter().any(|one| matches!(one.result, Err(TaskFailure::TimedOut(_))))
    };
    let limited_out = match &ended {
        Ok(report) => limits(&report.splits[0]),
        Err(RunError::Join { result, .. } | RunError::SplitTimeout { result, .. }) => limits(result),
        Err(_) => false,
    };
    for other in others.into_iter().flatten() {
        other.await.unwrap();
    }
    let mut seen = seen.lock().unwrap();
    *seen.entry(format!("{name} {how}")).or_default() += 1;
    if limited_out {
        *seen.entry("an attempt timed out".to_owned()).or_default() += 1;
    }
    if cancels && how != "cancelled" {
        *seen.entry("cancelled too late".to_owned()).or_default() += 1;
    }
}

#[test]
fn a_join_against_cancellation_and_timers() {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let notes = Arc::clone(&seen);
    shuttle::check_random(move || shuttle::future::block_on(one_run(Arc::clone(&notes))), schedules());
    let seen = seen.lock().unwrap();
    writeln!(std::io::stderr(), "shuttle: {} schedules of a split: {seen:?}", schedules()).unwrap();
    // Who came first was not always the same.
    for name in ["All", "Any", "Quorum", "PartialResults"] {
        for how in ["met", "failed", "too late", "cancelled"] {
            assert!(seen.contains_key(&format!("{name} {how}")), "{name} {how}: never");
        }
    }
    for what in ["PartialTimeout met", "PartialTimeout cancelled", "an attempt timed out", "cancelled too late"] {
        assert!(seen.contains_key(what), "{what}: never");
    }
}
