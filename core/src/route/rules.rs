//! The rules by which the health of instances is judged, and their constants.

use core::time::Duration;

use crate::rng::Rng;

/// How health is judged. Every value has a meaning: no field is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The first mark of an instance that was lost, and its first ejection. Default 1 s. Zero switches both off.
    pub base: Duration,
    /// The longest mark. Default 30 s. Below `base` it wins.
    pub cap: Duration,
    /// How much a mark is made longer or shorter by chance, in percent of it, so that callers do not come back together.
    /// Default 20. More than 100 counts as 100.
    pub jitter: u8,
    /// Tries in a row in which an instance was silent that eject it. Default 3; 0: never.
    pub silences: u8,
    /// How often the instances are compared; also the time in health for which one of its marks is forgotten. Default 10 s.
    /// Zero switches comparing off and forgets all marks at once.
    pub interval: Duration,
    /// Tries at an instance within an interval that are enough to compare it. Default 100.
    pub min_tries: u32,
    /// Instances with that many tries that are enough to compare them. Default 5.
    pub min_compared: u32,
    /// How far below the mean an instance's share of tries that were not lost has to be to eject it, in tenths of a standard
    /// deviation. Default 19.
    pub deviations: u32,
    /// The most instances of an endpoint that are ejected, in percent; never half of them, but always one. Default 50.
    pub max_ejected: u8,
    /// The share of instances that are neither lost nor ejected, in percent, below which nobody is ejected and those that are
    /// are not avoided any more. Default 50; 0: never.
    pub panic: u8,
    /// How long others are preferred to an instance that has no room and names no time. Default 1 s, as in Dynamo.
    pub lease: Duration,
    /// The longest that an instance can ask for. Default 30 s.
    pub lease_cap: Duration,
    /// How long others are preferred to an instance that takes no new calls, before one call asks again. Default 5 s.
    pub leaving: Duration,
    /// For how long an instance that comes back after more than one mark, or was ejected, gets fewer calls than the others: a
    /// tenth of them at first. Default 10 s, at most 655 s. Zero gives it all of them at once.
    pub slow_start: Duration,
    /// Dynamo's rule in place of the one above: what is lost or silent is out until this long after the first such event, or
    /// until any instance joins or leaves; without growth, probes, comparing and slow start. Zero: nothing is ever out.
    /// Default none.
    pub inhibited: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Config {
    pub(super) const DEFAULT: Self = Self {
        base: Duration::from_secs(1),
        cap: Duration::from_secs(30),
        jitter: 20,
        silences: 3,
        interval: Duration::from_secs(10),
        min_tries: 100,
        min_compared: 5,
        deviations: 19,
        max_ejected: 50,
        panic: 50,
        lease: Duration::from_secs(1),
        lease_cap: Duration::from_secs(30),
        leaving: Duration::from_secs(5),
        slow_start: Duration::from_secs(10),
        inhibited: None,
    };
}

/// The share of tries that were not lost, in millionths, from which on an instance is not ejected whatever others do: among
/// instances that hardly lose anything a single loss would be far from the mean.
const GOOD_ENOUGH: u64 = 950_000;

impl Config {
    /// How long a mark lasts after this many of them.
    pub(super) fn term(&self, strikes: u8) -> Duration {
        let factor = 1u32.checked_shl(u32::from(strikes).saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The term, longer or shorter by chance.
    pub(super) fn jittered(&self, term: Duration, rng: &mut Rng) -> Duration {
        let nanos = u64::try_from(term.as_nanos()).unwrap_or(u64::MAX);
        let reach = nanos / 100 * u64::from(self.jitter.min(100));
        if reach == 0 {
            return term;
        }
        let drawn = rng.below(reach.saturating_mul(2).saturating_add(1));
        Duration::from_nanos((nanos - reach).saturating_add(drawn))
    }

    /// How many marks this long in health makes forgotten.
    pub(super) fn forgiven(&self, healthy: Duration) -> u8 {
        let intervals = healthy.as_nanos().checked_div(self.interval.as_nanos());
        intervals.map_or(u8::MAX, |intervals| u8::try_from(intervals).unwrap_or(u8::MAX))
    }

    /// The most of this many instances that may be ejected.
    pub fn most_ejected(&self, instances: usize) -> usize {
        let share = instances.saturating_mul(usize::from(self.max_ejected)) / 100;
        share.min(instances.saturating_sub(1) / 2).max(1)
    }

    /// Whether so few of this many are in health that health is not to be trusted.
    pub fn panics(&self, instances: usize, healthy: usize) -> bool {
        healthy.saturating_mul(100) < instances.saturating_mul(usize::from(self.panic))
    }

    /// The share of tries that were not lost below which an instance is ejected, in millionths; `None` if there is too little
    /// to compare. `shares` are those of all instances that were tried often enough.
    pub fn threshold(&self, shares: impl Iterator<Item = u64> + Clone) -> Option<u64> {
        let (count, sum) = shares.clone().fold((0u64, 0u64), |(count, sum), share| (count + 1, sum + share));
        if count == 0 || count < u64::from(self.min_compared) {
            return None;
        }
        let mean = sum / count;
        let variance = shares.map(|share| share.abs_diff(mean).pow(2)).fold(0u64, u64::saturating_add) / count;
        let distance = variance.isqrt().saturating_mul(u64::from(self.deviations)) / 10;
        Some(mean.saturating_sub(distance).min(GOOD_ENOUGH))
    }
}
