//! The typed store: what it holds, what it refuses, and many threads at once.
#![cfg(feature = "driver")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use cano_engine::{MemoryStore, StoreError};

#[test]
fn values_come_back_by_type() {
    let store = MemoryStore::new();
    assert!(store.is_empty());
    store.put("count", 1_u32);
    store.put("name", "x".to_owned());
    store.put("count", 2_u32);
    assert_eq!(store.get("count"), Ok(2_u32));
    assert_eq!((store.len(), store.contains_key("name")), (2, true));
    let mut keys = store.keys();
    keys.sort();
    assert_eq!(keys, ["count", "name"]);
    assert_eq!(store.remove("name"), Ok("x".to_owned()));
    assert!(!store.contains_key("name"));
    assert_eq!(format!("{store:?}"), "{\"count\"}");
    store.clear();
    assert!(store.is_empty());
}

#[test]
fn a_missing_key_and_a_wrong_type_are_errors_that_change_nothing() {
    let store = MemoryStore::new();
    let missing = StoreError::KeyNotFound { key: "gone".to_owned() };
    assert_eq!(store.get::<u32>("gone"), Err(missing.clone()));
    assert_eq!(store.remove::<u32>("gone"), Err(missing.clone()));
    assert_eq!(store.update("gone", |_: &mut u32| ()), Err(missing.clone()));
    assert_eq!(missing.to_string(), "nothing is stored under \"gone\"; put it there first");

    store.put("text", "x".to_owned());
    let mismatch = |expected| StoreError::TypeMismatch { key: "text".to_owned(), expected };
    assert_eq!(store.get::<u32>("text"), Err(mismatch("u32")));
    assert_eq!(store.remove::<u32>("text"), Err(mismatch("u32")));
    assert_eq!(store.update("text", |_: &mut u32| ()), Err(mismatch("u32")));
    assert!(matches!(store.append("text", 1_u32), Err(StoreError::TypeMismatch { .. })));
    assert!(mismatch("u32").to_string().starts_with("expected u32 under \"text\""));
    assert_eq!(store.get("text"), Ok("x".to_owned()));
}

#[test]
fn append_and_update_are_atomic() {
    let store = MemoryStore::new();
    store.put("sum", 0_u64);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..1_000 {
                    store.update("sum", |sum: &mut u64| *sum += number).unwrap();
                    store.append("all", thread * 1_000 + number).unwrap();
                }
            });
        }
    });
    assert_eq!(store.get("sum"), Ok(4 * 999 * 1_000 / 2_u64));
    let mut all: Vec<u64> = store.get("all").unwrap();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..4_000));
}

#[test]
fn a_panic_in_an_update_leaves_the_store_usable() {
    let store = MemoryStore::new();
    store.put("count", 1_u32);
    let panicked = catch_unwind(AssertUnwindSafe(|| store.update("count", |_: &mut u32| panic!("no"))));
    assert!(panicked.is_err());
    assert_eq!(store.get("count"), Ok(1_u32));
}

#[test]
fn the_drop_of_an_old_value_may_use_the_store() {
    struct Touches(MemoryStore);
    impl Drop for Touches {
        fn drop(&mut self) {
            self.0.put("touched", true);
        }
    }
    let store = MemoryStore::new();
    store.put("value", Touches(store.clone()));
    store.put("value", 1_u32);
    assert_eq!(store.get("touched"), Ok(true));
}
