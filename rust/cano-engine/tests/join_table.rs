//! Every strategy, every N up to 5, every sequence of outcomes, known and lazy, with and without a deadline.

mod common;

use cano_engine::{JoinRule, SplitMachine, Start, Strategy, Verdict, percentage_need};
use common::table;

fn rules() -> Vec<JoinRule> {
    let mut rules = vec![
        JoinRule::new(Strategy::All),
        JoinRule { fail_fast: false, ..JoinRule::new(Strategy::All) },
        JoinRule::new(Strategy::Any),
    ];
    for n in [0, 1, 2, 3, 4, 5, 6, u32::MAX] {
        rules.push(JoinRule::new(Strategy::Quorum(n)));
        rules.push(JoinRule::new(Strategy::PartialResults(n)));
        rules.push(JoinRule { min_successes: n, ..JoinRule::new(Strategy::PartialTimeout) });
    }
    rules.extend([0.01, 0.2, 0.34, 0.5, 0.75, 1.0].map(|share| JoinRule::new(Strategy::Percentage(share))));
    rules
}

/// Plays one split to its decision, the newest live branch ending first, and compares each verdict with the table's.
fn play(rule: JoinRule, total: u32, outcomes: u32, deadline_after: Option<u32>, bulkhead: Option<u32>, lazy: bool) {
    let case = format!("{rule:?} N={total} {outcomes:b} {deadline_after:?} {bulkhead:?} lazy={lazy}");
    let mut known = (!lazy).then_some(total);
    let mut split = SplitMachine::new(rule, known, bulkhead, false);
    let (mut ok, mut bad) = (0, 0);
    let mut live = Vec::new();
    let mut verdict = split.opening().unwrap();
    assert_eq!(verdict, table(&rule, known, 0, 0, false), "{case}");
    for step in 0..=total {
        while verdict == Verdict::Wait {
            let Start::Fresh(index) = split.next_start() else { break };
            if index == total {
                split.withdraw(index).unwrap();
                known = Some(total);
                verdict = split.source_ended().unwrap();
                assert_eq!(verdict, table(&rule, known, ok, bad, false), "{case}");
            } else {
                live.push(index);
                assert!(bulkhead.is_none_or(|most| split.live() <= most), "{case}");
            }
        }
        if verdict != Verdict::Wait {
            break;
        }
        if deadline_after == Some(step) {
            verdict = split.deadline().unwrap();
            assert_eq!(verdict, table(&rule, known, ok, bad, true), "{case}");
            assert!(split.timed_out());
            break;
        }
        let index = live.pop().expect("an undecided split has a live branch");
        if outcomes >> step & 1 == 0 {
            ok += 1;
            verdict = split.succeeded(index).unwrap();
        } else {
            bad += 1;
            verdict = split.failed(index).unwrap();
        }
        assert_eq!(verdict, table(&rule, known, ok, bad, false), "{case}");
    }
    assert!(split.is_decided(), "{case}");
    for index in live {
        assert!(!split.is_settled(), "{case}");
        split.dropped(index).unwrap();
    }
    assert!(split.is_settled(), "{case}");
    assert_eq!((split.ok(), split.bad()), (ok, bad), "{case}");
    assert_eq!(Some(split.ok() + split.bad() + split.cancelled()), split.total(), "{case}");
    assert_eq!(split.ok_order().len() + split.bad_order().len(), (ok + bad) as usize, "{case}");
}

#[test]
fn every_sequence_is_decided_as_the_table_says() {
    for rule in rules() {
        for total in 0..=5 {
            for outcomes in 0..1 << total {
                for deadline in std::iter::once(None).chain((0..=total).map(Some)) {
                    for bulkhead in [None, Some(1), Some(2)] {
                        play(rule, total, outcomes, deadline, bulkhead, false);
                        play(rule, total, outcomes, deadline, bulkhead, true);
                    }
                }
            }
        }
    }
}

#[test]
fn a_share_ignores_the_rounding_of_the_product() {
    for (share, total, need) in
        [(0.07, 100, 7), (0.5, 3, 2), (1.0, 1_000_000, 1_000_000), (0.3, 10, 3), (1e-3, 1, 1), (0.1, 0, 0)]
    {
        assert_eq!(percentage_need(share, total), need, "{share} of {total}");
    }
    for hundredths in 1..=100 {
        assert_eq!(percentage_need(f64::from(hundredths) / 100.0, 100), hundredths);
    }
}

#[test]
fn waiting_for_nothing_is_failing() {
    for lazy in [false, true] {
        let mut split = SplitMachine::new(JoinRule::new(Strategy::Custom), (!lazy).then_some(1), None, false);
        assert_eq!(split.opening(), Ok(Verdict::Wait));
        assert_eq!(split.next_start(), Start::Fresh(0));
        assert_eq!(split.succeeded(0), Ok(Verdict::Ask));
        assert_eq!(split.progress().pending, (!lazy).then_some(0));
        assert_eq!(split.next_start(), Start::Blocked, "nothing starts before the answer");
        if lazy {
            assert_eq!(split.answer(Verdict::Wait), Ok(Verdict::Wait));
            assert_eq!(split.next_start(), Start::Fresh(1));
            split.withdraw(1).unwrap();
            assert_eq!(split.source_ended(), Ok(Verdict::Ask));
        }
        assert_eq!(split.answer(Verdict::Wait), Ok(Verdict::Fail));
    }
}
