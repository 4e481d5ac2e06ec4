//! What is due when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Things in the order in which they are due.
pub(crate) struct Timers<T> {
    waiting: BTreeMap<(Instant, u64), T>,
    number: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), number: 0 }
    }
}

impl<T> Timers<T> {
    pub(crate) fn push(&mut self, at: Instant, what: T) {
        self.number += 1;
        self.waiting.insert((at, self.number), what);
    }

    /// The next thing that is due by `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Option<T> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// When the next thing is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }
}

/// How long to poll until then: ZeroMQ counts milliseconds, rounded up so that nobody wakes in vain.
pub(crate) fn millis(until: Option<Instant>) -> i64 {
    let Some(until) = until else { return -1 };
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    i64::try_from(left.as_millis()).unwrap_or(i64::MAX)
}
