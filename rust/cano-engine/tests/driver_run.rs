//! The Tokio driver: runs of states, on a paused clock.
#![cfg(feature = "driver")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cano_engine::trace::{Observer, Trace, TraceEvent};
use cano_engine::{
    CancelToken, JoinConfig, JoinStrategy, MemoryStore, RetryPolicy, RunError, RunOptions, SharedTask, StateVisit,
    Task, TaskFailure, TaskOptions, TaskOutcome, TaskResult, Workflow,
};
use tokio::time::{Instant, sleep};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    First,
    Second,
    Third,
    Done,
    Nowhere,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A task that answers at once.
fn goto(next: Step) -> impl Task<Step> {
    move |_: MemoryStore| async move { Ok(TaskResult::Single(next)) }
}

/// A task that fails so many times before it answers.
fn flaky(failures: u32, next: Step) -> impl Task<Step> {
    let left = AtomicU32::new(failures);
    move |_: MemoryStore| {
        let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        async move { if fails { Err("not yet".into()) } else { Ok(TaskResult::Single(next)) } }
    }
}

/// Adds one to a counter when it is dropped.
struct DropCounter(Arc<AtomicU32>);

impl Drop for DropCounter {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_visits_its_states_and_reports_them() {
    let workflow = Workflow::new()
        .register(Step::First, |store: MemoryStore| async move {
            sleep(ms(20)).await;
            store.put("seen", 1_u32);
            Ok(TaskResult::Single(Step::Second))
        })
        .register_with(
            Step::Second,
            flaky(2, Step::Done),
            TaskOptions::new().with_retry(RetryPolicy::fixed(3, 0.5)).with_next([Step::Done]),
        )
        .add_exit_state(Step::Done);
    let report = workflow.execute(Step::First, RunOptions::new()).await.unwrap();
    assert_eq!(report.state, Step::Done);
    let visit = |state, duration, attempts| StateVisit { state, duration, attempts };
    let visits = [visit(Step::First, ms(20), 1), visit(Step::Second, ms(1000), 3), visit(Step::Done, ms(0), 0)];
    let untimed = |visits: &[StateVisit<Step>]| visits.iter().map(|v| (v.state, v.attempts)).collect::<Vec<_>>();
    assert_eq!(untimed(&report.visits), untimed(&visits));
    for (visit, expected) in report.visits.iter().zip(&visits) {
        // Timers fire on whole milliseconds.
        assert!(visit.duration >= expected.duration && visit.duration <= expected.duration + ms(3), "{visit:?}");
    }
    assert_eq!(workflow.store().get::<u32>("seen"), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_exit_state_is_looked_for_before_a_handler() {
    let workflow = Workflow::new().register(Step::Done, goto(Step::First)).add_exit_states([Step::Done]);
    assert_eq!(workflow.orchestrate(Step::Done).await.unwrap(), Step::Done);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_nothing_handles_ends_the_run() {
    let workflow = Workflow::new().register(Step::First, goto(Step::Nowhere)).add_exit_state(Step::Done);
    for initial in [Step::First, Step::Nowhere] {
        let error = workflow.orchestrate(initial).await.unwrap_err();
        assert!(matches!(error, RunError::NoHandler { state: Step::Nowhere }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn declared_transitions_are_enforced_and_cycles_bounded() {
    let only_done = TaskOptions::new().with_next([Step::Done]);
    let workflow = Workflow::new().register_with(Step::First, goto(Step::First), only_done).add_exit_state(Step::Done);
    let error = workflow.orchestrate(Step::First).await.unwrap_err();
    assert!(matches!(error, RunError::Undeclared { state: Step::First, next: Step::First }), "{error}");

    let workflow =
        Workflow::new().register(Step::First, goto(Step::First)).add_exit_state(Step::Done).with_max_transitions(7);
    match workflow.orchestrate(Step::First).await.unwrap_err() {
        RunError::TooManyTransitions { limit: 7, path } => assert_eq!(path, [Step::First; 8]),
        error => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_a_retry_left_names_state_and_attempts() {
    let retry = TaskOptions::new().with_retry(RetryPolicy::exponential(2, 0.1, 10.0, 30.0, 0.0));
    let workflow = Workflow::new().register_with(Step::First, flaky(9, Step::Done), retry).add_exit_state(Step::Done);
    let began = Instant::now();
    let error = workflow.orchestrate(Step::First).await.unwrap_err();
    assert_eq!(error.to_string(), "the task of First failed (attempts: 3): not yet");
    assert!(began.elapsed() >= ms(1100) && began.elapsed() < ms(1110), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_time_is_over() {
    let retry = TaskOptions::new().with_retry(RetryPolicy::fixed(9, 1.0).within(2.5));
    let workflow = Workflow::new().register_with(Step::First, flaky(9, Step::Done), retry).add_exit_state(Step::Done);
    let error = workflow.orchestrate(Step::First).await.unwrap_err();
    assert!(matches!(error, RunError::Task { attempts: 3, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_and_not_retried() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let task = move |_: MemoryStore| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { panic!("broken in {}", "half") }
    };
    let retry = TaskOptions::new().with_retry(RetryPolicy::fixed(3, 0.0));
    let workflow = Workflow::<Step>::new().register_with(Step::First, task, retry).add_exit_state(Step::Done);
    match workflow.orchestrate(Step::First).await.unwrap_err() {
        RunError::Task { attempts: 1, failure: TaskFailure::Panicked(message), .. } => {
            assert_eq!(message, "broken in half");
        }
        error => panic!("{error}"),
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_a_limit_of_its_own() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let slow_once = move |_: MemoryStore| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(if call == 0 { ms(5_000) } else { ms(10) }).await;
            Ok(TaskResult::Single(Step::Done))
        }
    };
    let options = TaskOptions::new().with_attempt_timeout(ms(100)).with_retry(RetryPolicy::fixed(1, 0.0));
    let workflow = Workflow::new().register_with(Step::First, slow_once, options).add_exit_state(Step::Done);
    let began = Instant::now();
    assert_eq!(workflow.orchestrate(Step::First).await.unwrap(), Step::Done);
    assert!(began.elapsed() < ms(120), "{:?}", began.elapsed());
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_run_has_a_limit_and_cancels_what_runs() {
    let drops = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&drops);
    let slow = move |_: MemoryStore| {
        let guard = DropCounter(Arc::clone(&counted));
        async move {
            sleep(ms(60_000)).await;
            drop(guard);
            Ok(TaskResult::Single(Step::Done))
        }
    };
    let workflow = Workflow::new().register(Step::First, slow).add_exit_state(Step::Done);
    let options = RunOptions::new().with_timeout(ms(50));
    match workflow.execute(Step::First, options).await.unwrap_err() {
        RunError::Timeout { limit, path } => assert_eq!((limit, path), (ms(50), vec![Step::First])),
        error => panic!("{error}"),
    }
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_cancels_a_task_a_back_off_and_a_run_that_has_not_begun() {
    let failing = TaskOptions::new().with_retry(RetryPolicy::fixed(1, 60.0));
    let workflow = Workflow::new()
        .register(Step::First, |_: MemoryStore| async {
            sleep(ms(60_000)).await;
            Ok(TaskResult::Single(Step::Done))
        })
        .register_with(Step::Second, flaky(9, Step::Done), failing)
        .add_exit_state(Step::Done);
    for initial in [Step::First, Step::Second] {
        let token = CancelToken::new();
        let options = RunOptions::new().with_cancel(token.clone());
        let cancelling = async {
            sleep(ms(30)).await;
            token.cancel();
            Instant::now()
        };
        let (ended, cancelled_at) = tokio::join!(workflow.execute(initial, options), cancelling);
        match ended.unwrap_err() {
            RunError::Cancelled { path } => assert_eq!(path, [initial]),
            error => panic!("{error}"),
        }
        assert_eq!(Instant::now(), cancelled_at);
        let options = RunOptions::new().with_cancel(token);
        match workflow.execute(initial, options).await.unwrap_err() {
            RunError::Cancelled { path } => assert_eq!(path, []),
            error => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_chain_that_never_suspends_lets_others_run() {
    let stop = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&stop);
    let spin = move |_: MemoryStore| {
        let next = if seen.load(Ordering::Relaxed) == 0 { Step::First } else { Step::Done };
        async move { Ok(TaskResult::Single(next)) }
    };
    let workflow = Workflow::new().register(Step::First, spin).add_exit_state(Step::Done);
    // On one thread: unless the chain yields, the other never gets to say stop.
    let other = async { stop.store(1, Ordering::Relaxed) };
    let (ended, ()) = tokio::join!(workflow.orchestrate(Step::First), other);
    assert_eq!(ended.unwrap(), Step::Done);
}

#[tokio::test(start_paused = true)]
async fn every_problem_is_reported_at_once() {
    let workflow = Workflow::new()
        .register(Step::First, goto(Step::Second))
        .register(Step::First, goto(Step::Second))
        .register_split(
            Step::Second,
            [goto(Step::Done)],
            JoinConfig::new(JoinStrategy::Quorum(2), Step::Nowhere).with_bulkhead(0).with_timeout(ms(0)),
        )
        .register_split_with(
            Step::Third,
            [goto(Step::Done)],
            JoinConfig::new(JoinStrategy::PartialTimeout, Step::First).with_hedge_delay(ms(1)),
            TaskOptions::new().with_attempt_timeout(ms(0)),
        );
    let problems = match workflow.orchestrate(Step::First).await.unwrap_err() {
        RunError::Configuration(problems) => problems.join("\n"),
        error => panic!("{error}"),
    };
    for expected in [
        "no exit state",
        "First is registered twice",
        "Second: expected a bulkhead of at least 1, got 0",
        "Second: expected a timeout longer than 0",
        "Second: Quorum(2) wants more branches than there are",
        "Second: the join state Nowhere is neither registered nor an exit",
        "Third: PartialTimeout needs a timeout",
        "Third: a hedge delay goes with Any alone",
        "Third: expected an attempt timeout longer than 0",
    ] {
        assert!(problems.contains(expected), "{expected:?} is not in\n{problems}");
    }
    assert!(workflow.validate().is_err());
    for share in [0.0, -1.0, 1.1, f64::NAN] {
        let join = JoinConfig::new(JoinStrategy::Percentage(share), Step::Done);
        let workflow = Workflow::new().register_split(Step::First, [goto(Step::Done)], join).add_exit_state(Step::Done);
        assert!(workflow.validate().unwrap_err().to_string().contains("expected a percentage in (0, 1]"));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_fit_are_errors() {
    let workflow = Workflow::new()
        .register(Step::First, |_: MemoryStore| async { Ok(TaskResult::output(1)) })
        .register_split(
            Step::Second,
            [|_: MemoryStore| async {
                let join = JoinConfig::new(JoinStrategy::All, Step::Done);
                Ok(TaskResult::Split(Vec::new(), join))
            }],
            JoinConfig::new(JoinStrategy::All, Step::Done),
        )
        .add_exit_state(Step::Done);
    let error = workflow.orchestrate(Step::First).await.unwrap_err();
    assert!(error.to_string().contains("expected a state from a state's task, got an output"), "{error}");
    let error = workflow.orchestrate(Step::Second).await.unwrap_err();
    assert!(error.to_string().contains("expected a state or an output from a branch, got a split"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_task_may_fan_out_to_branches_chosen_at_run_time() {
    let fan = |store: MemoryStore| async move {
        let count: u32 = store.get("count")?;
        let branches = (0..count)
            .map(|index| SharedTask::new(move |_: MemoryStore| async move { Ok(TaskResult::output(index * 10)) }));
        let join = JoinConfig::new(JoinStrategy::All, Step::Done).with_store_partial_results(true);
        Ok(TaskResult::Split(branches.collect(), join))
    };
    let workflow = Workflow::new().register(Step::First, fan).add_exit_state(Step::Done);
    workflow.store().put("count", 4_u32);
    let report = workflow.execute(Step::First, RunOptions::new()).await.unwrap();
    assert_eq!(report.splits[0].outputs::<u32>(), [&0, &10, &20, &30]);
    assert!(workflow.store().contains_key("split_results"));
}

#[tokio::test(start_paused = true)]
async fn runs_of_one_workflow_do_not_disturb_each_other() {
    let count = |store: MemoryStore| async move {
        sleep(ms(5)).await;
        let mine: u32 = store.update("count", |count: &mut u32| {
            *count += 1;
            *count
        })?;
        Ok(TaskResult::Single(if mine < 10 { Step::First } else { Step::Done }))
    };
    let workflow = Workflow::new().register(Step::First, count).add_exit_state(Step::Done);
    let stores: Vec<MemoryStore> = (0..3).map(|_| MemoryStore::new()).collect();
    for store in &stores {
        store.put("count", 0_u32);
    }
    let run = |store: &MemoryStore| workflow.execute(Step::First, RunOptions::new().with_store(store.clone()));
    let (a, b, c) = tokio::join!(run(&stores[0]), run(&stores[1]), run(&stores[2]));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert!(stores.iter().all(|store| store.get("count") == Ok(10_u32)));
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_told_in_order_and_one_that_panics_changes_nothing() {
    struct Hostile;
    impl Observer<Step> for Hostile {
        fn event(&self, _: TraceEvent<Step>) {
            panic!("no");
        }
    }
    let build = |observer: Arc<dyn Observer<Step>>| {
        let branch = |fails: bool| {
            move |_: MemoryStore| async move { if fails { Err("no".into()) } else { Ok(TaskResult::output(())) } }
        };
        let join = JoinConfig::new(JoinStrategy::Any, Step::Second);
        Workflow::new()
            .register_split(Step::First, [branch(true), branch(false), branch(false)], join)
            .register_with(
                Step::Second,
                flaky(1, Step::Done),
                TaskOptions::new().with_retry(RetryPolicy::fixed(1, 0.0)),
            )
            .add_exit_state(Step::Done)
            .with_observer(observer)
    };
    let trace = Arc::new(Trace::new());
    build(trace.clone()).orchestrate(Step::First).await.unwrap();
    let (first, second) = (Step::First, Step::Second);
    let expected = [
        TraceEvent::StateEnter(first),
        TraceEvent::SplitStart(first),
        TraceEvent::BranchStart(first, 0),
        TraceEvent::BranchFailure(first, 0),
        TraceEvent::BranchStart(first, 1),
        TraceEvent::BranchSuccess(first, 1),
        TraceEvent::Join(first, true),
        TraceEvent::BranchCancelled(first, 2),
        TraceEvent::StateEnter(second),
        TraceEvent::TaskStart(second, 1),
        TraceEvent::Retry(second, None, 2),
        TraceEvent::TaskStart(second, 2),
        TraceEvent::TaskSuccess(second),
        TraceEvent::StateEnter(Step::Done),
        TraceEvent::WorkflowEnd(true),
    ];
    assert_eq!(trace.take(), expected);
    assert_eq!(build(Arc::new(Hostile)).orchestrate(first).await.unwrap(), Step::Done);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_run_drops_what_it_runs() {
    let drops = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&drops);
    let hang = move |_: MemoryStore| {
        let guard = DropCounter(Arc::clone(&counted));
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            TaskOutcome::Ok(TaskResult::output(()))
        }
    };
    let join = JoinConfig::new(JoinStrategy::All, Step::Done);
    let workflow = Workflow::new().register_split(Step::First, vec![hang; 1], join).add_exit_state(Step::Done);
    assert!(tokio::time::timeout(ms(10), workflow.orchestrate(Step::First)).await.is_err());
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}
