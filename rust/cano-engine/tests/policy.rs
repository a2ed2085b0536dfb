//! Retry delays: their growth, their bounds, their end.

use cano_engine::RetryPolicy;
use proptest::prelude::*;

#[test]
fn retries_are_counted() {
    assert_eq!(RetryPolicy::none().delay(1, 0.0, 0.0), None);
    let policy = RetryPolicy::fixed(2, 0.5);
    assert_eq!([1, 2, 3].map(|failed| policy.delay(failed, 9.0, 1.0)), [Some(0.5), Some(0.5), None]);
}

#[test]
fn delays_grow_to_their_ceiling() {
    let policy = RetryPolicy::exponential(u32::MAX, 0.1, 2.0, 30.0, 0.1);
    assert_eq!([1, 2, 3].map(|failed| policy.delay(failed, 0.0, 0.0)), [Some(0.1), Some(0.2), Some(0.4)]);
    assert_eq!(policy.delay(u32::MAX, 0.0, 0.0), Some(30.0));
    assert_eq!(policy.delay(u32::MAX, 0.0, 1.0), Some(30.0));
    assert_eq!(policy.delay(u32::MAX, 0.0, -1.0), Some(27.0));
    assert_eq!(RetryPolicy::exponential(u32::MAX, 0.0, 2.0, 30.0, 0.1).delay(u32::MAX, 0.0, 1.0), Some(0.0));
}

#[test]
fn no_attempt_begins_after_the_time_is_over() {
    let policy = RetryPolicy::fixed(5, 1.0).within(3.0);
    assert_eq!(policy.delay(1, 2.0, 0.0), Some(1.0));
    assert_eq!(policy.delay(2, 2.5, 0.0), None);
}

proptest! {
    #[test]
    fn a_delay_is_a_number_between_zero_and_the_ceiling(
        failed in 1..=u32::MAX,
        base in 0.0..1e300,
        factor in 0.0..1e6,
        max_delay in 0.0..1e9,
        jitter in 0.0..=1.0,
        unit in -1.0..=1.0,
    ) {
        let policy = RetryPolicy::exponential(u32::MAX, base, factor, max_delay, jitter);
        let delay = policy.delay(failed, 0.0, unit).unwrap();
        prop_assert!((0.0..=max_delay).contains(&delay), "{delay}");
    }
}
