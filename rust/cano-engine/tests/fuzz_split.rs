//! The split machine under ten million events, legal and illegal, against its model; `CANO_FUZZ_EVENTS` says how many.
//!
//! `split_machine.rs` has short scripts that shrink; here they are long, splits have up to 200 branches, and what is reported
//! is mostly legal, so that each split gets to its end. At every moment each branch is counted once, a split is decided
//! once, and a refused event changes nothing. What must sometimes happen is asserted, too: each strategy decided by each
//! event that can decide it.

#![allow(clippy::print_stderr, reason = "the seed of a script that fails")]

mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/split_model.rs"]
mod split_model;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use cano_engine::{JoinRule, SplitEvent, SplitMachine, SplitPhase, Start, Strategy, Verdict};
use random::{Named, Random, events};
use split_model::{Branch, EVENTS, Model, check, report};

/// By which event each strategy can be decided: `+` to proceed, `!` to fail.
const DECISIONS: &[(&str, &str)] = &[
    ("All", "Deadline! Failed! Opening+ Sized+ SourceEnded+ Succeeded+"),
    ("All to the end", "Deadline! Failed! Opening+ Sized! Sized+ SourceEnded! SourceEnded+ Succeeded! Succeeded+"),
    ("Any", "Deadline! Failed! Opening! Sized! SourceEnded! Succeeded+"),
    ("Custom", "Answer! Answer+ Deadline!"),
    ("PartialResults", "Deadline! Failed! Opening! Opening+ Sized! SourceEnded! Succeeded+"),
    (
        "PartialTimeout",
        "Deadline! Deadline+ Failed! Failed+ Opening! Sized! Sized+ SourceEnded! SourceEnded+ Succeeded! Succeeded+",
    ),
    ("Percentage", "Deadline! Failed! Opening+ Sized! Sized+ SourceEnded! SourceEnded+ Succeeded+"),
    ("Quorum", "Deadline! Failed! Opening! Opening+ Sized! SourceEnded! Succeeded+"),
];

/// Cells of phase and event in which something can be refused: all but `Stop`, and those that are legal whatever is said.
const REFUSALS: usize = 6 * 12 - 3;

/// Enough to get everywhere.
const QUICK: u64 = 150_000;

fn name(rule: &JoinRule) -> &'static str {
    match rule.strategy {
        Strategy::All if rule.fail_fast => "All",
        Strategy::All => "All to the end",
        Strategy::Any => "Any",
        Strategy::Quorum(_) => "Quorum",
        Strategy::Percentage(_) => "Percentage",
        Strategy::PartialResults(_) => "PartialResults",
        Strategy::PartialTimeout => "PartialTimeout",
        Strategy::Custom => "Custom",
    }
}

fn rule(random: &mut Random, size: u32) -> JoinRule {
    let wanted = random.below(size + 2);
    let strategy = match random.below(9) {
        0 | 1 => Strategy::All,
        2 => Strategy::Any,
        3 => Strategy::Quorum(wanted),
        4 => Strategy::Percentage(f64::from(random.below(100) + 1) / 100.0),
        5 => Strategy::PartialResults(wanted),
        6 => Strategy::PartialTimeout,
        _ => Strategy::Custom,
    };
    JoinRule { strategy, fail_fast: random.percent(30), min_successes: random.below(3) * random.below(size + 2) / 2 }
}

/// An event to report: mostly one that is legal, or nearly.
fn event(random: &mut Random, model: &Model) -> (SplitEvent, u32, Verdict) {
    let drawn = model.branches.len() as u32;
    let answer =
        random.pick(&[Verdict::Wait, Verdict::Wait, Verdict::Wait, Verdict::Wait, Verdict::Proceed, Verdict::Fail]);
    if random.percent(15) {
        let answer = if random.percent(30) { Verdict::Ask } else { answer };
        let mut event = random.pick(&EVENTS);
        if matches!(event, SplitEvent::Stop | SplitEvent::Deadline) && random.percent(50) {
            event = SplitEvent::Answer; // what ends a split for good is rare, or few would get anywhere
        }
        return (event, random.below(drawn + 3), answer);
    }
    let of = |random: &mut Random, what: Branch| {
        let first = random.below(drawn.max(1)) as usize;
        let mut turns =
            model.branches.iter().enumerate().skip(first).chain(model.branches.iter().enumerate().take(first));
        turns.find(|(_, branch)| **branch == what).map_or(drawn, |(index, _)| index as u32)
    };
    match model.phase {
        SplitPhase::New => (SplitEvent::Opening, 0, answer),
        SplitPhase::Asking => (SplitEvent::Answer, 0, answer),
        SplitPhase::Open => match random.below(100) {
            0..35 => (SplitEvent::Succeeded, of(random, Branch::Live), answer),
            35..55 => (SplitEvent::Failed, of(random, Branch::Live), answer),
            55..70 => (SplitEvent::BackingOff, of(random, Branch::Live), answer),
            70..88 => (SplitEvent::RetryDue, of(random, Branch::BackingOff), answer),
            88..94 => (SplitEvent::HedgeDue, 0, answer),
            94..98 => (SplitEvent::Withdraw, drawn.saturating_sub(1), answer),
            98 if random.percent(50) => (SplitEvent::Sized, drawn + random.below(3), answer),
            98 => (SplitEvent::SourceEnded, 0, answer),
            _ => (if random.percent(50) { SplitEvent::Deadline } else { SplitEvent::Opening }, 0, answer),
        },
        _ => (SplitEvent::Dropped, of(random, Branch::Live), answer),
    }
}

