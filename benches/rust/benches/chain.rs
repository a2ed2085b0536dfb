//! What a transition costs: chains of tasks that answer at once.

use std::hint::black_box;

use cano::CancellationToken;
use cano_benches::{Goto, State, runtimes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn chain(criterion: &mut Criterion) {
    for length in [1, 10, 100] {
        let mut group = criterion.benchmark_group(format!("chain/{length}"));
        group.throughput(Throughput::Elements(u64::from(length)));
        for (name, runtime) in runtimes() {
            let engine = (0..length)
                .fold(cano_engine::Workflow::<State>::new(), |flow, state| flow.register(state, Goto(state + 1)))
                .add_exit_state(length);
            group.bench_function(format!("engine/{name}"), |bencher| {
                bencher.iter(|| black_box(runtime.block_on(engine.orchestrate(0))).expect("an exit state"));
            });
            let original = (0..length)
                .fold(cano::Workflow::<State>::bare(), |flow, state| flow.register(state, Goto(state + 1)))
                .add_exit_state(length);
            group.bench_function(format!("original/{name}"), |bencher| {
                bencher.iter(|| {
                    let run = original.orchestrate(0, CancellationToken::disabled());
                    black_box(runtime.block_on(run)).expect("an exit state")
                });
            });
        }
    }
}

criterion_group!(benches, chain);
criterion_main!(benches);
