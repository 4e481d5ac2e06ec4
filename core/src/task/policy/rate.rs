//! A part of what ended lately may have failed, no more.

use alloc::boxed::Box;
use core::time::Duration;

use crate::task::policy::on_error::{Failure, OnErrorPolicy, Verdict};
use crate::time::Instant;

/// How large a part of the tasks that ended lately may have failed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Failures for a thousand tasks that ended; more cancel the tracker. Default 500. From 1000 on nothing is too much.
    pub max_failures_per_mille: u32,
    /// How long a task that has ended counts. Default 60 s. It is counted in 32 slices, so that a task counts for at least
    /// 31/32 of this time and for no more than all of it.
    pub window: Duration,
    /// Tasks that must have ended in the window before the rate means anything. Default 10; 0 counts as 1.
    pub min_samples: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self { max_failures_per_mille: 500, window: Duration::from_secs(60), min_samples: 10 }
    }
}

/// Parts that the window is counted in.
const SLICES: u64 = 32;

/// Cancels the tracker at the first task whose end makes the rate of failures in the window too high. That may be the end
/// of one that succeeded: with it there are enough samples, or older successes have left the window meanwhile.
///
/// ```
/// use ringplane_core::task::policy::{Failure, OnErrorPolicy, Rate, RateCancelPolicy, Verdict};
/// use ringplane_core::time::Instant;
///
/// let rate = Rate { max_failures_per_mille: 250, min_samples: 4, ..Rate::default() };
/// let mut policy = RateCancelPolicy::new(rate);
/// for _ in 0..3 {
///     assert_eq!(policy.on_success(Instant::ZERO), Verdict::GoOn);
/// }
/// let failure = Failure { text: &"no route", attempt: 1, panicked: false, now: Instant::ZERO };
/// assert_eq!(policy.on_error(&failure), Verdict::GoOn, "one of four is a quarter, not more");
/// assert_eq!(policy.on_error(&failure), Verdict::Shutdown);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateCancelPolicy {
    rate: Rate,
    slices: [Slice; SLICES as usize],
    /// The latest slice that has counted anything: clocks of several threads may be read in another order than they count.
    latest: u64,
}

/// What ended in one part of the window.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
struct Slice {
    number: u64,
    ended: u32,
    failed: u32,
}

impl RateCancelPolicy {
    /// Nothing has ended yet.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, slices: [Slice { number: 0, ended: 0, failed: 0 }; SLICES as usize], latest: 0 }
    }

    fn count(&mut self, failed: bool, now: Instant) -> Verdict {
        let width = u64::try_from(self.rate.window.as_nanos()).unwrap_or(u64::MAX) / SLICES;
        self.latest = self.latest.max(now.as_nanos() / width.max(1));
        let here = usize::try_from(self.latest % SLICES).unwrap_or_default();
        if let Some(slice) = self.slices.get_mut(here) {
            if slice.number != self.latest {
                *slice = Slice { number: self.latest, ..Slice::default() };
            }
            slice.ended = slice.ended.saturating_add(1);
            slice.failed = slice.failed.saturating_add(u32::from(failed));
        }
        let (mut ended, mut failed) = (0u64, 0u64);
        for slice in self.slices.iter().filter(|slice| self.latest - slice.number < SLICES) {
            ended += u64::from(slice.ended);
            failed += u64::from(slice.failed);
        }
        let enough = ended >= u64::from(self.rate.min_samples);
        if enough && failed * 1000 > ended * u64::from(self.rate.max_failures_per_mille) {
            return Verdict::Shutdown;
        }
        Verdict::GoOn
    }
}

impl OnErrorPolicy for RateCancelPolicy {
    fn create_child(&self) -> Box<dyn OnErrorPolicy> {
        Box::new(Self::new(self.rate))
    }

    fn on_error(&mut self, failure: &Failure<'_>) -> Verdict {
        self.count(true, failure.now)
    }

    fn on_success(&mut self, now: Instant) -> Verdict {
        self.count(false, now)
    }

    fn watches_successes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::rng::Rng;

    /// The rule by counting everything anew: what a sample at this time must lead to.
    fn breaks(rate: Rate, samples: &[(u64, bool)]) -> bool {
        let width = u64::try_from(rate.window.as_nanos()).unwrap() / SLICES;
        let latest = samples.last().unwrap().0 / width;
        let inside: Vec<bool> =
            samples.iter().filter(|(at, _)| at / width + SLICES > latest).map(|(_, failed)| *failed).collect();
        let failed = inside.iter().filter(|failed| **failed).count() as u64;
        let many = inside.len() as u64 >= u64::from(rate.min_samples);
        many && failed * 1000 > inside.len() as u64 * u64::from(rate.max_failures_per_mille)
    }

    #[test]
    fn it_fires_at_the_first_sample_that_breaks_the_rate_and_at_none_before() {
        let (mut by_success, mut by_failure, mut never) = (0, 0, 0);
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let rate = Rate {
                max_failures_per_mille: u32::try_from(rng.below(900)).unwrap() + 50,
                window: Duration::from_nanos(32 * (1 + rng.below(1000))),
                min_samples: u32::try_from(rng.below(20)).unwrap(),
            };
            let (mut policy, mut samples, mut now) = (RateCancelPolicy::new(rate), Vec::new(), 0);
            let (failing, pause) = (rng.below(10), 1 + rng.below(4000));
            let fired = (0..300).find(|number| {
                now += rng.below(pause);
                let failed = rng.below(10) < failing;
                samples.push((now, failed));
                let verdict = policy.count(failed, Instant::from_nanos(now));
                assert_eq!(verdict == Verdict::Shutdown, breaks(rate, &samples), "seed {seed}, sample {number}");
                verdict == Verdict::Shutdown
            });
            match (fired, samples.last().unwrap().1) {
                (None, _) => never += 1,
                (Some(_), true) => by_failure += 1,
                (Some(_), false) => by_success += 1,
            }
        }
        assert!(by_success > 20 && by_failure > 200 && never > 200, "{by_success} {by_failure} {never}");
    }

    #[test]
    fn what_has_left_the_window_does_not_count_and_a_clock_that_lags_counts_now() {
        let rate = Rate { max_failures_per_mille: 400, window: Duration::from_nanos(3200), min_samples: 2 };
        let mut policy = RateCancelPolicy::new(rate);
        let at = Instant::from_nanos;
        assert_eq!(policy.count(true, at(0)), Verdict::GoOn);
        assert_eq!(policy.count(false, at(3200)), Verdict::GoOn, "alone in the window");
        assert_eq!(policy.count(true, at(50)), Verdict::Shutdown, "it ended now, whatever its clock says");
    }

    #[test]
    fn a_window_of_nothing_and_one_of_ever_count_without_a_panic() {
        for window in [Duration::ZERO, Duration::MAX] {
            let mut policy = RateCancelPolicy::new(Rate { window, min_samples: 0, ..Rate::default() });
            assert_eq!(policy.count(false, Instant::ZERO), Verdict::GoOn);
            assert_eq!(policy.count(true, Instant::FAR), Verdict::Shutdown, "{window:?}");
        }
    }
}
