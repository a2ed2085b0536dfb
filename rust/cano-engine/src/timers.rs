//! What is due when: the timers of one split, for a driver that arms one timer of its loop for the earliest.
//!
//! Like branches sleep alike, so timers mostly come in the order in which they are due: those are a list, which has no work to do,
//! and what comes out of order is a heap. A cancelled timer is gone at once, from wherever it is: marks would have to be swept, and
//! a million of them in one go keep the loop for tens of milliseconds.

/// Names a timer: its place and a part of its serial number. 0 is none.
pub type TimerId = u64;

/// No place.
const NONE: u32 = u32::MAX;
/// In `Timer::after`: the timer is in the heap, and `before` is where.
const HEAPED: u32 = u32::MAX - 1;

/// A place for a timer.
#[derive(Debug)]
struct Timer<T> {
    when: f64,
    /// 0: there is none.
    serial: u64,
    due: Option<T>,
    /// The places of its neighbours in the list.
    before: u32,
    after: u32,
}

/// Timers on any clock that counts in `f64`, each with what is due then.
#[derive(Debug)]
pub struct Timers<T> {
    places: Vec<Timer<T>>,
    free: Vec<u32>,
    /// The ends of the list.
    front: u32,
    back: u32,
    /// Places; the earliest first.
    heap: Vec<u32>,
    serial: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), front: NONE, back: NONE, heap: Vec::new(), serial: 0 }
    }
}

impl<T> Timers<T> {
    /// Adds a timer; the second answer is whether it is the earliest. Of the same moment, the one added first comes first.
    pub fn add(&mut self, when: f64, due: T) -> (TimerId, bool) {
        self.serial += 1;
        let serial = self.serial;
        let earliest = self.earliest().is_none_or(|first| when < first);
        let timer = Timer { when, serial, due: Some(due), before: NONE, after: NONE };
        let place = if let Some(place) = self.free.pop() {
            self.places[place as usize] = timer;
            place
        } else {
            self.places.push(timer);
            (self.places.len() - 1) as u32
        };
        if self.front != NONE && self.front == self.back && when < self.at(self.front).when {
            // A deadline, say, which came first: it need not keep all others out of the list.
            let alone = self.front;
            self.unlink(alone);
            self.push(alone);
        }
        if self.back == NONE || self.at(self.back).when <= when {
            self.link(place);
        } else {
            self.push(place);
        }
        (serial << 32 | u64::from(place + 1), earliest)
    }

