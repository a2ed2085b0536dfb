//! What the store costs: a hundred keys put, read and appended to by one thread.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const KEYS: usize = 100;

fn store(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..KEYS).map(|index| format!("key_{index}")).collect();
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("put_new/engine", |bencher| {
        bencher.iter(|| {
            let store = cano_engine::MemoryStore::new();
            for (number, key) in keys.iter().enumerate() {
                store.put(key, number);
            }
            store
        });
    });
    group.bench_function("put_new/original", |bencher| {
        bencher.iter(|| {
            let store = cano::MemoryStore::new();
            for (number, key) in keys.iter().enumerate() {
                store.put(key, number).expect("room");
            }
            store
        });
    });
    let engine = cano_engine::MemoryStore::new();
    let original = cano::MemoryStore::new();
    for (number, key) in keys.iter().enumerate() {
        engine.put(key, number);
        original.put(key, number).expect("room");
    }
    group.bench_function("put_again/engine", |bencher| {
        bencher.iter(|| keys.iter().for_each(|key| engine.put(key, 1_usize)));
    });
    group.bench_function("put_again/original", |bencher| {
        bencher.iter(|| keys.iter().for_each(|key| original.put(key, 1_usize).expect("room")));
    });
    group.bench_function("get/engine", |bencher| {
        bencher.iter(|| keys.iter().map(|key| engine.get::<usize>(key).expect("a number")).sum::<usize>());
    });
    group.bench_function("get/original", |bencher| {
        bencher.iter(|| keys.iter().map(|key| original.get::<usize>(key).expect("a number")).sum::<usize>());
    });
    group.bench_function("append/engine", |bencher| {
        bencher.iter(|| {
            let store = cano_engine::MemoryStore::new();
            for number in 0..KEYS {
                store.append("list", number).expect("a list");
            }
            store
        });
    });
    group.bench_function("append/original", |bencher| {
        bencher.iter(|| {
            let store = cano::MemoryStore::new();
            for number in 0..KEYS {
                store.append("list", number).expect("a list");
            }
            store
        });
    });
    black_box((engine, original));
}

criterion_group!(benches, store);
criterion_main!(benches);
