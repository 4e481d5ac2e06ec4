//! How long a loop waits that has failed so often in a row.

use core::time::Duration;

use crate::rng::Rng;

/// Whether pauses are drawn.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Jitter {
    /// Each pause is as long as it says.
    None,
    /// Each pause is uniform between nothing and that.
    Full,
}

/// Pauses that double. After the n-th error in a row, from 1: `first × 2^min(n - 1, doublings)`, at most `cap`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Pauses {
    /// The pause after the first error. Default 20 ms.
    pub first: Duration,
    /// How often it doubles. Default 7.
    pub doublings: u32,
    /// The longest pause. Default 5 s.
    pub cap: Duration,
    /// Whether pauses are drawn. Default none.
    pub jitter: Jitter,
    /// With a bound, no error is borne that comes this long after the first one in a row, and no pause is longer than half of
    /// what remains of that time or 50 ms. Default `None`.
    pub within: Option<Duration>,
}

/// The shortest pause that a bound in time leaves.
const LEAST: Duration = Duration::from_millis(50);

impl Default for Pauses {
    fn default() -> Self {
        Self::KV_EVENTS
    }
}

impl Pauses {
    /// Those of the KV event listener of Dynamo 1.0 (`min(10 × 2^min(n, 8), 5000)` ms): 20 ms to 2.56 s.
    pub const KV_EVENTS: Self = Self {
        first: Duration::from_millis(20),
        doublings: 7,
        cap: Duration::from_secs(5),
        jitter: Jitter::None,
        within: None,
    };

    /// Those of Dynamo's etcd connector: 500 ms, doubling to 5 s, half of what remains of 10 s at the most, 50 ms at the
    /// least.
    pub const ETCD_CONNECTOR: Self = Self {
        first: Duration::from_millis(500),
        doublings: u32::MAX,
        cap: Duration::from_secs(5),
        jitter: Jitter::None,
        within: Some(Duration::from_secs(10)),
    };

    /// The pause after error number `errors` in a row, which came `since` after the first; `None` when it came too late.
    pub fn pause(&self, errors: u32, since: Duration, rng: &mut Rng) -> Option<Duration> {
        let doublings = errors.saturating_sub(1).min(self.doublings);
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let mut pause = self.first.saturating_mul(factor).min(self.cap);
        if let Some(within) = self.within {
            let remaining = within.checked_sub(since).filter(|remaining| !remaining.is_zero())?;
            pause = pause.min(remaining / 2).max(LEAST);
        }
        Some(match self.jitter {
            Jitter::None => pause,
            Jitter::Full => {
                let most = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
                Duration::from_nanos(rng.below(most.saturating_add(1)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_kv_listeners_pauses_are_those_of_its_formula() {
        let (pauses, mut rng) = (Pauses::KV_EVENTS, Rng::new(1));
        for errors in 1..=9u32 {
            let formula = Duration::from_millis((10u64 << errors.min(8)).min(5000));
            assert_eq!(pauses.pause(errors, Duration::MAX, &mut rng), Some(formula), "error {errors}");
        }
    }

    #[test]
    fn the_etcd_connectors_pauses_are_those_measured() {
        let (mut since, mut rng, mut millis) = (Duration::ZERO, Rng::new(1), Vec::new());
        while let Some(pause) = Pauses::ETCD_CONNECTOR.pause(u32::try_from(millis.len()).unwrap() + 1, since, &mut rng)
        {
            millis.push(pause.as_micros() as f64 / 1000.0);
            since += pause;
        }
        let rounded: Vec<i64> = millis.iter().map(|millis| millis.round() as i64).collect();
        assert_eq!(rounded, [500, 1000, 2000, 3250, 1625, 813, 406, 203, 102, 51, 50, 50]);
        assert_eq!(since.as_millis() / 50, 200, "{since:?}");
    }

    #[test]
    fn drawn_pauses_fill_the_whole_range() {
        let pauses = Pauses { jitter: Jitter::Full, ..Pauses::KV_EVENTS };
        let mut rng = Rng::new(5);
        let drawn: Vec<Duration> = (0..500).filter_map(|_| pauses.pause(1, Duration::ZERO, &mut rng)).collect();
        assert!(drawn.iter().all(|pause| *pause <= pauses.first));
        assert!(drawn.iter().max() > Some(&(pauses.first * 49 / 50)));
        assert!(drawn.iter().min() < Some(&(pauses.first / 50)));
    }
}