/// What was decided by what, over all scripts.
#[derive(Default)]
struct Reached {
    decisions: BTreeMap<&'static str, BTreeSet<String>>,
    refused: BTreeSet<(SplitPhase, String)>,
}

/// Plays one script and returns how many events it reported.
fn play(seed: u64, reached: &mut Reached) -> u64 {
    let _named = Named(seed);
    let random = &mut Random::new(seed);
    let size = if random.percent(1) { 200 } else { random.below(12) };
    let (rule, total) = (rule(random, size), random.percent(70).then_some(size));
    let (bulkhead, hedged) = (random.percent(40).then(|| 1 + random.below(size + 1)), random.percent(25));
    let mut split = SplitMachine::new(rule, total, bulkhead, hedged);
    let mut model = Model::new(rule, total, bulkhead, hedged);
    let (mut reported, mut verdicts) = (0, 0);
    let most = 20 + 6 * u64::from(size);
    while reported < most && !(split.is_settled() && random.percent(20)) {
        reported += 1;
        // A lazy source has an end.
        let may_start = model.total.is_some() || (model.branches.len() as u32) < size;
        if may_start && random.percent(40) {
            let start = model.may_start();
            assert_eq!(split.next_start(), start);
            model.started(start);
            assert!(start == Start::Blocked || split.phase() == SplitPhase::Open);
        } else {
            let (event, index, answer) = event(random, &model);
            let before = split.phase();
            if model.is_legal(event, index, answer) {
                let verdict = model.apply(event, index, answer);
                assert_eq!(report(&mut split, event, index, answer), Ok(verdict), "{event:?} {index}");
                if matches!(verdict, Verdict::Proceed | Verdict::Fail) {
                    verdicts += 1;
                    let mark = if verdict == Verdict::Proceed { '+' } else { '!' };
                    reached.decisions.entry(name(&rule)).or_default().insert(format!("{event:?}{mark}"));
                }
                let may_follow = [before, SplitPhase::Stopped];
                assert!(!before.is_final() || may_follow.contains(&split.phase()), "what is decided stays so");
            } else if cfg!(debug_assertions) || !model.looks_legal(event, index) {
                let whole = split.clone();
                report(&mut split, event, index, answer).expect_err("illegal");
                assert_eq!(split, whole, "a refused event changes nothing: {event:?} {index}");
                reached.refused.insert((before, format!("{event:?}")));
            } else {
                continue; // a machine that only counts cannot tell
            }
        }
        check(&split, &model);
        add_up(&split, model.total);
    }
    assert!(verdicts <= 1, "decided once");
    reported
}

/// Of every branch exactly one thing is true.
fn add_up(split: &SplitMachine, total: Option<u32>) {
    let n = total.unwrap_or(split.drawn());
    let unstarted = if split.is_decided() { 0 } else { n - split.drawn() };
    let cancelled = split.cancelled();
    let going = if split.is_decided() { 0 } else { split.live() + split.retrying() };
    assert_eq!(split.ok() + split.bad() + cancelled + going + unstarted, n);
    assert!(split.live() <= n - split.ok() - split.bad());
}

#[test]
fn whatever_is_reported_each_branch_is_counted_once() {
    let (most, mut reached, mut done, mut seed) = (events(QUICK), Reached::default(), 0, 0);
    while done < most {
        done += play(seed, &mut reached);
        seed += 1;
    }
    // The harness captures what `println!` writes, but not this: how much was tried is worth a line.
    writeln!(std::io::stderr(), "split machine: {done} events in {seed} splits").unwrap();
    if most < QUICK {
        return; // too few to get everywhere
    }
    let decisions: Vec<_> =
        reached.decisions.into_iter().map(|(name, how)| (name, Vec::from_iter(how).join(" "))).collect();
    let expected: Vec<_> = DECISIONS.iter().map(|&(name, how)| (name, how.to_owned())).collect();
    assert_eq!(decisions, expected);
    assert_eq!(reached.refused.len(), REFUSALS, "{:?}", reached.refused);
}
