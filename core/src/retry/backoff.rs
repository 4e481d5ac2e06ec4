//! How long one call waits before it is tried again: exponential backoff with full jitter.

use core::time::Duration;

use crate::rng::Rng;

/// The shape of the pauses. Every value has a meaning: no field is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Upper end of the first pause. Default 50 ms. Zero tries again at once.
    pub base: Duration,
    /// Upper end of every pause. Default 5 s. Below `base` it wins.
    pub cap: Duration,
    /// Tries of one call in all, the first included. Default 3. Neither 0 nor 1 tries again.
    pub attempts: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { base: Duration::from_millis(50), cap: Duration::from_secs(5), attempts: 3 }
    }
}

impl Config {
    /// The pause after so many pauses: one of [`Backoff`]'s, for a loop that counts by itself and never gives up. It does not
    /// look at `attempts`.
    pub fn pause(&self, pauses: u32, rng: &mut Rng) -> Duration {
        uniform(self.ceiling(pauses), rng)
    }

    /// The longest that the pause after so many can be.
    fn ceiling(&self, pauses: u32) -> Duration {
        let factor = 1u32.checked_shl(pauses).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// The pauses of one call. The n-th (from 0) is uniform in `0 ..= min(cap, base × 2^n)`: the "full jitter" of the AWS
/// Architecture Blog (Brooker, "Exponential Backoff And Jitter", 2015), which spreads callers that failed together best.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backoff {
    config: Config,
    pauses: u32,
}

impl Backoff {
    /// The pauses of a call that has not been tried yet.
    pub const fn new(config: Config) -> Self {
        Self { config, pauses: 0 }
    }

    /// How long to wait after a failed try; `None` if that was the last one.
    pub fn pause(&mut self, rng: &mut Rng) -> Option<Duration> {
        self.pause_after(Duration::ZERO, rng)
    }

    /// As [`Backoff::pause`] for a peer that asks not to be tried again for `at_least`: its wish, at most `cap`, and the
    /// jittered pause on top, so that those it turned away together do not come back together.
    pub fn pause_after(&mut self, at_least: Duration, rng: &mut Rng) -> Option<Duration> {
        if self.pauses.saturating_add(1) >= self.config.attempts {
            return None;
        }
        let jitter = self.config.pause(self.pauses, rng);
        self.pauses += 1;
        let pause = at_least.min(self.config.cap).saturating_add(jitter);
        trace!(retry = self.pauses, pause = ?pause, "waiting before another try");
        Some(pause)
    }

    /// Pauses handed out so far.
    pub const fn pauses(&self) -> u32 {
        self.pauses
    }
}

/// Uniform in `0 ..= most`, in whole nanoseconds.
fn uniform(most: Duration, rng: &mut Rng) -> Duration {
    let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.below(most.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_up_to_the_cap_and_fill_the_whole_range() {
        let config = Config { base: 10 * MILLI, cap: 60 * MILLI, attempts: 50 };
        for (n, ceiling) in [10, 20, 40, 60, 60].into_iter().enumerate() {
            let (mut longest, mut shortest) = (Duration::ZERO, Duration::MAX);
            for seed in 0..500 {
                let (mut backoff, mut rng) = (Backoff::new(config), Rng::new(seed));
                let pause = (0..=n).filter_map(|_| backoff.pause(&mut rng)).last().unwrap();
                longest = longest.max(pause);
                shortest = shortest.min(pause);
            }
            assert!(longest <= ceiling * MILLI, "pause {n}: {longest:?}");
            assert!(longest > ceiling * MILLI * 49 / 50, "pause {n}: {longest:?}");
            assert!(shortest < ceiling * MILLI / 50, "pause {n}: {shortest:?}");
        }
    }

    #[test]
    fn a_call_is_tried_as_often_as_configured() {
        for (attempts, expected) in [(0, 0), (1, 0), (2, 1), (3, 2), (10, 9)] {
            let (mut backoff, mut rng) = (Backoff::new(Config { attempts, ..Config::default() }), Rng::new(1));
            let pauses = core::iter::from_fn(|| backoff.pause(&mut rng)).take(100).count();
            assert_eq!(pauses, expected, "{attempts} attempts");
        }
    }

    #[test]
    fn the_pause_of_a_number_is_the_one_a_call_would_make() {
        let config = Config { base: 10 * MILLI, cap: 60 * MILLI, attempts: u32::MAX };
        let (mut backoff, mut rng, mut same) = (Backoff::new(config), Rng::new(4), Rng::new(4));
        for number in 0..100 {
            assert_eq!(backoff.pause(&mut rng), Some(config.pause(number, &mut same)));
        }
    }

    #[test]
    fn a_peers_wish_is_honoured_up_to_the_cap() {
        let config = Config { base: MILLI, cap: 100 * MILLI, attempts: 9 };
        let mut rng = Rng::new(2);
        let pause = Backoff::new(config).pause_after(30 * MILLI, &mut rng).unwrap();
        assert!((30 * MILLI..=31 * MILLI).contains(&pause), "{pause:?}");
        let pause = Backoff::new(config).pause_after(Duration::MAX, &mut rng).unwrap();
        assert!((100 * MILLI..=101 * MILLI).contains(&pause), "{pause:?}");
    }

    #[test]
    fn extreme_configurations_saturate() {
        let config = Config { base: Duration::MAX, cap: Duration::MAX, attempts: u32::MAX };
        let (mut backoff, mut rng) = (Backoff::new(config), Rng::new(3));
        assert!((0..100).all(|_| backoff.pause(&mut rng).is_some()));
    }
}
