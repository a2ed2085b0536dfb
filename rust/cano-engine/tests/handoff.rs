//! The hand-off: what each call answers, and real threads. Every order of a few is in the repository's `tests/interleavings`.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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

#[test]
fn threads_lose_nothing() {
    const ITEMS: u32 = if cfg!(miri) { 20 } else { 2_000 };
    const WORKERS: usize = 3;
    /// Whoever waits so long would wait for ever.
    const DEADLINE: Duration = Duration::from_secs(if cfg!(miri) { 600 } else { 10 });
    let (queue, landing, flag) = (&WorkQueue::default(), &Landing::default(), &WakeFlag::default());
    // A channel is what a pool and a loop are here: the number of a job, or a call.
    let (calls, called) = mpsc::channel();
    let jobs: Vec<_> = (0..WORKERS).map(|_| mpsc::channel()).collect();
    let (submit, waiting): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    let mut taken = Vec::new();
    thread::scope(|scope| {
        for (at, jobs) in waiting.into_iter().enumerate() {
            let (calls, next) = (calls.clone(), submit[(at + 1) % WORKERS].clone());
            scope.spawn(move || {
                while jobs.recv_timeout(DEADLINE) == Ok(true) {
                    if queue.take_up() {
                        next.send(true).unwrap();
                    }
                    while let Some(item) = queue.next() {
                        landing.push(item);
                        if flag.raise() {
                            calls.send(()).unwrap();
                        }
                    }
                }
            });
        }
        for items in (0..ITEMS).collect::<Vec<_>>().chunks(7) {
            if queue.offer(items.iter().copied()) {
                submit[items.len() % WORKERS].send(true).unwrap();
            }
        }
        while taken.len() < ITEMS as usize {
            called.recv_timeout(DEADLINE).expect("a call, or one was lost");
            flag.lower();
            let mut landed = landing.take();
            taken.extend(landed.pop_front());
            if !landed.is_empty() {
                landing.put_back(landed);
            }
            if !landing.is_empty() && flag.raise() {
                calls.send(()).unwrap();
            }
        }
        for jobs in &submit {
            jobs.send(false).unwrap();
        }
    });
    taken.sort_unstable();
    assert_eq!(taken, (0..ITEMS).collect::<Vec<_>>(), "each once");
}
