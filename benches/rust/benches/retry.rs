//! What a retry costs: a task that fails twice, without a delay, before it answers.
//!
//! The original up to 0.15.2 goes through a timer even without a delay, and so waits for its next tick: about a
//! millisecond per retry. 0.15.4 does not, and there the two are close.

use std::hint::black_box;

use cano::CancellationToken;
use cano_benches::{Flaky, State, runtimes};
use cano_engine::{RetryPolicy, TaskOptions};
use criterion::{Criterion, criterion_group, criterion_main};

const TRY: State = 0;
const DONE: State = 1;

fn retry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("retry/two_failures");
    for (name, runtime) in runtimes() {
        let options = TaskOptions::new().with_retry(RetryPolicy::fixed(2, 0.0));
        let flow = cano_engine::Workflow::new().register_with(TRY, Flaky::new(DONE), options).add_exit_state(DONE);
        group.bench_function(format!("engine/{name}"), |bencher| {
            bencher.iter(|| black_box(runtime.block_on(flow.orchestrate(TRY))).expect("an exit state"));
        });
        let flow = cano::Workflow::bare().register(TRY, Flaky::new(DONE)).add_exit_state(DONE);
        group.bench_function(format!("original/{name}"), |bencher| {
            bencher.iter(|| {
                let run = flow.orchestrate(TRY, CancellationToken::disabled());
                black_box(runtime.block_on(run)).expect("an exit state")
            });
        });
    }
}

criterion_group!(benches, retry);
criterion_main!(benches);