    /// Forgets a timer, and gives back what it held so that the caller lets go of it outside of any borrow.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let place = (id as u32).checked_sub(1)?;
        let serial = self.places.get(place as usize)?.serial;
        if serial == 0 || serial << 32 != id & !u64::from(u32::MAX) {
            return None;
        }
        self.take(place)
    }

    /// The moment of the earliest timer.
    pub fn earliest(&self) -> Option<f64> {
        self.first().map(|place| self.at(place).when)
    }

    /// Takes the next timer that is due at `now`, and was added before this turn began (`until`, a serial).
    pub fn take_due(&mut self, now: f64, until: u64) -> Option<T> {
        let place = self.first()?;
        let first = self.at(place);
        if first.when > now || first.serial > until {
            return None;
        }
        self.take(place)
    }

    /// The serial number of the newest timer.
    pub fn newest(&self) -> u64 {
        self.serial
    }

    /// Takes everything out, for the caller to let go of. The names it has given are not given again.
    pub fn clear(&mut self) -> Vec<T> {
        let all = std::mem::replace(self, Self { serial: self.serial, ..Self::default() });
        all.places.into_iter().filter_map(|timer| timer.due).collect()
    }

    /// What is due at some time, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|timer| timer.due.as_ref())
    }

    fn at(&self, place: u32) -> &Timer<T> {
        &self.places[place as usize]
    }

    /// The place of the earliest timer.
    fn first(&self) -> Option<u32> {
        match (self.front, self.heap.first()) {
            (NONE, None) => None,
            (NONE, Some(heaped)) => Some(*heaped),
            (listed, Some(heaped)) if self.is_before(*heaped, listed) => Some(*heaped),
            (listed, _) => Some(listed),
        }
    }

    fn is_before(&self, one: u32, other: u32) -> bool {
        let (one, other) = (self.at(one), self.at(other));
        one.when.total_cmp(&other.when).then(one.serial.cmp(&other.serial)).is_lt()
    }

    /// Takes a timer out of wherever it is.
    fn take(&mut self, place: u32) -> Option<T> {
        if self.at(place).after == HEAPED {
            self.pull(place);
        } else {
            self.unlink(place);
        }
        self.free.push(place);
        let timer = &mut self.places[place as usize];
        timer.serial = 0;
        timer.due.take()
    }

    // --- the list ---

    /// Puts a timer at the end of the list.
    fn link(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.back, place);
        let timer = &mut self.places[place as usize];
        (timer.before, timer.after) = (before, NONE);
        match before {
            NONE => self.front = place,
            _ => self.places[before as usize].after = place,
        }
    }

    fn unlink(&mut self, place: u32) {
        let &Timer { before, after, .. } = self.at(place);
        match before {
            NONE => self.front = after,
            _ => self.places[before as usize].after = after,
        }
        match after {
            NONE => self.back = before,
            _ => self.places[after as usize].before = before,
        }
    }

    // --- the heap (J. W. J. Williams, Algorithm 232, CACM 1964), where each knows its place ---

    fn push(&mut self, place: u32) {
        self.places[place as usize].after = HEAPED;
        self.heap.push(place);
        self.rise(self.heap.len() - 1, place);
    }

    fn pull(&mut self, place: u32) {
        let hole = self.at(place).before as usize;
        let Some(last) = self.heap.pop().filter(|last| *last != place) else { return };
        if hole > 0 && self.is_before(last, self.heap[(hole - 1) / 2]) {
            self.rise(hole, last);
        } else {
            self.sink(hole, last);
        }
    }

    /// Puts a timer where it belongs, at `hole` or above.
    fn rise(&mut self, mut hole: usize, place: u32) {
        while hole > 0 {
            let parent = (hole - 1) / 2;
            if !self.is_before(place, self.heap[parent]) {
                break;
            }
            self.set(hole, self.heap[parent]);
            hole = parent;
        }
        self.set(hole, place);
    }

    /// Puts a timer where it belongs, at `hole` or below.
    fn sink(&mut self, mut hole: usize, place: u32) {
        loop {
            let mut child = 2 * hole + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.is_before(self.heap[child + 1], self.heap[child]) {
                child += 1;
            }
            if !self.is_before(self.heap[child], place) {
                break;
            }
            self.set(hole, self.heap[child]);
            hole = child;
        }
        self.set(hole, place);
    }

    fn set(&mut self, at: usize, place: u32) {
        self.heap[at] = place;
        self.places[place as usize].before = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::Timers;

    /// What comes in order has no heap to go through, whether a deadline was there first or not.
    #[test]
    fn in_order_they_are_a_list() {
        let mut timers = Timers::default();
        let alike: Vec<_> = (0..100).map(|number| timers.add(1.0, number).0).collect();
        assert_eq!(timers.heap.len(), 0);
        timers.add(2.0, 100);
        assert_eq!(timers.heap.len(), 0);
        timers.add(1.5, 101);
        assert_eq!(timers.heap.len(), 1);
        for id in alike {
            timers.cancel(id);
        }
        assert_eq!(timers.heap.len(), 1);
    }

    #[test]
    fn one_that_is_first_and_late_leaves_the_list_to_the_others() {
        let mut timers = Timers::default();
        timers.add(30.0, 0);
        for number in 1..100 {
            timers.add(f64::from(number), number);
        }
        assert_eq!(timers.heap.len(), 1);
        timers.add(40.0, 100); // out of order
        assert_eq!(timers.heap.len(), 2);
    }
}
