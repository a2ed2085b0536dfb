//! The split machine against a model that keeps a record per branch: random scripts of events, legal and illegal.
//!
//! The scripts must visit every transition of the table below and no other, or the test fails: a generator has blind
//! spots, and a transition nobody visits is one nobody tests.

mod common;
#[path = "common/split_model.rs"]
mod split_model;

use std::cell::RefCell;
use std::collections::BTreeSet;

use cano_engine::{JoinRule, SplitEvent, SplitMachine, Start, Strategy, Verdict};
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use split_model::{EVENTS, Model, check, report};

/// phase, event, the phases that follow.
const TRANSITIONS: &[(&str, &str, &[&str])] = &[
    ("New", "Opening", &["Open", "Asking", "Proceeded", "Failed"]),
    ("New", "Stop", &["Stopped"]),
    ("Open", "Succeeded", &["Open", "Asking", "Proceeded", "Failed"]),
    ("Open", "Failed", &["Open", "Asking", "Proceeded", "Failed"]),
    ("Open", "BackingOff", &["Open"]),
    ("Open", "RetryDue", &["Open"]),
    ("Open", "HedgeDue", &["Open"]),
    ("Open", "Withdraw", &["Open"]),
    ("Open", "SourceEnded", &["Open", "Asking", "Proceeded", "Failed"]),
    ("Open", "Sized", &["Open", "Asking", "Proceeded", "Failed"]),
    ("Open", "Deadline", &["Proceeded", "Failed"]),
    ("Open", "Stop", &["Stopped"]),
    ("Asking", "Answer", &["Open", "Proceeded", "Failed"]),
    ("Asking", "Stop", &["Stopped"]),
    ("Proceeded", "Dropped", &["Proceeded"]),
    ("Proceeded", "Withdraw", &["Proceeded"]),
    ("Proceeded", "Stop", &["Stopped"]),
    ("Failed", "Dropped", &["Failed"]),
    ("Failed", "Withdraw", &["Failed"]),
    ("Failed", "Stop", &["Stopped"]),
    ("Stopped", "Dropped", &["Stopped"]),
    ("Stopped", "Withdraw", &["Stopped"]),
    ("Stopped", "Stop", &["Stopped"]),
];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Start as much as the number says.
    Start(u8),
    /// Report this event about this branch (or this number of branches), with this answer; it may be illegal.
    Report(SplitEvent, u32, Verdict),
}

fn rule() -> impl Generator<Value = JoinRule> {
    let strategy = prop_oneof![
        2 => Just(Strategy::All),
        1 => Just(Strategy::Any),
        1 => (0..6_u32).prop_map(Strategy::Quorum),
        1 => (1..=10_u32).prop_map(|tenths| Strategy::Percentage(f64::from(tenths) / 10.0)),
        1 => (0..6_u32).prop_map(Strategy::PartialResults),
        2 => Just(Strategy::PartialTimeout),
        2 => Just(Strategy::Custom),
    ];
    (strategy, any::<bool>(), 0..4_u32).prop_map(|(strategy, fail_fast, min_successes)| JoinRule {
        strategy,
        fail_fast,
        min_successes,
    })
}

fn step() -> impl Generator<Value = Step> {
    let answer =
        prop::sample::select(vec![Verdict::Wait, Verdict::Wait, Verdict::Proceed, Verdict::Fail, Verdict::Ask]);
    let event = prop_oneof![
        // The common ones often, those that end everything seldom.
        40 => prop::sample::select(EVENTS[1..7].to_vec()),
        8 => Just(SplitEvent::Answer),
        6 => Just(SplitEvent::Dropped),
        3 => Just(SplitEvent::Sized),
        2 => prop::sample::select(EVENTS.to_vec()),
    ];
    prop_oneof![
        1 => (1..4_u8).prop_map(Step::Start),
        3 => (event, 0..7_u32, answer).prop_map(|(event, index, answer)| Step::Report(event, index, answer)),
    ]
}

type Visits = BTreeSet<(String, String, String)>;

fn play(
    rule: JoinRule,
    total: Option<u32>,
    bulkhead: Option<u32>,
    hedged: bool,
    opened: bool,
    steps: &[Step],
    visits: &mut Visits,
) {
    let mut split = SplitMachine::new(rule, total, bulkhead, hedged);
    let mut model = Model::new(rule, total, bulkhead, hedged);
    let opening = opened.then_some(Step::Report(SplitEvent::Opening, 0, Verdict::Wait));
    for step in opening.iter().chain(steps) {
        match *step {
            Step::Start(most) => {
                for _ in 0..most {
                    let start = model.may_start();
                    assert_eq!(split.next_start(), start);
                    model.started(start);
                    check(&split, &model);
                }
            }
            Step::Report(event, index, answer) => {
                let before = (split.clone(), model.phase);
                if model.is_legal(event, index, answer) {
                    let verdict = model.apply(event, index, answer);
                    assert_eq!(report(&mut split, event, index, answer), Ok(verdict));
                    check(&split, &model);
                    visits.insert((format!("{:?}", before.1), format!("{event:?}"), format!("{:?}", split.phase())));
                } else if cfg!(debug_assertions) || !model.looks_legal(event, index) {
                    report(&mut split, event, index, answer).expect_err("illegal");
                    assert_eq!(split, before.0, "a refused event changes nothing");
                }
            }
        }
    }
}

