//! The hand-off on one thread: what each call answers. Several threads at once are in the repository's `tests/interleavings`.

use cano_engine::{Landing, WakeFlag, WorkQueue};

#[test]
fn a_job_is_wanted_once_until_it_begins() {
    let queue = WorkQueue::default();
    assert!(!queue.is_used());
    assert!(queue.offer([1, 2, 3]));
    assert!(queue.is_used());
    assert!(!queue.offer([4]), "a job is on its way");
}

#[test]
fn jobs_begin_one_after_the_other_while_items_wait() {
    let queue = WorkQueue::default();
    assert!(queue.offer([1, 2]));
    assert!(queue.take_up());
    assert_eq!(queue.next(), Some(1));
    assert!(!queue.offer([3]), "the second job has not begun");
    assert!(queue.take_up());
    assert_eq!(queue.next(), Some(2));
    assert!(!queue.take_up(), "one item is for the job that asks");
    assert_eq!((queue.next(), queue.next()), (Some(3), None));
    assert!(queue.offer([4]), "no job is on its way");
    assert_eq!(queue.withdraw(), [4]);
    assert_eq!(queue.next(), None);
}

#[test]
fn results_are_taken_in_their_order() {
    let landing = Landing::default();
    assert!(landing.is_empty());
    landing.push(1);
    landing.push(2);
    assert!(!landing.is_empty());
    let mut taken = landing.take();
    assert_eq!(taken.pop_front(), Some(1));
    landing.push(3);
    landing.put_back(taken);
    assert_eq!([landing.pop(), landing.pop(), landing.pop()], [Some(2), Some(3), None]);
}

#[test]
fn a_flag_is_raised_by_one() {
    let flag = WakeFlag::default();
    assert!(!flag.is_raised());
    assert!(flag.raise());
    assert!(flag.is_raised());
    assert!(!flag.raise());
    flag.lower();
    assert!(!flag.is_raised());
    assert!(flag.raise());
}

#[test]
fn a_collector_is_shown_everything_or_its_own_error() {
    let (queue, landing) = (WorkQueue::default(), Landing::default());
    queue.offer([1, 2]);
    landing.push(3);
    let mut shown = Vec::new();
    let mut note = |one: &u32| {
        shown.push(*one);
        if shown.len() < 4 { Ok(()) } else { Err("enough") }
    };
    assert_eq!(queue.show(&mut note), Ok(()));
    assert_eq!(landing.show(&mut note), Ok(()));
    assert_eq!(queue.show(&mut note), Err("enough"));
    assert_eq!(shown, [1, 2, 3, 1]);
}
