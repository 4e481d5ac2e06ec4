//! Calls that failed, counted on for a while as if they still ran.

use core::time::Duration;

use crate::route::latency::millis;
use crate::time::Instant;

/// The longest that a failed call is counted on, whatever the worker's advice.
pub const MAX: Duration = Duration::from_secs(60);

/// A call that fails keeps its place at the instance for the penalty's time. An instance that fails at once would otherwise
/// have the fewest calls in flight of all, and draw those of all others.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Penalty {
    /// In [milliseconds](millis).
    until: u32,
    calls: u32,
}

impl Penalty {
    /// No call has failed.
    pub const NONE: Self = Self { until: 0, calls: 0 };

    /// One more call has failed. All of them count until the last of their times has ended; none longer than [`MAX`].
    pub fn add(&mut self, lasting: Duration, now: Instant) {
        let (before, now_millis) = (self.calls(now), millis(now));
        let left = if before > 0 { self.until.wrapping_sub(now_millis) } else { 0 };
        let until = now_millis.wrapping_add(left.max(lasting.min(MAX).as_millis() as u32));
        *self = Self { until, calls: before.saturating_add(1) };
    }

    /// How many calls that failed are counted now.
    pub fn calls(&self, now: Instant) -> u32 {
        let left = self.until.wrapping_sub(millis(now));
        if (1..=MAX.as_millis() as u32).contains(&left) { self.calls } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_calls_count_until_the_last_of_their_times_has_ended() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let mut penalty = Penalty::NONE;
        penalty.add(Duration::from_millis(10), at(0));
        penalty.add(Duration::from_millis(5), at(2));
        assert_eq!([penalty.calls(at(2)), penalty.calls(at(9)), penalty.calls(at(10))], [2, 2, 0]);
        penalty.add(Duration::from_millis(1), at(20));
        assert_eq!((penalty.calls(at(20)), penalty.calls(at(21))), (1, 0));
        penalty.add(Duration::ZERO, at(30));
        assert_eq!(penalty.calls(at(30)), 0, "a time of nothing switches it off");
    }

    #[test]
    fn advice_for_ever_is_a_minute() {
        let mut penalty = Penalty::NONE;
        penalty.add(Duration::MAX, Instant::ZERO);
        assert_eq!((penalty.calls(Instant::ZERO + MAX / 2), penalty.calls(Instant::ZERO + MAX)), (1, 0));
    }
}
