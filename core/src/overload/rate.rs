//! How fast places become free while all of them are taken.

use core::time::Duration;

use crate::time::Instant;

/// A moving mean of the time from one place that becomes free to the next, over those that became free while everything was
/// taken: what a queue moves by.
#[derive(Debug, Default)]
pub struct Rate {
    /// Nanoseconds; 0: nothing is known.
    mean: u64,
    freed: Option<Instant>,
}

/// A new value counts for one part in so many.
const WEIGHT: u64 = 8;

impl Rate {
    /// A place becomes free, and all were taken.
    pub fn on_freed(&mut self, now: Instant) {
        if let Some(before) = self.freed.replace(now) {
            let gap = u64::try_from(now.since(before).as_nanos()).unwrap_or(u64::MAX).max(1);
            self.mean = if self.mean == 0 { gap } else { self.mean - self.mean / WEIGHT + gap / WEIGHT };
        }
    }

    /// There are free places: the time until the next one becomes free says nothing.
    pub const fn on_slack(&mut self) {
        self.freed = None;
    }

    /// How long it takes until so many places have become free; `None` as long as nothing is known.
    pub fn until(&self, places: usize) -> Option<Duration> {
        let places = u64::try_from(places).unwrap_or(u64::MAX);
        (self.mean > 0).then(|| Duration::from_nanos(self.mean.saturating_mul(places)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn the_estimate_follows_the_pace_of_a_full_house_and_idle_time_does_not_count() {
        let mut rate = Rate::default();
        assert_eq!(rate.until(5), None);
        rate.on_freed(at(0));
        assert_eq!(rate.until(5), None, "one alone has no pace");
        rate.on_freed(at(20));
        assert_eq!(rate.until(5), Some(Duration::from_millis(100)));
        rate.on_slack();
        rate.on_freed(at(90_000));
        assert_eq!(rate.until(1), Some(Duration::from_millis(20)));
        for n in 1..=100 {
            rate.on_freed(at(90_000 + n * 2));
        }
        let pace = rate.until(1).unwrap();
        assert!(pace >= Duration::from_millis(2) && pace < Duration::from_micros(2_100), "{pace:?}");
        assert_eq!(rate.until(usize::MAX), Some(Duration::from_nanos(u64::MAX)));
    }
}
