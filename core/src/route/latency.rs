//! How long an instance takes until its first item: an average that rises at once and falls slowly.

use core::time::Duration;

use crate::time::Instant;

/// After this many milliseconds without a sample half of an estimate is left: an average over 10 s, as Finagle's.
const HALF_LIFE: u32 = 6_931;
/// One, and the logarithm of two and what makes it a half at the end, in 65,536ths.
const ONE: u64 = 1 << 16;
const SLOPE: u64 = 45_426;
const CURVE: u64 = SLOPE - ONE / 2;

/// A peak-sensitive average, after Finagle's `PeakEwma`: a sample above it replaces it, one below it counts by the time since
/// the last one. Read without samples it fades, so that an instance that nobody calls is tried again some day. The exponential
/// is a shift and a parabola, right to 1 %. Kept in microseconds; samples that come before one of them has faded can only raise
/// it.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Latency {
    /// 0: no sample yet.
    micros: u32,
    /// When that held, in milliseconds; after 49 days it begins anew, which makes an estimate look fresh once.
    at: u32,
}

impl Latency {
    /// No sample yet.
    pub const UNKNOWN: Self = Self { micros: 0, at: 0 };

    /// An instance took this long. What is beyond 71 minutes counts as that.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let sample = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let now = millis(now);
        if sample >= self.micros {
            *self = Self { micros: sample, at: now };
            return;
        }
        let elapsed = now.wrapping_sub(self.at);
        let kept = faded(self.micros, elapsed);
        if kept < self.micros {
            // What has faded of the old estimate comes in of the sample.
            let gained = sample - faded(sample, elapsed);
            *self = Self { micros: (kept + gained).max(1), at: now };
        }
    }

    /// The estimate in microseconds, at least 1; `None` without a sample.
    pub fn micros(&self, now: Instant) -> Option<u32> {
        (self.micros > 0).then(|| faded(self.micros, millis(now).wrapping_sub(self.at)).max(1))
    }

    /// The estimate; `None` without a sample.
    pub fn estimate(&self, now: Instant) -> Option<Duration> {
        self.micros(now).map(|micros| Duration::from_micros(u64::from(micros)))
    }
}

/// Milliseconds since the epoch, modulo 2^32: 49 days.
pub(super) const fn millis(now: Instant) -> u32 {
    (now.as_nanos() / 1_000_000) as u32
}

/// What is left of `micros` after so many milliseconds.
const fn faded(micros: u32, elapsed: u32) -> u32 {
    let Some(halved) = micros.checked_shr(elapsed / HALF_LIFE) else { return 0 };
    let part = (elapsed % HALF_LIFE) as u64 * ONE / HALF_LIFE as u64;
    let gone = part * (SLOPE - part * CURVE / ONE) / ONE;
    halved - (halved as u64 * gone / ONE) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_slower_sample_counts_at_once_and_a_faster_one_little_by_little() {
        let mut latency = Latency::UNKNOWN;
        assert_eq!(latency.estimate(at(5)), None);
        latency.observe(Duration::from_millis(2), at(5));
        latency.observe(Duration::from_millis(40), at(5));
        assert_eq!(latency.estimate(at(5)), Some(Duration::from_millis(40)));
        latency.observe(Duration::from_millis(2), at(5));
        assert_eq!(latency.micros(at(5)), Some(40_000), "no time has passed");
        let later = at(5 + u64::from(HALF_LIFE));
        latency.observe(Duration::from_millis(2), later);
        assert_eq!(latency.micros(later), Some(21_000), "half of the old one, half of the new one");
    }

    #[test]
    fn an_estimate_that_gets_no_samples_fades_to_the_smallest_there_is() {
        let mut latency = Latency::UNKNOWN;
        latency.observe(Duration::from_secs(8), Instant::ZERO);
        let read = |halves: u64| latency.micros(at(halves * u64::from(HALF_LIFE))).unwrap();
        assert_eq!([read(0), read(1), read(2), read(3)], [8_000_000, 4_000_000, 2_000_000, 1_000_000]);
        assert_eq!((read(40), read(500_000)), (1, 1));
    }

    #[test]
    fn samples_that_come_in_close_succession_are_followed_all_the_same() {
        let mut latency = Latency::UNKNOWN;
        latency.observe(Duration::from_micros(900), Instant::ZERO);
        (1..600_000u64).for_each(|n| latency.observe(Duration::from_micros(100), Instant::from_nanos(n * 100_000)));
        let estimate = latency.micros(at(60_000)).unwrap();
        assert!((100..=104).contains(&estimate), "{estimate}");
    }

    #[test]
    fn it_is_the_published_average_but_for_two_percent() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let (mut latency, mut model, mut now) = (Latency::UNKNOWN, 0.0f64, 0u64);
            for _ in 0..200 {
                let passed = rng.below(3_000);
                now += passed;
                let sample = 1_000 + rng.below(100_000);
                let weight = 0.5f64.powf(passed as f64 / f64::from(HALF_LIFE));
                model =
                    if sample as f64 > model { sample as f64 } else { model * weight + sample as f64 * (1.0 - weight) };
                latency.observe(Duration::from_micros(sample), at(now));
                let estimate = f64::from(latency.micros(at(now)).unwrap());
                assert!((estimate / model - 1.0).abs() < 0.02, "seed {seed}: {estimate} for {model}");
            }
        }
    }

    #[test]
    fn what_takes_for_ever_is_the_longest_there_is() {
        let mut latency = Latency::UNKNOWN;
        latency.observe(Duration::MAX, Instant::ZERO);
        assert_eq!(latency.micros(Instant::ZERO), Some(u32::MAX));
        latency.observe(Duration::ZERO, Instant::FAR);
        assert!(latency.micros(Instant::FAR).is_some());
    }
}
