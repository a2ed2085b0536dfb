//! The hand-off between a loop's thread and its workers under loom: every order of every step of up to three threads.
//!
//! Waiting is real waiting here: where an item or a call is lost, somebody sleeps for ever, and loom reports a deadlock. Each
//! model also says which outcomes it must have seen, so that none is proved of something that never happens.

#[path = "../../../rust/cano-engine/src/handoff.rs"]
#[allow(dead_code, unreachable_pub)]
mod handoff;

use std::collections::{BTreeSet, VecDeque};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc as Shared, Mutex as Plain};

use handoff::{Landing, WakeFlag, WorkQueue};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// What `handoff` uses.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

/// Calls that somebody makes and somebody waits for: a loop's `call_soon_threadsafe`, a pool's `submit`.
#[derive(Default)]
struct Calls {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Calls {
    /// Makes a call; returns how many are under way then.
    fn make(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        state.0
    }

    /// Waits for a call, and takes it; false when there will be none.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        while state.0 == 0 {
            if state.1 {
                return false;
            }
            state = self.changed.wait(state).unwrap();
        }
        state.0 -= 1;
        true
    }

    fn close(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// What was seen over all orders; not part of what is modelled, so not of loom's making.
type Seen = Shared<Plain<BTreeSet<String>>>;

/// Tries every order of a model that takes so many preemptions (one more with `CANO_SOAK`), and returns what was seen.
fn every_order(name: &str, preemptions: usize, model: impl Fn(&Seen) + Send + Sync + 'static) -> Vec<String> {
    let seen = Seen::default();
    let orders = Shared::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.preemption_bound = Some(preemptions + usize::from(std::env::var("CANO_SOAK").is_ok()));
    builder.check({
        let (seen, orders) = (Shared::clone(&seen), Shared::clone(&orders));
        move || {
            orders.fetch_add(1, Ordering::Relaxed);
            model(&seen);
        }
    });
    let orders = orders.load(Ordering::Relaxed);
    writeln!(std::io::stderr(), "loom: {orders} orders of {name}").unwrap();
    let seen = seen.lock().unwrap().iter().cloned().collect();
    seen
}

fn note(seen: &Seen, what: String) {
    seen.lock().unwrap().insert(what);
}

/// The loop's side of a landing: lower, take, and call again if something is left.
fn drain(flag: &WakeFlag, landing: &Landing<u32>, calls: &Calls, most: usize) -> Vec<u32> {
    flag.lower();
    let mut landed = landing.take();
    let taken = landed.drain(..most.min(landed.len())).collect();
    if !landed.is_empty() {
        landing.put_back(landed);
    }
    if !landing.is_empty() && flag.raise() {
        assert_eq!(calls.make(), 1, "one call at a time");
    }
    taken
}

/// A worker's side: push, and call the loop unless it is going to come.
fn land(flag: &WakeFlag, landing: &Landing<u32>, calls: &Calls, one: u32) {
    landing.push(one);
    if flag.raise() {
        assert_eq!(calls.make(), 1, "one call at a time");
    }
}

/// Two workers bring one result each; the loop takes so many per call.
fn two_results(most: usize) -> impl Fn(&Seen) + Send + Sync + 'static {
    move |seen| {
        let shared = Arc::new((WakeFlag::default(), Landing::default(), Calls::default()));
        let workers = [0, 1].map(|one| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || land(&shared.0, &shared.1, &shared.2, one))
        });
        let (flag, landing, calls) = &*shared;
        let (mut taken, mut turns) = (Vec::new(), 0);
        while taken.len() < 2 {
            assert!(calls.wait());
            let now = drain(flag, landing, calls, most);
            turns += usize::from(!now.is_empty());
            taken.extend(now);
        }
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(landing.is_empty());
        note(seen, format!("{taken:?} in {turns}"));
    }
}

#[test]
fn no_result_and_no_call_is_lost() {
    let seen = every_order("two results, taken together", 4, two_results(2));
    assert_eq!(seen, ["[0, 1] in 1", "[0, 1] in 2", "[1, 0] in 1", "[1, 0] in 2"]);
}

