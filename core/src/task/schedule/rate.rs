//! So many tasks in a time.

use core::time::Duration;

use crate::task::schedule::scheduler::{Room, TaskScheduler};
use crate::time::Instant;

/// Lets tasks begin at an even rate, with a burst after a quiet time: the generic cell rate algorithm (ITU-T I.371), which is
/// a token bucket kept as one instant. In any time `t` at most `burst + t / interval` tasks begin.
///
/// ```
/// use std::time::Duration;
///
/// use ringplane_core::task::schedule::{RateScheduler, Room, TaskScheduler};
/// use ringplane_core::time::Instant;
///
/// // Ten in a second, two of them at once.
/// let mut rate = RateScheduler::new(Duration::from_millis(100), 2);
/// rate.acquire(Instant::ZERO);
/// rate.acquire(Instant::ZERO);
/// assert_eq!(rate.room(Instant::ZERO), Room::At(Instant::ZERO + Duration::from_millis(100)));
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RateScheduler {
    interval: Duration,
    burst: u32,
    /// When the bucket will be full again.
    full: Instant,
}

impl RateScheduler {
    /// One task each `interval`, and `burst` at once when none has begun for `burst` intervals; a burst of 0 counts as 1.
    pub const fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst: if burst == 0 { 1 } else { burst }, full: Instant::ZERO }
    }

    /// `tasks` a second; 0 counts as 1.
    pub fn per_second(tasks: u32, burst: u32) -> Self {
        Self::new(Duration::from_secs(1) / tasks.max(1), burst)
    }

    /// How long before the bucket is full it has room for one.
    fn slack(&self) -> Duration {
        self.interval.saturating_mul(self.burst - 1)
    }
}

impl TaskScheduler for RateScheduler {
    fn room(&self, now: Instant) -> Room {
        let missing = self.full.since(now);
        match missing.checked_sub(self.slack()) {
            None | Some(Duration::ZERO) => Room::Free,
            Some(wait) => Room::At(now + wait),
        }
    }

    fn acquire(&mut self, now: Instant) {
        self.full = self.full.max(now) + self.interval;
    }

    /// The task has begun, which is what counts.
    fn release(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn no_stretch_of_time_has_more_than_its_share_and_none_is_wasted() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let interval = 1 + rng.below(50);
            let burst = 1 + rng.below(5);
            let mut rate = RateScheduler::new(Duration::from_nanos(interval), u32::try_from(burst).unwrap());
            let (mut now, mut begun) = (rng.below(100), Vec::new());
            for _ in 0..200 {
                now += rng.below(2) * rng.below(100);
                match rate.room(Instant::from_nanos(now)) {
                    Room::Free => {}
                    Room::At(at) => {
                        let early = Instant::from_nanos(at.as_nanos() - 1);
                        assert!(matches!(rate.room(early), Room::At(_)), "seed {seed}: free before it said");
                        now = at.as_nanos();
                        assert_eq!(rate.room(at), Room::Free, "seed {seed}: not free when it said");
                        // A slot that had to be waited for came as early as the share allows.
                        let first: u64 = begun[begun.len() - usize::try_from(burst).unwrap().min(begun.len())];
                        assert!(now - first <= burst * interval, "seed {seed}: late");
                    }
                    Room::Full => unreachable!("seed {seed}: a rate is never full"),
                }
                rate.acquire(Instant::from_nanos(now));
                begun.push(now);
            }
            for (from, first) in begun.iter().enumerate() {
                for (to, last) in begun.iter().enumerate().skip(from) {
                    let share = burst + (last - first) / interval;
                    assert!((to - from + 1) as u64 <= share, "seed {seed}: {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn a_rate_of_none_and_a_burst_of_none_count_as_one() {
        let mut rate = RateScheduler::per_second(0, 0);
        rate.acquire(Instant::ZERO);
        assert_eq!(rate.room(Instant::ZERO), Room::At(Instant::ZERO + Duration::from_secs(1)));
    }
}
