//! The Tokio driver: splits and joins, on a paused clock.
#![cfg(feature = "driver")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use cano_engine::{
    BoxError, CancelToken, JoinConfig, JoinRule, JoinStrategy, MemoryStore, RetryPolicy, RunError, RunOptions,
    RunReport, SharedTask, SplitResult, Strategy, Task, TaskFailure, TaskOptions, TaskResult, Verdict, Workflow,
};
use common::table;
use proptest::prelude::{Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use tokio::time::{Instant, sleep};

const FAN: &str = "fan";
const DONE: &str = "done";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn all() -> JoinConfig<&'static str> {
    JoinConfig::new(JoinStrategy::All, DONE)
}

fn join(strategy: JoinStrategy) -> JoinConfig<&'static str> {
    JoinConfig::new(strategy, DONE)
}

/// A branch that answers its index after a while, or fails.
fn branch(index: u32, after: u64, succeeds: bool) -> impl Task<&'static str> {
    move |_: MemoryStore| async move {
        if after > 0 {
            sleep(ms(after)).await;
        }
        if succeeds { Ok(TaskResult::output(index)) } else { Err(format!("branch {index} says no").into()) }
    }
}

type Ended = Result<RunReport<&'static str>, RunError<&'static str>>;

/// Runs one split of branches given as (milliseconds, success).
async fn split(branches: &[(u64, bool)], join: JoinConfig<&'static str>) -> Ended {
    let tasks: Vec<_> = (0..).zip(branches).map(|(index, &(after, succeeds))| branch(index, after, succeeds)).collect();
    run(Workflow::new().register_split(FAN, tasks, join)).await
}

async fn run(workflow: Workflow<&'static str>) -> Ended {
    workflow.add_exit_state(DONE).execute(FAN, RunOptions::new()).await
}

fn result_of(ended: &Ended) -> Arc<SplitResult<&'static str>> {
    match ended {
        Ok(report) => Arc::clone(&report.splits[0]),
        Err(
            RunError::Join { result, .. } | RunError::SplitTimeout { result, .. } | RunError::Source { result, .. },
        ) => Arc::clone(result),
        Err(error) => panic!("{error}"),
    }
}

fn indices(ended: &Ended) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let result = result_of(ended);
    let column = |of: &[cano_engine::SplitTaskResult<_>]| of.iter().map(|branch| branch.task_index).collect();
    (column(&result.successes), column(&result.errors), result.cancelled.clone())
}

/// Says how long something took, to the precision of the paused clock.
fn assert_took(began: Instant, millis: u64) {
    let took = began.elapsed();
    assert!(took >= ms(millis) && took <= ms(millis + 3), "{took:?}, expected {millis} ms");
}

#[tokio::test(start_paused = true)]
async fn all_waits_for_all_in_order_of_completion() {
    let began = Instant::now();
    let ended = split(&[(30, true), (10, true), (0, true), (20, true)], all()).await;
    assert_eq!(indices(&ended), (vec![2, 1, 3, 0], vec![], vec![]));
    assert_eq!(result_of(&ended).outputs::<u32>(), [&0, &1, &2, &3]);
    assert_took(began, 30);
}

#[tokio::test(start_paused = true)]
async fn a_join_is_decided_by_the_completion_that_decides_it() {
    let began = Instant::now();
    let ended = split(&[(50, true), (10, false), (90, true)], all()).await;
    assert!(matches!(ended, Err(RunError::Join { .. })));
    assert_eq!(indices(&ended), (vec![], vec![1], vec![0, 2]));
    assert_took(began, 10);

    let began = Instant::now();
    let ended = split(&[(50, true), (10, false), (90, true)], all().with_fail_fast(false)).await;
    assert_eq!(indices(&ended), (vec![0, 2], vec![1], vec![]));
    assert_took(began, 90);

    let began = Instant::now();
    let ended = split(&[(50, true), (10, false), (90, true)], join(JoinStrategy::Any)).await;
    assert!(ended.is_ok());
    assert_eq!(indices(&ended), (vec![0], vec![1], vec![2]));
    assert_took(began, 50);
}