#[test]
fn what_there_was_no_time_for_is_called_for_again() {
    let seen = every_order("two results, taken one by one", 4, two_results(1));
    assert_eq!(seen, ["[0, 1] in 2", "[1, 0] in 2"]);
}

#[test]
fn what_was_put_back_comes_before_what_has_landed_since() {
    let seen = every_order("three results in their order, one by one", 4, |seen| {
        let shared = Arc::new((WakeFlag::default(), Landing::default(), Calls::default()));
        land(&shared.0, &shared.1, &shared.2, 0);
        let worker = thread::spawn({
            let shared = Arc::clone(&shared);
            move || [1, 2].map(|one| land(&shared.0, &shared.1, &shared.2, one))
        });
        let (flag, landing, calls) = &*shared;
        let (mut taken, mut put_back) = (Vec::new(), false);
        while taken.len() < 3 {
            assert!(calls.wait());
            taken.extend(drain(flag, landing, calls, 1));
            put_back |= taken.len() == 1 && !landing.is_empty();
        }
        worker.join().unwrap();
        assert_eq!(taken, [0, 1, 2]);
        note(seen, format!("put back: {put_back}"));
    });
    assert_eq!(seen, ["put back: false", "put back: true"]);
}

#[test]
fn attempts_are_taken_one_by_one_beside_results() {
    // The driver has two landings and one flag: what lands in either is seen by the call that the other made.
    let seen = every_order("a result and an attempt", 4, |seen| {
        let shared = Arc::new((WakeFlag::default(), Landing::default(), Landing::default(), Calls::default()));
        let workers = [0, 1].map(|one| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || land(&shared.0, if one == 0 { &shared.1 } else { &shared.2 }, &shared.3, one))
        });
        let (flag, results, attempts, calls) = &*shared;
        let mut turns = Vec::new();
        while turns.iter().map(Vec::len).sum::<usize>() < 2 {
            assert!(calls.wait());
            flag.lower();
            let mut now: Vec<u32> = results.take().into();
            now.extend(attempts.pop());
            turns.push(now);
            if !(results.is_empty() && attempts.is_empty()) && flag.raise() {
                assert_eq!(calls.make(), 1, "one call at a time");
            }
        }
        for worker in workers {
            worker.join().unwrap();
        }
        turns.retain(|turn| !turn.is_empty());
        note(seen, format!("{turns:?}"));
    });
    assert_eq!(seen, ["[[0, 1]]", "[[0], [1]]", "[[1], [0]]"]);
}

/// What a job does: takes items until there are none, and has another job begin if there is more than it can begin with.
fn job(queue: &WorkQueue<u32>, jobs: &Calls, mut each: impl FnMut(u32)) {
    if queue.take_up() {
        assert_eq!(jobs.make(), 1, "one job waits at a time");
    }
    while let Some(item) = queue.next() {
        each(item);
    }
}

fn offer(queue: &WorkQueue<u32>, jobs: &Calls, items: &[u32]) {
    if queue.offer(items.iter().copied()) {
        assert_eq!(jobs.make(), 1, "one job waits at a time");
    }
}

#[test]
fn no_item_and_no_job_is_lost() {
    let seen = every_order("three items for two workers", 2, |seen| {
        let shared = Arc::new((WorkQueue::default(), Calls::default(), Calls::default()));
        let workers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (queue, jobs, done) = &*shared;
                let mut mine = Vec::new();
                while jobs.wait() {
                    job(queue, jobs, |item| {
                        mine.push(item);
                        done.make();
                    });
                }
                mine
            })
        });
        let (queue, jobs, done) = &*shared;
        offer(queue, jobs, &[0, 1]);
        offer(queue, jobs, &[2]);
        for _ in 0..3 {
            assert!(done.wait());
        }
        jobs.close();
        let mine = workers.map(|worker| worker.join().unwrap());
        let mut all = mine.concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2], "each once");
        note(seen, format!("{} and {}", mine[0].len().max(mine[1].len()), mine[0].len().min(mine[1].len())));
    });
    assert_eq!(seen, ["2 and 1", "3 and 0"]);
}

