//! Virtual time: the clock every simulated host reads, and the agenda it jumps along.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use ringplane_core::time::Instant;

/// The time of a simulation. Clones read the same time.
#[derive(Clone, Default, Debug)]
pub struct Clock {
    now: Rc<Cell<Instant>>,
}

impl Clock {
    /// What every host reads now.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Jumps to `at`; a moment that has passed leaves the clock where it is.
    pub fn advance_to(&self, at: Instant) {
        self.now.set(self.now.get().max(at));
    }
}

/// What is going to happen, soonest first; among equals, in the order it was scheduled.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    number: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), number: 0 }
    }
}

impl<T> Agenda<T> {
    /// Puts `what` on the agenda.
    pub fn schedule(&mut self, at: Instant, what: T) {
        self.number += 1;
        self.heap.push(Entry { at, number: self.number, what });
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Takes the next thing off the agenda.
    pub fn pop(&mut self) -> Option<(Instant, T)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    number: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    /// Reversed: the heap yields its greatest entry first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agenda_yields_the_soonest_first_and_equals_in_order() {
        let mut agenda = Agenda::default();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            agenda.schedule(Instant::from_nanos(at), what);
        }
        let order: String = std::iter::from_fn(|| agenda.pop().map(|(_, what)| what)).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn the_clock_never_runs_backwards() {
        let clock = Clock::default();
        clock.advance_to(Instant::from_nanos(9));
        clock.advance_to(Instant::from_nanos(4));
        assert_eq!(clock.now(), Instant::from_nanos(9));
    }
}