#[test]
fn random_scripts_agree_with_the_model_and_visit_every_transition() {
    let visits = RefCell::new(Visits::new());
    // Enough to visit every transition; `PROPTEST_CASES` asks for more.
    let cases = Config::default().cases.max(6_000);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let limit = prop::option::weighted(0.7, 0..6_u32);
    let bulkhead = prop::option::weighted(0.5, 1..4_u32);
    let script =
        (rule(), limit, bulkhead, any::<bool>(), prop::bool::weighted(0.97), prop::collection::vec(step(), 0..40));
    runner
        .run(&script, |(rule, total, bulkhead, hedged, opened, steps)| {
            play(rule, total, bulkhead, hedged, opened, &steps, &mut visits.borrow_mut());
            Ok(())
        })
        .unwrap();
    let expected: Visits = TRANSITIONS
        .iter()
        .flat_map(|(phase, event, after)| {
            after.iter().map(|after| ((*phase).to_owned(), (*event).to_owned(), (*after).to_owned()))
        })
        .collect();
    assert_eq!(visits.into_inner(), expected);
}

#[test]
fn a_retry_goes_before_a_fresh_branch_and_holds_no_permit_meanwhile() {
    let mut split = SplitMachine::new(JoinRule::new(Strategy::All), Some(3), Some(1), false);
    split.opening().unwrap();
    assert_eq!(split.next_start(), Start::Fresh(0));
    split.backing_off(0).unwrap();
    assert_eq!(split.next_start(), Start::Fresh(1));
    split.retry_due(0).unwrap();
    assert_eq!(split.next_start(), Start::Blocked);
    split.succeeded(1).unwrap();
    assert_eq!(split.next_start(), Start::Again(0));
    split.succeeded(0).unwrap();
    assert_eq!(split.next_start(), Start::Fresh(2));
    assert_eq!(split.succeeded(2), Ok(Verdict::Proceed));
    assert_eq!(split.ok_order(), [1, 0, 2]);
}

#[test]
fn hedging_starts_one_branch_per_failure_of_the_newest_or_delay() {
    let mut split = SplitMachine::new(JoinRule::new(Strategy::Any), Some(4), None, true);
    split.opening().unwrap();
    assert_eq!([split.next_start(), split.next_start()], [Start::Fresh(0), Start::Blocked]);
    split.hedge_due().unwrap();
    split.hedge_due().unwrap();
    assert_eq!([split.next_start(), split.next_start()], [Start::Fresh(1), Start::Blocked]);
    split.failed(0).unwrap();
    assert_eq!(split.next_start(), Start::Blocked, "branch 1 still has its time");
    split.failed(1).unwrap();
    assert_eq!([split.next_start(), split.next_start()], [Start::Fresh(2), Start::Blocked]);
    assert_eq!(split.succeeded(2), Ok(Verdict::Proceed));
}

#[test]
fn a_function_is_asked_again_when_n_leaves_nothing_to_wait_for() {
    for (total, verdict) in [(2, Verdict::Ask), (3, Verdict::Wait)] {
        let mut split = SplitMachine::new(JoinRule::new(Strategy::Custom), None, None, false);
        split.opening().unwrap();
        assert_eq!([split.next_start(), split.next_start()], [Start::Fresh(0), Start::Fresh(1)]);
        assert_eq!(split.failed(0), Ok(Verdict::Ask));
        assert_eq!(split.answer(Verdict::Wait), Ok(Verdict::Wait));
        assert_eq!(split.succeeded(1), Ok(Verdict::Ask));
        assert_eq!(split.answer(Verdict::Wait), Ok(Verdict::Wait));
        assert_eq!(split.sized(total), Ok(verdict));
    }
}

#[test]
fn a_refusal_says_what_came_and_when() {
    let mut split = SplitMachine::new(JoinRule::new(Strategy::All), Some(1), None, false);
    let refused = split.succeeded(3).unwrap_err();
    assert_eq!(refused.to_string(), "Succeeded of branch 3 is illegal in phase New");
    assert_eq!(split.hedge_due().unwrap_err().to_string(), "HedgeDue is illegal in phase New");
}