#[test]
fn calls_that_block_let_the_next_begin() {
    // Neither call returns before both have begun: one worker alone would wait for ever.
    let seen = every_order("two items that wait for each other", 3, |seen| {
        let shared = Arc::new((WorkQueue::default(), Calls::default(), (Mutex::new(0), Condvar::new())));
        let workers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (queue, jobs, (begun, changed)) = &*shared;
                let mut mine = Vec::new();
                while jobs.wait() {
                    job(queue, jobs, |item| {
                        mine.push(item);
                        let mut count = begun.lock().unwrap();
                        *count += 1;
                        changed.notify_all();
                        while *count < 2 {
                            count = changed.wait(count).unwrap();
                        }
                        drop(count);
                        jobs.close();
                    });
                }
                mine
            })
        });
        let (queue, jobs, _) = &*shared;
        offer(queue, jobs, &[0]);
        offer(queue, jobs, &[1]);
        let mut mine = workers.map(|worker| worker.join().unwrap());
        mine.sort();
        note(seen, format!("{mine:?}"));
    });
    assert_eq!(seen, ["[[0], [1]]"]);
}

#[test]
fn an_item_is_taken_or_withdrawn() {
    let seen = every_order("two items, withdrawn", 4, |seen| {
        let shared = Arc::new((WorkQueue::default(), Calls::default()));
        let worker = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (queue, jobs) = &*shared;
                let mut mine = Vec::new();
                while jobs.wait() {
                    job(queue, jobs, |item| mine.push(item));
                }
                mine
            }
        });
        let (queue, jobs) = &*shared;
        offer(queue, jobs, &[0, 1]);
        let withdrawn: VecDeque<u32> = queue.withdraw();
        jobs.close();
        let taken = worker.join().unwrap();
        assert_eq!([taken.as_slice(), &Vec::from(withdrawn)].concat(), [0, 1], "each once, in order");
        note(seen, format!("{} taken", taken.len()));
    });
    assert_eq!(seen, ["0 taken", "1 taken", "2 taken"]);
}

#[test]
fn items_go_out_and_results_come_back() {
    let seen = every_order("two items there and back, by two workers", 2, |seen| {
        let shared = Arc::new((
            WorkQueue::default(),
            Calls::default(),
            Landing::default(),
            WakeFlag::default(),
            Calls::default(),
        ));
        let workers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (queue, jobs, landing, flag, calls) = &*shared;
                while jobs.wait() {
                    job(queue, jobs, |item| land(flag, landing, calls, item));
                }
            })
        });
        let (queue, jobs, landing, flag, calls) = &*shared;
        offer(queue, jobs, &[0, 1]);
        let (mut taken, mut turns) = (Vec::new(), 0);
        while taken.len() < 2 {
            assert!(calls.wait());
            let now = drain(flag, landing, calls, 2);
            turns += usize::from(!now.is_empty());
            taken.extend(now);
        }
        jobs.close();
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(landing.is_empty() && queue.is_used());
        note(seen, format!("{taken:?} in {turns}"));
    });
    assert_eq!(seen, ["[0, 1] in 1", "[0, 1] in 2", "[1, 0] in 1", "[1, 0] in 2"]);
}

#[test]
fn a_collector_sees_what_nobody_is_at() {
    let seen = every_order("a collector beside a worker", 4, |seen| {
        let landing = Arc::new(Landing::default());
        landing.push(7);
        let worker = thread::spawn({
            let landing = Arc::clone(&landing);
            move || landing.push(8)
        });
        let mut shown = Vec::new();
        let visited: Result<(), ()> = landing.show(|one| {
            shown.push(*one);
            Ok(())
        });
        assert!(visited.is_ok());
        worker.join().unwrap();
        assert_eq!(landing.take(), [7, 8]);
        note(seen, format!("{shown:?}"));
    });
    // Loom has `try_lock` fail never where it could: that the collector then sees nothing is not among its orders.
    assert_eq!(seen, ["[7, 8]", "[7]"]);
}
