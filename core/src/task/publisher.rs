//! Receive, publish, and on failure wait and try again: the loop of a publisher, with its bounds.

use alloc::collections::VecDeque;

use crate::rng::Rng;
use crate::stats::counters;
use crate::task::pauses::Pauses;
use crate::time::{Deadline, Instant, Reason};

/// How patient a publisher is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How long it waits after an error. Default: as Dynamo's KV event listener.
    pub pauses: Pauses,
    /// The error in a row that ends it. Default 10; 0 counts as 1. A success forgives all.
    pub max_errors: u32,
    /// Items that wait while one is published; beyond, the oldest is dropped. Default 1,024; 0 counts as 1.
    pub max_queued: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self::KV_EVENTS
    }
}

impl Config {
    /// The patience of Dynamo 1.0's KV event listener: 20 ms to 2.56 s, the tenth error in a row is the last.
    pub const KV_EVENTS: Self = Self { pauses: Pauses::KV_EVENTS, max_errors: 10, max_queued: 1024 };

    /// The patience of Dynamo's etcd connector: 500 ms doubling to 5 s, for 10 s.
    pub const ETCD_CONNECTOR: Self = Self { pauses: Pauses::ETCD_CONNECTOR, max_errors: u32::MAX, max_queued: 1024 };
}

counters! {
    /// What a publisher has done. `received` is `published`, `dropped`, `abandoned` and what it still has.
    pub struct PublisherStats {
        /// Items taken in.
        pub received,
        /// Items published.
        pub published,
        /// Tries that failed.
        pub errors,
        /// Items dropped for newer ones while nothing could be published.
        pub dropped,
        /// Items it still had when it ended.
        pub abandoned,
    }
}

/// What is to be done.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Publish [`Publisher::current`], then [`Publisher::handle_published`] or [`Publisher::handle_failed`].
    Publish,
    /// The item in hand is being published.
    Busy,
    /// Wait, and receive meanwhile, until this instant: [`Publisher::handle_timeout`].
    Wait(Instant),
    /// Receive.
    Receive,
    /// Nothing more: the loop has ended.
    Stop(End),
}

/// Why a publisher has ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum End {
    /// Its source is over and everything has been published or dropped.
    Drained,
    /// So many errors in a row.
    Errors(u32),
    /// It was told to.
    Cancelled,
}

/// What a publisher is doing.
///
/// ```text
///            item                     published
///   Idle ───────────▶ Due ──▶ Busy ──────────────▶ Idle, or Due if items wait
///                      ▲        │ failed
///                      └────────┴──▶ Pausing ──▶ (too many errors) Ended
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Due,
    Busy,
    Pausing(Instant),
    Ended(End),
}

/// The loop of a publisher without its waiting. The driver does what [`Publisher::poll_action`] says and receives at any time,
/// so that whoever sends to it is never held up: what waits is bounded, the oldest is dropped and counted.
///
/// Deadlines: [`Reason::Retry`] ends a pause.
#[derive(Clone, Debug)]
pub struct Publisher<T> {
    config: Config,
    state: State,
    /// The item being published or tried again. It is never dropped for another.
    hand: Option<T>,
    /// Items dropped between the one published last and the one in hand.
    dropped_before: u64,
    queue: VecDeque<T>,
    /// Items dropped from the head of the queue since the one in hand left it.
    gap: u64,
    closed: bool,
    errors: u32,
    /// When the first error in a row was.
    failing: Instant,
    stats: PublisherStats,
}

