//! What the machines cost by themselves: no task, no runtime.

use std::hint::black_box;
use std::sync::Arc;

use cano_engine::{JoinRule, Plan, RetryPolicy, RunMachine, SplitMachine, Start, StatePlan, Strategy, Verdict};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BRANCHES: u32 = 10_000;

fn machine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(u64::from(BRANCHES)));
    for (name, bulkhead, hedged) in [("branch", None, false), ("branch_bulkhead", Some(64), false)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let rule = JoinRule::new(Strategy::All);
                let mut split = SplitMachine::new(black_box(rule), Some(BRANCHES), bulkhead, hedged);
                let mut verdict = split.opening().expect("a new split");
                while let Start::Fresh(index) = split.next_start() {
                    verdict = split.succeeded(black_box(index)).expect("a live branch");
                }
                assert_eq!(verdict, Verdict::Proceed);
                split
            });
        });
    }
    let states = vec![StatePlan::task(RetryPolicy::none()), StatePlan::exit()];
    let plan = Arc::new(Plan::new(states, None).expect("a plan"));
    group.bench_function("transition", |bencher| {
        bencher.iter(|| {
            let mut run = RunMachine::new(Arc::clone(&plan));
            run.begin(0).expect("a new run");
            for _ in 0..BRANCHES {
                black_box(run.finished(black_box(0)).expect("a running task"));
            }
            run
        });
    });
}

criterion_group!(benches, machine);
criterion_main!(benches);