#[tokio::test(start_paused = true)]
async fn a_failed_join_says_why() {
    let error = split(&[(0, true), (5, false), (9, true)], all()).await.unwrap_err();
    let why = "the join of \"fan\" failed: 1 branches succeeded, 1 failed, 1 were cancelled; \
               the first failure was branch 1: branch 1 says no";
    assert_eq!(error.to_string(), why);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_split_is_left_when_the_run_moves_on() {
    for spawned in [false, true] {
        let live = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&live);
        let hang = move |index: u32| {
            let live = Arc::clone(&counted);
            move |_: MemoryStore| {
                let live = Arc::clone(&live);
                async move {
                    struct Guard(Arc<AtomicU32>);
                    impl Drop for Guard {
                        fn drop(&mut self) {
                            self.0.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                    live.fetch_add(1, Ordering::SeqCst);
                    let _guard = Guard(live);
                    sleep(if index == 3 { ms(20) } else { ms(60_000) }).await;
                    Ok(TaskResult::output(index))
                }
            }
        };
        let after = Arc::clone(&live);
        let began = Instant::now();
        let config = JoinConfig::new(JoinStrategy::Any, "after");
        let workflow = Workflow::new()
            .register_split(FAN, (0..5).map(hang), if spawned { config.spawned() } else { config })
            .register("after", move |store: MemoryStore| {
                store.put("live", after.load(Ordering::SeqCst));
                async { Ok(TaskResult::Single(DONE)) }
            })
            .add_exit_state(DONE);
        workflow.orchestrate(FAN).await.unwrap();
        assert_eq!(workflow.store().get::<u32>("live"), Ok(0), "spawned: {spawned}");
        assert_took(began, 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_awaits_spawned_branches() {
    for spawned in [false, true] {
        let ended_by_drop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended_by_drop);
        let task = move |_: MemoryStore| {
            let flag = Arc::clone(&flag);
            async move {
                struct Guard(Arc<AtomicBool>);
                impl Drop for Guard {
                    fn drop(&mut self) {
                        self.0.store(true, Ordering::SeqCst);
                    }
                }
                let _guard = Guard(flag);
                sleep(ms(60_000)).await;
                Ok(TaskResult::output(()))
            }
        };
        let config = if spawned { all().spawned() } else { all() };
        let workflow = Workflow::new().register_split(FAN, [task], config).add_exit_state(DONE);
        let token = CancelToken::new();
        let cancelling = async {
            sleep(ms(5)).await;
            token.cancel();
        };
        let options = RunOptions::new().with_cancel(token.clone());
        let (ended, ()) = tokio::join!(workflow.execute(FAN, options), cancelling);
        assert!(matches!(ended, Err(RunError::Cancelled { .. })));
        assert!(ended_by_drop.load(Ordering::SeqCst), "spawned: {spawned}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_bounds_what_is_live_and_what_is_drawn() {
    let (live, most, drawn) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counters = (Arc::clone(&live), Arc::clone(&most), Arc::clone(&drawn));
    let source = move |_: &MemoryStore| {
        let (live, most, drawn) = counters.clone();
        Ok((0..20_u64).map(move |index| {
            let open = drawn.fetch_add(1, Ordering::SeqCst) + 1;
            let (live, most) = (Arc::clone(&live), Arc::clone(&most));
            assert!(open <= 20);
            SharedTask::new(move |_: MemoryStore| {
                let (live, most) = (Arc::clone(&live), Arc::clone(&most));
                async move {
                    let now = live.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    sleep(ms(10 + index % 3)).await;
                    live.fetch_sub(1, Ordering::SeqCst);
                    Ok(TaskResult::output(index))
                }
            })
        }))
    };
    let config = join(JoinStrategy::Quorum(6)).with_bulkhead(3);
    let ended = run(Workflow::new().register_split_source(FAN, source, config, TaskOptions::new())).await;
    let (ok, bad, cancelled) = indices(&ended);
    assert_eq!((ok.len(), bad.len()), (6, 0));
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let drawn = drawn.load(Ordering::SeqCst);
    assert!(drawn <= 6 + 3, "{drawn} drawn");
    assert_eq!(ok.len() + cancelled.len(), drawn as usize, "N is what was drawn");
}

#[tokio::test(start_paused = true)]
async fn a_lazy_source_that_ends_gives_the_split_its_number() {
    let source = |_: &MemoryStore| Ok((0..3).map(|index| SharedTask::new(branch(index, 5, index != 1))));
    for (strategy, proceeds) in [
        (JoinStrategy::Percentage(0.6), true),
        (JoinStrategy::Percentage(0.7), false),
        (JoinStrategy::Any, true),
        (JoinStrategy::Quorum(4), false),
    ] {
        let case = format!("{strategy:?}");
        let workflow = Workflow::new().register_split_source(FAN, source, join(strategy), TaskOptions::new());
        let ended = run(workflow).await;
        assert_eq!(ended.is_ok(), proceeds, "{case}");
        assert_eq!(result_of(&ended).total_count(), 3, "{case}");
    }
    let empty = |_: &MemoryStore| Ok(std::iter::empty());
    let ended = run(Workflow::new().register_split_source(FAN, empty, all(), TaskOptions::new())).await;
    assert_eq!(result_of(&ended).total_count(), 0);
    assert!(ended.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_or_panics_fails_the_state() {
    let refuses = |_: &MemoryStore| {
        if true { Err("no items".into()) } else { Ok(std::iter::empty()) }
    };
    let breaks = |_: &MemoryStore| {
        Ok((0..5).map(|index| {
            assert!(index < 2, "item 2 is broken");
            SharedTask::new(branch(index, 50, true))
        }))
    };
    let ended = run(Workflow::new().register_split_source(FAN, refuses, all(), TaskOptions::new())).await;
    assert!(matches!(&ended, Err(RunError::Source { failure: TaskFailure::Error(_), .. })));
    assert_eq!(result_of(&ended).total_count(), 0);
    let ended = run(Workflow::new().register_split_source(FAN, breaks, all(), TaskOptions::new())).await;
    assert!(matches!(&ended, Err(RunError::Source { failure: TaskFailure::Panicked(_), .. })));
    assert_eq!(indices(&ended), (vec![], vec![], vec![0, 1]));
    let panics = |_: &MemoryStore| -> Result<std::iter::Empty<SharedTask<&'static str>>, BoxError> {
        if true { panic!("no source at all") } else { Ok(std::iter::empty()) }
    };
    let ended = run(Workflow::new().register_split_source(FAN, panics, all(), TaskOptions::new())).await;
    match &ended {
        Err(RunError::Source { failure: TaskFailure::Panicked(message), result, .. }) => {
            assert_eq!((message.as_str(), result.total_count()), ("no source at all", 0));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn branches_that_end_at_one_moment_let_others_have_their_turn() {
    let turns = Arc::new(AtomicU32::new(0));
    let watch = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            sleep(ms(5)).await;
            loop {
                turns.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    let polls = Arc::new(AtomicU32::new(0));
    let tasks = (0..20_000).map(|_| {
        let polls = Arc::clone(&polls);
        move |_: MemoryStore| {
            let polls = Arc::clone(&polls);
            async move {
                let mut asleep = Box::pin(sleep(ms(5)));
                std::future::poll_fn(|cx| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    asleep.as_mut().poll(cx)
                })
                .await;
                Ok(TaskResult::output(()))
            }
        }
    });
    let ended = run(Workflow::new().register_split(FAN, tasks, all())).await;
    watch.abort();
    assert_eq!(result_of(&ended).successes.len(), 20_000);
    // Not the square of their number: Tokio's budget is spent after 128 of them, and the others wait for the next turn.
    assert!(polls.load(Ordering::Relaxed) < 4 * 20_000, "{polls:?}");
    // At a millisecond a turn; how many milliseconds it takes is the machine's business.
    assert!(turns.load(Ordering::SeqCst) > 1, "{turns:?}");
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_retried_with_back_off_and_holds_no_permit_meanwhile() {
    let fails_once = || {
        let failed = AtomicBool::new(false);
        move |_: MemoryStore| {
            let fails = !failed.swap(true, Ordering::SeqCst);
            async move {
                sleep(ms(10)).await;
                if fails { Err("once".into()) } else { Ok(TaskResult::output(())) }
            }
        }
    };
    let options = TaskOptions::new().with_retry(RetryPolicy::fixed(1, 0.1));
    let began = Instant::now();
    let config = all().with_bulkhead(1);
    let workflow =
        Workflow::new().register_split_with(FAN, [fails_once(), fails_once()], config.clone(), options.clone());
    let ended = run(workflow).await;
    // 0 fails at 10, 1 has its turn and fails at 20, 0 again from 110 to 120, 1 again from 120 to 130.
    assert_took(began, 130);
    assert_eq!(indices(&ended).0, [0, 1]);
    assert!(result_of(&ended).successes.iter().all(|branch| branch.attempts == 2));

    // The same from a lazy source, whose tasks must be kept for their retry.
    let began = Instant::now();
    let source = move |_: &MemoryStore| Ok((0..2).map(move |_| SharedTask::new(fails_once())));
    let ended = run(Workflow::new().register_split_source(FAN, source, config, options)).await;
    assert_took(began, 130);
    assert!(result_of(&ended).successes.iter().all(|branch| branch.attempts == 2));
}

#[tokio::test(start_paused = true)]
async fn a_split_undecided_at_its_deadline_fails_and_a_partial_timeout_counts() {
    let branches = [(10, true), (20, false), (500, true)];
    let began = Instant::now();
    let ended = split(&branches, all().with_fail_fast(false).with_timeout(ms(100))).await;
    assert!(matches!(ended, Err(RunError::SplitTimeout { .. })));
    assert_eq!(indices(&ended), (vec![0], vec![1], vec![2]));
    assert_took(began, 100);

    for (min_successes, proceeds) in [(0, true), (1, true), (2, false)] {
        let config = join(JoinStrategy::PartialTimeout).with_timeout(ms(100)).with_min_successes(min_successes);
        let ended = split(&branches, config).await;
        assert_eq!(ended.is_ok(), proceeds);
        assert!(proceeds || matches!(ended, Err(RunError::Join { .. })));
        assert_eq!(indices(&ended), (vec![0], vec![1], vec![2]));
    }
}

#[tokio::test(start_paused = true)]
async fn hedging_starts_the_next_branch_after_the_delay_or_a_failure() {
    let config = || join(JoinStrategy::Any).with_hedge_delay(ms(100));
    let began = Instant::now();
    let ended = split(&[(500, true), (500, true), (50, true), (1, true)], config()).await;
    assert_eq!(indices(&ended), (vec![2], vec![], vec![0, 1, 3]));
    assert_took(began, 250);

    let began = Instant::now();
    let ended = split(&[(10, false), (10, false), (10, true)], config()).await;
    assert_eq!(indices(&ended), (vec![2], vec![0, 1], vec![]));
    assert_took(began, 30);
}

#[tokio::test(start_paused = true)]
async fn a_function_decides_after_each_completion() {
    let decide = |progress: cano_engine::JoinProgress| {
        assert_eq!(progress.pending, Some(4 - progress.succeeded - progress.failed));
        match (progress.succeeded, progress.failed) {
            (2, _) => Verdict::Proceed,
            (_, 2) => Verdict::Fail,
            _ => Verdict::Wait,
        }
    };
    let custom = || join(JoinStrategy::custom(decide));
    let ended = split(&[(5, true), (6, false), (7, true), (8, false)], custom()).await;
    assert_eq!(indices(&ended), (vec![0, 2], vec![1], vec![3]));
    let ended = split(&[(5, false), (6, false), (7, true), (8, true)], custom()).await;
    assert!(matches!(ended, Err(RunError::Join { .. })));

    for (decide, text) in [
        ((|_| panic!("cannot say")) as fn(cano_engine::JoinProgress) -> Verdict, "the task panicked: cannot say"),
        (|_| Verdict::Ask, "got Ask"),
    ] {
        let ended = split(&[(0, true), (5, true)], join(JoinStrategy::custom(decide))).await;
        let error = ended.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let ended = split(&[(5, true)], join(JoinStrategy::custom(|_| Verdict::Wait))).await;
    assert!(matches!(ended, Err(RunError::Join { .. })), "waiting for nothing is failing");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_branch_has_failed_in_place_and_spawned() {
    for spawned in [false, true] {
        let tasks = [true, false].map(|panics| {
            move |_: MemoryStore| async move {
                sleep(ms(5)).await;
                assert!(!panics, "out of luck");
                Ok(TaskResult::output(()))
            }
        });
        let config = all().with_fail_fast(false);
        let config = if spawned { config.spawned() } else { config };
        let ended = run(Workflow::new().register_split(FAN, tasks, config)).await;
        assert_eq!(indices(&ended), (vec![1], vec![0], vec![]));
        match &result_of(&ended).errors[0].result {
            Err(TaskFailure::Panicked(message)) => assert_eq!(message, "out of luck"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_loser_whose_drop_panics_changes_nothing() {
    struct Mine;
    impl Drop for Mine {
        fn drop(&mut self) {
            panic!("not so fast");
        }
    }
    for spawned in [false, true] {
        let tasks = [true, false].map(|loses| {
            move |_: MemoryStore| async move {
                if loses {
                    let _mine = Mine;
                    sleep(ms(60_000)).await;
                } else {
                    sleep(ms(5)).await;
                }
                Ok(TaskResult::output(()))
            }
        });
        let config = join(JoinStrategy::Any);
        let config = if spawned { config.spawned() } else { config };
        let ended = run(Workflow::new().register_split(FAN, tasks, config)).await;
        assert!(ended.is_ok());
        assert_eq!(indices(&ended), (vec![1], vec![], vec![0]));
    }
}

#[tokio::test(start_paused = true)]
async fn one_split_may_follow_another_and_each_starts_afresh() {
    let began = Instant::now();
    let first = JoinConfig::new(JoinStrategy::All, "again").with_timeout(ms(50));
    let workflow = Workflow::new().register_split(FAN, [branch(0, 40, true)], first).register_split(
        "again",
        [branch(0, 40, true), branch(1, 40, false)],
        join(JoinStrategy::Any).with_timeout(ms(50)),
    );
    let report = run(workflow).await.unwrap();
    assert_eq!(report.splits.iter().map(|split| split.total_count()).collect::<Vec<_>>(), [1, 2]);
    assert_took(began, 80);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_of_a_branch_has_a_limit_in_place_and_spawned() {
    for spawned in [false, true] {
        let config = if spawned { all().spawned() } else { all() };
        let options = TaskOptions::new().with_attempt_timeout(ms(20)).with_retry(RetryPolicy::fixed(1, 0.0));
        let began = Instant::now();
        let workflow = Workflow::new().register_split_with(FAN, [branch(0, 60_000, true)], config, options);
        let ended = run(workflow).await;
        assert_took(began, 40);
        let result = result_of(&ended);
        assert_eq!(result.errors[0].attempts, 2);
        assert!(matches!(result.errors[0].result, Err(TaskFailure::TimedOut(limit)) if limit == ms(20)));
    }
}

#[tokio::test(start_paused = true)]
async fn results_are_stored_also_when_the_join_fails() {
    let store = MemoryStore::new();
    let workflow = Workflow::with_store(store.clone())
        .register_split(FAN, [branch(0, 0, true), branch(1, 0, false)], all().with_store_partial_results(true))
        .add_exit_state(DONE);
    assert!(workflow.orchestrate(FAN).await.is_err());
    let stored: Arc<SplitResult<&'static str>> = store.get("split_results").unwrap();
    assert_eq!((stored.completed_count(), stored.total_count()), (2, 2));
    assert_eq!(stored.by_index(0).and_then(|branch| branch.result.as_ref().ok()?.downcast_ref()), Some(&0_u32));
}

#[tokio::test]
async fn a_large_split_lets_others_run_while_it_starts() {
    let started = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&started);
    let source = move |_: &MemoryStore| {
        let counted = Arc::clone(&counted);
        Ok((0..200_000).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            SharedTask::new(|_: MemoryStore| async { Ok(TaskResult::output(())) })
        }))
    };
    let workflow = Workflow::new().register_split_source(FAN, source, all(), TaskOptions::new()).add_exit_state(DONE);
    let other = async { started.load(Ordering::Relaxed) };
    let (ended, seen) = tokio::join!(workflow.orchestrate(FAN), other);
    assert!(ended.is_ok());
    assert!(seen < 200_000, "the other future ran only after the last branch had begun");
}

fn strategies() -> impl Generator<Value = Strategy> {
    prop_oneof![
        Just(Strategy::All),
        Just(Strategy::Any),
        (0..5_u32).prop_map(Strategy::Quorum),
        (1..=10_u32).prop_map(|tenths| Strategy::Percentage(f64::from(tenths) / 10.0)),
        (0..5_u32).prop_map(Strategy::PartialResults),
    ]
}

fn config_of(rule: &JoinRule) -> JoinConfig<&'static str> {
    let strategy = match rule.strategy {
        Strategy::All => JoinStrategy::All,
        Strategy::Any => JoinStrategy::Any,
        Strategy::Quorum(n) => JoinStrategy::Quorum(n),
        Strategy::Percentage(share) => JoinStrategy::Percentage(share),
        Strategy::PartialResults(n) => JoinStrategy::PartialResults(n),
        Strategy::PartialTimeout | Strategy::Custom => unreachable!("not generated"),
    };
    join(strategy).with_fail_fast(rule.fail_fast)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Branches with known delays and outcomes: the split ends when, how and with whom the table says.
    #[test]
    fn random_splits_end_as_the_table_says(
        strategy in strategies(),
        fail_fast in any::<bool>(),
        spawned in any::<bool>(),
        lazy in any::<bool>(),
        branches in proptest::collection::vec((0..6_u64, any::<bool>()), 0..8),
    ) {
        let rule = JoinRule { fail_fast, ..JoinRule::new(strategy) };
        // Each at a time of its own: order among equals is the runtime's business.
        let branches: Vec<(u64, bool)> =
            (0..).zip(&branches).map(|(index, &(delay, succeeds))| (10 * (delay * 8 + index) + 10, succeeds)).collect();
        let total = branches.len() as u32;
        let mut by_time: Vec<usize> = (0..branches.len()).collect();
        by_time.sort_by_key(|&index| branches[index].0);
        let (mut ok, mut bad, mut at) = (Vec::new(), Vec::new(), 0);
        let mut verdict = table(&rule, Some(total), 0, 0, false);
        for index in by_time {
            if verdict != Verdict::Wait {
                break;
            }
            at = branches[index].0;
            if branches[index].1 { ok.push(index as u32) } else { bad.push(index as u32) }
            verdict = table(&rule, Some(total), ok.len() as u32, bad.len() as u32, false);
        }
        // A list that is too short for its quorum is refused before it runs; a lazy source cannot be.
        let wanted = match strategy { Strategy::Quorum(n) | Strategy::PartialResults(n) => n, _ => 0 };
        let lazy = lazy || wanted > total;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (ended, took) = runtime.block_on(async {
            let config = if spawned { config_of(&rule).spawned() } else { config_of(&rule) };
            let tasks: Vec<SharedTask<&'static str>> = (0..)
                .zip(&branches)
                .map(|(index, &(after, succeeds))| SharedTask::new(branch(index, after, succeeds)))
                .collect();
            let began = Instant::now();
            let workflow = if lazy {
                let source = move |_: &MemoryStore| Ok(tasks.clone().into_iter());
                Workflow::new().register_split_source(FAN, source, config, TaskOptions::new())
            } else {
                let fan = move |_: MemoryStore| {
                    let answer = TaskResult::Split(tasks.clone(), config.clone());
                    async move { Ok(answer) }
                };
                Workflow::new().register(FAN, fan)
            };
            (run(workflow).await, began.elapsed())
        });
        prop_assert_eq!(ended.is_ok(), verdict == Verdict::Proceed, "{:?}", ended.err());
        let (got_ok, got_bad, got_cancelled) = indices(&ended);
        prop_assert_eq!(got_ok, ok.clone());
        prop_assert_eq!(got_bad, bad.clone());
        let drawn = result_of(&ended).total_count() as u32;
        let known_to_be_all = !lazy || at > 0;
        prop_assert!(drawn == total || !known_to_be_all, "{} of {}", drawn, total);
        let cancelled: Vec<u32> = (0..drawn).filter(|index| !ok.contains(index) && !bad.contains(index)).collect();
        prop_assert_eq!(got_cancelled, cancelled);
        prop_assert!(took >= ms(at) && took <= ms(at + 3), "{:?}, expected {} ms", took, at);
    }
}
