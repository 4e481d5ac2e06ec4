//! How long tasks may run: a poll of one until it gives way, those of a turn until the driver sees to its sockets and timers again.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;

use crate::time::Instant;

/// Sends and receives of one poll, after which a task gives way even if it could go on.
pub const OPERATIONS: u32 = 128;
/// Time in one poll after which a task gives way at its next look at the clock: with its 2nd, 8th and 32nd operation. Reading
/// the clock costs a tenth of a small item.
pub const POLL: Duration = Duration::from_micros(250);
/// Time tasks have in one turn of a driver. The poll that exceeds it is the last of the turn.
pub const TURN: Duration = Duration::from_millis(1);
/// A poll that lasts this long is told to the operator.
pub const HELD: Duration = Duration::from_millis(100);
/// From one that is told to the next that is; those in between are counted.
pub const QUIET: Duration = Duration::from_secs(10);

/// The first operation that looks at the clock, and how many times as many until the next.
const LOOKS: (u32, u32) = (2, 4);

/// A poll that held a core: nobody else was served meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// The path of the endpoint whose handler it was; `None`: another task.
    pub endpoint: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// Further ones since the last that was told.
    pub others: u64,
}

/// What the tasks of a thread are about, for another thread that watches. Two looks that see the same poll say that it has
/// lasted for the time between them, without a clock.
#[derive(Debug)]
pub struct Beat {
    /// Counts polls by twos; odd while one runs.
    polls: AtomicUsize,
    /// The endpoint whose handler is polled, or [`Self::NONE`].
    endpoint: AtomicU32,
    /// The poll that whoever watches has told of.
    told: AtomicUsize,
}

/// A poll that runs while it is looked at.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Running {
    poll: usize,
    /// The number of the endpoint whose handler it is; `None`: another task.
    pub endpoint: Option<u32>,
}

impl Beat {
    const NONE: u32 = u32::MAX;

    /// The poll that runs now, if one does.
    pub fn running(&self) -> Option<Running> {
        let poll = self.polls.load(Ordering::Relaxed);
        let endpoint = self.endpoint.load(Ordering::Relaxed);
        (poll & 1 == 1).then_some(Running { poll, endpoint: (endpoint != Self::NONE).then_some(endpoint) })
    }

    /// The operator has been told of this poll: its end is no news.
    pub fn tell(&self, running: Running) {
        self.told.store(running.poll, Ordering::Relaxed);
    }
}

impl Default for Beat {
    fn default() -> Self {
        Self { polls: AtomicUsize::new(0), endpoint: AtomicU32::new(Self::NONE), told: AtomicUsize::new(0) }
    }
}

/// Watches over the polls of one thread.
#[derive(Default)]
pub struct Pace {
    /// When the last poll began, unless its end has been noted.
    begun: Cell<Option<Instant>>,
    operations: Cell<u32>,
    /// The operation that looks at the clock.
    look: Cell<u32>,
    beat: Arc<Beat>,
    paths: RefCell<BTreeMap<u32, String>>,
    held: Cell<Option<Box<Held>>>,
    quiet_until: Cell<Instant>,
    others: Cell<u64>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").finish_non_exhaustive()
    }
}

impl Pace {
    /// The tasks of a turn have run; what one of them did wrong, if there is something to tell.
    pub fn rest(&self, now: Instant) -> Option<Box<Held>> {
        self.end(now);
        let polls = self.beat.polls.load(Ordering::Relaxed);
        self.beat.polls.store(polls & !1, Ordering::Relaxed);
        self.held.take()
    }

    /// What another thread sees of the polls.
    pub const fn beat(&self) -> &Arc<Beat> {
        &self.beat
    }

    /// A poll begins, and with it ends the one before.
    pub(super) fn begin(&self, now: Instant) {
        self.end(now);
        self.begun.set(Some(now));
        self.operations.set(0);
        self.look.set(LOOKS.0);
        let polls = self.beat.polls.load(Ordering::Relaxed);
        self.beat.polls.store(polls.wrapping_add(2) | 1, Ordering::Relaxed);
        self.beat.endpoint.store(Beat::NONE, Ordering::Relaxed);
    }

    /// The poll is that of a handler of this endpoint.
    pub(super) fn handles(&self, endpoint: u32) {
        self.beat.endpoint.store(endpoint, Ordering::Relaxed);
    }