impl<T> Publisher<T> {
    /// A publisher that has received nothing.
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            state: State::Idle,
            hand: None,
            dropped_before: 0,
            queue: VecDeque::new(),
            gap: 0,
            closed: false,
            errors: 0,
            failing: Instant::ZERO,
            stats: PublisherStats { received: 0, published: 0, errors: 0, dropped: 0, abandoned: 0 },
        }
    }

    /// Ends it now; what it has is abandoned and counted.
    pub fn cancel(&mut self) {
        self.end(End::Cancelled);
    }

    /// An item has come. Returns the one that had to be dropped for it.
    pub fn handle_received(&mut self, item: T) -> Option<T> {
        self.stats.received += 1;
        if matches!(self.state, State::Ended(_)) {
            self.stats.abandoned += 1;
            return Some(item);
        }
        if self.hand.is_none() {
            self.hand = Some(item);
            self.state = State::Due;
            return None;
        }
        let full = self.queue.len() >= self.config.max_queued.max(1);
        let dropped = if full { self.queue.pop_front() } else { None };
        self.stats.dropped += u64::from(full);
        self.gap += u64::from(full);
        self.queue.push_back(item);
        dropped
    }

    /// Nothing more will come.
    pub fn handle_closed(&mut self) {
        self.closed = true;
        if self.state == State::Idle {
            self.end(End::Drained);
        }
    }

    /// The item in hand has been published.
    pub fn handle_published(&mut self) {
        if self.state != State::Busy {
            return;
        }
        self.stats.published += 1;
        self.errors = 0;
        self.hand = self.queue.pop_front();
        self.dropped_before = core::mem::take(&mut self.gap);
        self.state = if self.hand.is_some() { State::Due } else { State::Idle };
        if self.closed && self.hand.is_none() {
            self.end(End::Drained);
        }
    }

    /// The item in hand could not be published.
    pub fn handle_failed(&mut self, now: Instant, rng: &mut Rng) {
        if self.state != State::Busy {
            return;
        }
        self.stats.errors += 1;
        if self.errors == 0 {
            self.failing = now;
        }
        self.errors = self.errors.saturating_add(1);
        let pause = self.config.pauses.pause(self.errors, now.since(self.failing), rng);
        match pause.filter(|_| self.errors < self.config.max_errors) {
            Some(pause) => self.state = State::Pausing(now + pause),
            None => self.end(End::Errors(self.errors)),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Pausing(until) = self.state
            && until <= now
        {
            self.state = State::Due;
        }
    }

    /// What to do now. [`Action::Publish`] comes once for each try.
    pub const fn poll_action(&mut self) -> Action {
        match self.state {
            State::Idle => Action::Receive,
            State::Due => {
                self.state = State::Busy;
                Action::Publish
            }
            State::Busy => Action::Busy,
            State::Pausing(until) => Action::Wait(until),
            State::Ended(end) => Action::Stop(end),
        }
    }

    /// The end of the pause, if it is one.
    pub const fn next_deadline(&self) -> Option<Deadline> {
        match self.state {
            State::Pausing(at) => Some(Deadline { at, why: Reason::Retry }),
            _ => None,
        }
    }

    /// The item in hand.
    pub const fn current(&self) -> Option<&T> {
        self.hand.as_ref()
    }

    /// Items that had to be dropped before the one in hand, since the last that was published.
    pub const fn dropped_before(&self) -> u64 {
        self.dropped_before
    }

    /// Whether nothing more will come.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Items that wait behind the one in hand.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// What it has done.
    pub const fn stats(&self) -> PublisherStats {
        self.stats
    }

    fn end(&mut self, end: End) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        self.stats.abandoned += self.queue.len() as u64 + u64::from(self.hand.is_some());
        self.hand = None;
        self.queue = VecDeque::new();
        self.state = State::Ended(end);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque as Wire;
    use std::vec::Vec;

    use core::time::Duration;

    use super::*;

    /// Publishes with errors as `fails` says, in virtual time; the instants of the tries.
    fn tries(config: Config, mut fails: impl FnMut(usize) -> bool) -> (Vec<Duration>, Action, PublisherStats) {
        let (mut publisher, mut rng, mut now) = (Publisher::new(config), Rng::new(1), Instant::ZERO);
        assert_eq!(publisher.handle_received(0), None);
        publisher.handle_closed();
        let mut tried = Vec::new();
        loop {
            match publisher.poll_action() {
                Action::Publish if fails(tried.len()) => {
                    tried.push(now.since(Instant::ZERO));
                    publisher.handle_failed(now, &mut rng);
                }
                Action::Publish => publisher.handle_published(),
                Action::Wait(until) => {
                    now = until;
                    publisher.handle_timeout(now);
                }
                action => return (tried, action, publisher.stats()),
            }
        }
    }

    #[test]
    fn the_kv_preset_ends_at_the_tenth_error_in_a_row() {
        let (tried, action, stats) = tries(Config::KV_EVENTS, |_| true);
        assert_eq!((tried.len(), action), (10, Action::Stop(End::Errors(10))));
        let pauses: Vec<u128> = tried.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1280, 2560, 2560]);
        assert_eq!((stats.errors, stats.abandoned), (10, 1));
        let (tried, action, _) = tries(Config::KV_EVENTS, |tries| tries < 9);
        assert_eq!((tried.len(), action), (9, Action::Stop(End::Drained)));
    }

    #[test]
    fn the_etcd_preset_ends_when_its_time_is_over() {
        let (tried, action, _) = tries(Config::ETCD_CONNECTOR, |_| true);
        assert_eq!((tried.len(), action), (13, Action::Stop(End::Errors(13))));
        assert!((10_000..10_100).contains(&tried[12].as_millis()), "{tried:?}");
    }

    /// What the random runs ended by.
    #[derive(Default)]
    struct Seen {
        drained: u32,
        errors: u32,
        cancelled: u32,
        dropped: u64,
    }

    fn run(seed: u64, seen: &mut Seen) -> End {
        let mut rng = Rng::new(seed);
        let config = Config {
            max_errors: u32::try_from(rng.below(6)).unwrap(),
            max_queued: usize::try_from(rng.below(6)).unwrap(),
            ..Config::default()
        };
        let (mut publisher, mut now, mut sent, mut kept) = (Publisher::new(config), Instant::ZERO, 0, Wire::new());
        let (mut published, mut in_a_row, failing) = (Vec::new(), 0, rng.below(8));
        let end = loop {
            match rng.below(16) {
                0..6 if sent < 60 => {
                    let dropped = publisher.handle_received(sent);
                    kept.push_back(sent);
                    if let Some(dropped) = dropped {
                        assert!(Some(&dropped) != publisher.current(), "seed {seed}: the one in hand");
                        kept.retain(|item| *item != dropped);
                        seen.dropped += 1;
                    }
                    sent += 1;
                }
                0..6 => publisher.handle_closed(),
                6 if rng.below(60) == 0 => publisher.cancel(),
                7 => {
                    now = now + Duration::from_millis(rng.below(100));
                    publisher.handle_timeout(now);
                }
                _ => match publisher.poll_action() {
                    Action::Publish if rng.below(8) < failing => {
                        in_a_row += 1;
                        publisher.handle_failed(now, &mut rng);
                    }
                    Action::Publish => {
                        let item = *publisher.current().unwrap();
                        assert_eq!(kept.pop_front(), Some(item), "seed {seed}: in order, none left out");
                        let before = published.last().map_or(item, |last: &u64| item - last - 1);
                        assert_eq!(
                            publisher.dropped_before(),
                            before,
                            "seed {seed}: each item tells of the gap before it"
                        );
                        published.push(item);
                        publisher.handle_published();
                        in_a_row = 0;
                    }
                    Action::Stop(end) => break end,
                    Action::Wait(until) => assert_eq!(publisher.next_deadline().map(|next| next.at), Some(until)),
                    Action::Receive => assert_eq!(publisher.current(), None),
                    Action::Busy => unreachable!("seed {seed}: every try is answered at once"),
                },
            }
            assert!(publisher.queued() <= config.max_queued.max(1), "seed {seed}");
            assert!(in_a_row <= config.max_errors.max(1), "seed {seed}: tried on after the last error");
        };
        let last = (in_a_row, config.max_errors.max(1));
        assert!(!matches!(end, End::Errors(errors) if (errors, errors) != last), "seed {seed}: {end:?}");
        let stats = publisher.stats();
        assert_eq!(stats.received, stats.published + stats.dropped + stats.abandoned, "seed {seed}: {stats:?}");
        assert_eq!((stats.received, stats.published), (sent, published.len() as u64), "seed {seed}");
        end
    }

    #[test]
    fn items_go_out_in_order_the_bounds_hold_and_the_counts_add_up() {
        let mut seen = Seen::default();
        for seed in 0..2000 {
            match run(seed, &mut seen) {
                End::Drained => seen.drained += 1,
                End::Errors(_) => seen.errors += 1,
                End::Cancelled => seen.cancelled += 1,
            }
        }
        assert!(seen.drained > 100 && seen.errors > 100 && seen.cancelled > 100 && seen.dropped > 100);
    }
}
