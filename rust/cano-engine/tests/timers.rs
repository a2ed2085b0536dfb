//! The timers of a split, against a list that is sorted.

use cano_engine::{TimerId, Timers};

/// Whatever is added and cancelled, in whichever order: what comes out is what a sorted list gives.
#[test]
fn as_a_sorted_list() {
    let mut seed = 20_261_127_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..200 {
        let mut timers = Timers::default();
        let mut model: Vec<(f64, u32, TimerId)> = Vec::new();
        let mut now = 0.0;
        // Delays that are alike, or not; much cancelled, or little.
        let (spread, share) = ([1, 3, 1000][round % 3], 1 + random(9));
        for number in 0..600_u32 {
            if random(10) < share || model.is_empty() {
                let when = now + 1.0 + random(spread) as f64;
                let earliest = model.iter().all(|(other, ..)| when < *other);
                let (id, is_earliest) = timers.add(when, number);
                assert_eq!(is_earliest, earliest);
                model.push((when, number, id));
            } else if random(2) == 0 {
                let (_, number, id) = model.swap_remove(random(model.len() as u64) as usize);
                assert_eq!(timers.cancel(id), Some(number));
                assert!(timers.cancel(id).is_none());
            } else {
                now += random(3) as f64;
                model.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
                while model.first().is_some_and(|(when, ..)| *when <= now) {
                    let (_, number, id) = model.remove(0);
                    assert_eq!(timers.take_due(now, timers.newest()), Some(number));
                    assert!(timers.cancel(id).is_none());
                }
                assert!(timers.take_due(now, timers.newest()).is_none());
            }
            assert_eq!(timers.earliest(), model.iter().map(|(when, ..)| *when).min_by(f64::total_cmp));
        }
        assert_eq!(timers.iter().count(), model.len());
        model.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        for (when, number, _) in model.drain(..random(model.len() as u64 + 1) as usize) {
            assert_eq!(timers.earliest(), Some(when));
            assert_eq!(timers.take_due(when, timers.newest()), Some(number));
        }
        let left = timers.clear();
        assert_eq!(left.len(), model.len());
        assert_eq!(timers.earliest(), None);
    }
}

#[test]
fn what_is_added_in_a_turn_waits_for_the_next() {
    let mut timers = Timers::default();
    timers.add(1.0, ());
    let turn = timers.newest();
    assert!(timers.take_due(1.0, turn).is_some());
    timers.add(1.0, ());
    assert!(timers.take_due(1.0, turn).is_none());
    assert!(timers.take_due(1.0, timers.newest()).is_some());
}

#[test]
fn a_name_is_of_one_timer_only() {
    let mut timers = Timers::default();
    let (first, _) = timers.add(1.0, "first");
    assert_eq!(timers.cancel(first), Some("first"));
    let (second, _) = timers.add(1.0, "second"); // in the place of the first
    assert_ne!(first, second);
    assert_eq!(timers.cancel(first), None);
    assert_eq!(timers.clear(), ["second"]);
    let (third, _) = timers.add(1.0, "third");
    assert_eq!((timers.cancel(first), timers.cancel(second)), (None, None));
    assert_eq!(timers.cancel(third), Some("third"));
    assert_eq!(timers.cancel(0), None); // 0 names none
}
