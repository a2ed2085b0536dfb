//! The split machine against a model that keeps a record per branch: random scripts of events, legal and illegal.
//!
//! The scripts must visit every transition of the table below and no other, or the test fails: a generator has blind
//! spots, and a transition nobody visits is one nobody tests.

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;

use cano_engine::{JoinRule, MachineError, Progress, SplitEvent, SplitMachine, SplitPhase, Start, Strategy, Verdict};
use common::table;
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

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

const EVENTS: [SplitEvent; 13] = [
    SplitEvent::Opening,
    SplitEvent::Succeeded,
    SplitEvent::Failed,
    SplitEvent::BackingOff,
    SplitEvent::RetryDue,
    SplitEvent::HedgeDue,
    SplitEvent::Withdraw,
    SplitEvent::SourceEnded,
    SplitEvent::Sized,
    SplitEvent::Deadline,
    SplitEvent::Answer,
    SplitEvent::Dropped,
    SplitEvent::Stop,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Branch {
    Live,
    BackingOff,
    Queued,
    Ok,
    Bad,
    Gone,
}

/// What the split machine should be, kept the slow and obvious way.
struct Model {
    rule: JoinRule,
    total: Option<u32>,
    bulkhead: Option<u32>,
    hedged: bool,
    hedge_open: bool,
    phase: SplitPhase,
    timed_out: bool,
    branches: Vec<Branch>,
    queue: Vec<u32>,
}

impl Model {
    fn count(&self, what: &[Branch]) -> u32 {
        self.branches.iter().filter(|branch| what.contains(branch)).count() as u32
    }

    fn ok(&self) -> u32 {
        self.count(&[Branch::Ok])
    }

    fn bad(&self) -> u32 {
        self.count(&[Branch::Bad])
    }

    fn is(&self, index: u32, what: Branch) -> bool {
        self.branches.get(index as usize) == Some(&what)
    }

    fn is_newest_live(&self, index: u32) -> bool {
        self.is(index, Branch::Live) && index as usize + 1 == self.branches.len()
    }

    fn is_legal(&self, event: SplitEvent, index: u32, answer: Verdict) -> bool {
        let open = self.phase == SplitPhase::Open;
        match event {
            SplitEvent::Opening => self.phase == SplitPhase::New,
            SplitEvent::Succeeded | SplitEvent::Failed | SplitEvent::BackingOff => open && self.is(index, Branch::Live),
            SplitEvent::RetryDue => open && self.is(index, Branch::BackingOff),
            SplitEvent::HedgeDue => open && self.hedged,
            SplitEvent::Withdraw => (open || self.phase.is_final()) && self.is_newest_live(index),
            SplitEvent::SourceEnded | SplitEvent::Deadline => open,
            SplitEvent::Sized => open && self.total.is_none() && index as usize >= self.branches.len(),
            SplitEvent::Answer => self.phase == SplitPhase::Asking && answer != Verdict::Ask,
            SplitEvent::Dropped => self.phase.is_final() && self.is(index, Branch::Live),
            SplitEvent::Stop => true,
        }
    }

    /// What a machine that knows counts alone (a release build) cannot tell from a legal event.
    fn looks_legal(&self, event: SplitEvent, index: u32) -> bool {
        let is_drawn = (index as usize) < self.branches.len();
        let some_live = self.count(&[Branch::Live]) > 0;
        let open = self.phase == SplitPhase::Open;
        match event {
            SplitEvent::Succeeded | SplitEvent::Failed | SplitEvent::BackingOff => open && is_drawn && some_live,
            SplitEvent::RetryDue => open && is_drawn && self.count(&[Branch::BackingOff]) > 0,
            SplitEvent::Dropped => self.phase.is_final() && is_drawn && some_live,
            SplitEvent::Withdraw => {
                let newest = index as usize + 1 == self.branches.len();
                (open || self.phase.is_final()) && newest && some_live
            }
            _ => false,
        }
    }

    fn may_start(&self) -> Start {
        let full = self.bulkhead.is_some_and(|most| self.count(&[Branch::Live]) >= most);
        if self.phase != SplitPhase::Open || full {
            return Start::Blocked;
        }
        if let Some(&index) = self.queue.first() {
            return Start::Again(index);
        }
        let index = self.branches.len() as u32;
        let none_left = self.total.is_some_and(|total| index >= total);
        if none_left || (self.hedged && !self.hedge_open) { Start::Blocked } else { Start::Fresh(index) }
    }

    fn started(&mut self, start: Start) {
        match start {
            Start::Fresh(_) => {
                self.branches.push(Branch::Live);
                self.hedge_open = false;
            }
            Start::Again(index) => {
                self.queue.remove(0);
                self.branches[index as usize] = Branch::Live;
            }
            Start::Blocked => {}
        }
    }

    /// Takes in a legal event and returns the verdict that must follow.
    fn apply(&mut self, event: SplitEvent, index: u32, answer: Verdict) -> Verdict {
        let at = index as usize;
        let verdict = match event {
            SplitEvent::Opening => {
                self.phase = SplitPhase::Open;
                self.hedge_open = true;
                if self.rule.strategy == Strategy::Custom && self.total != Some(0) {
                    Verdict::Wait
                } else {
                    self.table(false)
                }
            }
            SplitEvent::Succeeded => {
                self.branches[at] = Branch::Ok;
                self.table(false)
            }
            SplitEvent::Failed => {
                self.branches[at] = Branch::Bad;
                self.hedge_open |= at + 1 == self.branches.len();
                self.table(false)
            }
            SplitEvent::BackingOff => {
                self.branches[at] = Branch::BackingOff;
                Verdict::Wait
            }
            SplitEvent::RetryDue => {
                self.branches[at] = Branch::Queued;
                self.queue.push(index);
                Verdict::Wait
            }
            SplitEvent::HedgeDue => {
                self.hedge_open = true;
                Verdict::Wait
            }
            SplitEvent::Withdraw => {
                self.branches.pop();
                self.hedge_open = true;
                Verdict::Wait
            }
            SplitEvent::SourceEnded => {
                self.total = Some(self.branches.len() as u32);
                self.table(false)
            }
            SplitEvent::Sized => {
                self.total = Some(index);
                match self.table(false) {
                    Verdict::Ask if index > self.ok() + self.bad() => Verdict::Wait,
                    verdict => verdict,
                }
            }
            SplitEvent::Deadline => {
                self.timed_out = true;
                self.table(true)
            }
            SplitEvent::Answer => {
                self.phase = SplitPhase::Open;
                let nothing_pending = self.total == Some(self.ok() + self.bad());
                if answer == Verdict::Wait && nothing_pending { Verdict::Fail } else { answer }
            }
            SplitEvent::Dropped => {
                self.branches[at] = Branch::Gone;
                Verdict::Wait
            }
            SplitEvent::Stop => {
                self.over(SplitPhase::Stopped);
                Verdict::Wait
            }
        };
        match verdict {
            Verdict::Wait => {}
            Verdict::Proceed => self.over(SplitPhase::Proceeded),
            Verdict::Fail => self.over(SplitPhase::Failed),
            Verdict::Ask => self.phase = SplitPhase::Asking,
        }
        verdict
    }

    fn over(&mut self, phase: SplitPhase) {
        self.phase = phase;
        self.queue.clear();
        for branch in &mut self.branches {
            if matches!(branch, Branch::BackingOff | Branch::Queued) {
                *branch = Branch::Gone;
            }
        }
    }

    fn table(&self, deadline: bool) -> Verdict {
        table(&self.rule, self.total, self.ok(), self.bad(), deadline)
    }
}

fn report(split: &mut SplitMachine, event: SplitEvent, index: u32, answer: Verdict) -> Result<Verdict, MachineError> {
    let none = |()| Verdict::Wait;
    match event {
        SplitEvent::Opening => split.opening(),
        SplitEvent::Succeeded => split.succeeded(index),
        SplitEvent::Failed => split.failed(index),
        SplitEvent::BackingOff => split.backing_off(index).map(none),
        SplitEvent::RetryDue => split.retry_due(index).map(none),
        SplitEvent::HedgeDue => split.hedge_due().map(none),
        SplitEvent::Withdraw => split.withdraw(index).map(none),
        SplitEvent::SourceEnded => split.source_ended(),
        SplitEvent::Sized => split.sized(index),
        SplitEvent::Deadline => split.deadline(),
        SplitEvent::Answer => split.answer(answer),
        SplitEvent::Dropped => split.dropped(index).map(none),
        SplitEvent::Stop => {
            split.stop();
            Ok(Verdict::Wait)
        }
    }
}

fn check(split: &SplitMachine, model: &Model) {
    let (ok, bad, live) = (model.ok(), model.bad(), model.count(&[Branch::Live]));
    let drawn = model.branches.len() as u32;
    assert_eq!(split.phase(), model.phase);
    assert_eq!((split.ok(), split.bad(), split.live()), (ok, bad, live));
    let pending = model.total.map(|total| total - ok - bad);
    assert_eq!(split.progress(), Progress { succeeded: ok, failed: bad, pending, total: model.total });
    assert_eq!((split.rule(), split.timed_out()), (&model.rule, model.timed_out));
    assert_eq!(split.retrying(), model.count(&[Branch::BackingOff, Branch::Queued]));
    assert_eq!(split.drawn(), drawn);
    assert_eq!(split.is_settled(), model.phase.is_final() && live == 0);
    assert_eq!(split.has_retries_due(), !model.queue.is_empty());
    assert_eq!(split.may_start(), model.may_start() != Start::Blocked);
    let ended: BTreeSet<u32> = split.ok_order().iter().chain(split.bad_order()).copied().collect();
    assert_eq!(ended.len() as u32, ok + bad, "a branch ends once");
    if split.is_decided() {
        assert_eq!(split.total(), Some(model.total.unwrap_or(drawn)));
        assert_eq!(Some(ok + bad + split.cancelled()), split.total());
    } else {
        assert_eq!(ok + bad + split.live() + split.retrying(), drawn);
        assert_eq!(split.cancelled(), 0);
    }
}

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
    let phase = SplitPhase::New;
    let mut model = Model {
        rule,
        total,
        bulkhead,
        hedged,
        hedge_open: false,
        timed_out: false,
        phase,
        branches: Vec::new(),
        queue: Vec::new(),
    };
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