    /// One more operation; `false`: the task is to give way first. `clock` reads the time.
    pub(super) fn spend(&self, clock: impl FnOnce() -> Instant) -> bool {
        let operations = self.operations.get() + 1;
        if operations > OPERATIONS {
            return false;
        }
        self.operations.set(operations);
        operations < self.look.get() || self.goes_on(clock())
    }

    /// The path of an endpoint, for people.
    pub(super) fn name(&self, endpoint: u32, path: &str) {
        self.paths.borrow_mut().insert(endpoint, path.into());
    }

    fn goes_on(&self, now: Instant) -> bool {
        self.look.set(self.look.get().saturating_mul(LOOKS.1));
        let over = self.begun.get().is_some_and(|begun| now.since(begun) >= POLL);
        if over {
            self.operations.set(OPERATIONS);
        }
        !over
    }

    fn end(&self, now: Instant) {
        if let Some(begun) = self.begun.take()
            && now.since(begun) >= HELD
        {
            self.note(now.since(begun), now);
        }
    }

    #[cold]
    fn note(&self, took: Duration, now: Instant) {
        let running = self.beat.running();
        if running.is_some_and(|running| running.poll == self.beat.told.load(Ordering::Relaxed)) {
            return;
        }
        if now < self.quiet_until.get() {
            self.others.set(self.others.get() + 1);
            return;
        }
        self.quiet_until.set(now + QUIET);
        let number = running.and_then(|running| running.endpoint);
        let endpoint = number.and_then(|number| self.paths.borrow().get(&number).cloned());
        self.held.set(Some(Box::new(Held { endpoint, took, others: self.others.take() })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    /// Operations until a task gives way, if each takes `micros`; and how often it has looked at the clock.
    fn run(micros: u64) -> (u64, u32) {
        let (pace, looks) = (Pace::default(), Cell::new(0));
        pace.begin(at(0));
        let mut done = 0;
        let goes_on = |done: u64| {
            pace.spend(|| {
                looks.set(looks.get() + 1);
                at((done + 1) * micros)
            })
        };
        while goes_on(done) {
            done += 1;
        }
        assert!(!goes_on(done), "until its next poll");
        pace.begin(at(1_000_000));
        assert!(pace.spend(|| at(1_000_000)));
        (done, looks.get())
    }

    #[test]
    fn a_task_gives_way_after_a_number_of_operations_or_at_its_next_look_at_the_clock_when_its_time_is_over() {
        assert_eq!(run(0), (128, 4));
        assert_eq!(run(1), (128, 4));
        assert_eq!(run(300), (1, 1));
        assert_eq!(run(100), (7, 2));
        assert_eq!(run(20), (31, 3));
    }

    #[test]
    fn a_poll_that_held_its_core_is_told_with_its_endpoint_and_the_next_ones_are_counted() {
        let pace = Pace::default();
        pace.name(7, "a/path");
        pace.begin(at(0));
        pace.handles(7);
        assert_eq!(pace.rest(at(99_999)), None);
        // What passes between two polls belongs to neither.
        pace.begin(at(900_000));
        pace.handles(7);
        pace.begin(at(1_000_000));
        let held = |endpoint: Option<&str>, millis, others| {
            Some(Box::new(Held { endpoint: endpoint.map(Into::into), took: Duration::from_millis(millis), others }))
        };
        assert_eq!(pace.rest(at(1_200_000)), held(Some("a/path"), 100, 0), "the next one came too soon after");
        pace.begin(at(20_000_000));
        assert_eq!(pace.rest(at(20_150_000)), held(None, 150, 1));
    }

    #[test]
    fn another_thread_sees_which_poll_runs_and_what_it_has_told_is_not_told_again() {
        let pace = Pace::default();
        let beat = pace.beat().clone();
        assert_eq!(beat.running(), None);
        pace.begin(at(0));
        pace.handles(7);
        let first = beat.running().unwrap();
        assert_eq!((first.endpoint, beat.running()), (Some(7), Some(first)), "the same poll still runs");
        beat.tell(first);
        assert_eq!((pace.rest(at(5_000_000)), beat.running()), (None, None));
        pace.begin(at(6_000_000));
        let second = beat.running().unwrap();
        assert_eq!((second.endpoint, second == first), (None, false));
        assert!(pace.rest(at(7_000_000)).is_some());
    }
}
