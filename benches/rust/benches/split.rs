//! What a branch costs: splits joined with `All`, of branches that answer at once and of such that suspend once.
//!
//! The original makes each branch a task of the runtime; so does the engine where it is told to (`spawned`).

use std::hint::black_box;

use cano::CancellationToken;
use cano_benches::{Goto, State, Yield, runtimes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const FAN: State = 0;
const DONE: State = 1;

fn bench_pair<T>(criterion: &mut Criterion, what: &str, branch: &T, name: &str, runtime: &Runtime)
where
    T: Clone + cano_engine::Task<State> + cano::Task<State>,
{
    for count in [10_usize, 1_000, 10_000] {
        let mut group = criterion.benchmark_group(format!("split/{what}/{count}"));
        group.throughput(Throughput::Elements(count as u64)).sample_size(20);
        let join = cano_engine::JoinConfig::new(cano_engine::JoinStrategy::All, DONE);
        for (engine, join) in [("engine", join.clone()), ("engine_spawned", join.spawned())] {
            let flow = cano_engine::Workflow::new()
                .register_split(FAN, vec![branch.clone(); count], join)
                .add_exit_state(DONE);
            group.bench_function(format!("{engine}/{name}"), |bencher| {
                bencher.iter(|| black_box(runtime.block_on(flow.orchestrate(FAN))).expect("an exit state"));
            });
        }
        let join = cano::JoinConfig::new(cano::JoinStrategy::All, DONE);
        let flow = cano::Workflow::bare().register_split(FAN, vec![branch.clone(); count], join).add_exit_state(DONE);
        group.bench_function(format!("original/{name}"), |bencher| {
            bencher.iter(|| {
                let run = flow.orchestrate(FAN, CancellationToken::disabled());
                black_box(runtime.block_on(run)).expect("an exit state")
            });
        });
    }
}

fn split(criterion: &mut Criterion) {
    for (name, runtime) in runtimes() {
        bench_pair(criterion, "no_op", &Goto(DONE), name, &runtime);
        bench_pair(criterion, "yield", &Yield(DONE), name, &runtime);
    }
}

criterion_group!(benches, split);
criterion_main!(benches);
