//! What is to be measured, and what came out: counts and latencies inside a window of time.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::usage::Usage;

/// How long to run, and how closely to look.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Before the window opens.
    pub warmup: Duration,
    /// How long it is open.
    pub measure: Duration,
    /// Check mode: so many calls, with no warm-up and no end by time, and every byte of both directions compared.
    /// Otherwise lengths and counts of all calls and the bytes of some are.
    pub check: Option<u64>,
}

/// What a load has measured.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Seconds the window was open.
    pub seconds: f64,
    /// Calls that ended well in the window.
    pub calls: u64,
    /// Items that came in the window.
    pub items: u64,
    /// Bytes of items that came and of the requests of calls that ended in the window.
    pub bytes: u64,
    /// The same of background calls.
    pub background_bytes: u64,
    /// Calls that failed, ever.
    pub failures: u64,
    /// How the first of them failed.
    pub failure: Option<String>,
    /// Nanoseconds from a call's start to its end; open loop: from when it was due.
    pub call: Latencies,
    /// Nanoseconds from a call's start to its first item.
    pub first: Latencies,
    /// Nanoseconds by which the time between two paced items missed the gap, corrected for coordinated omission.
    pub gap: Latencies,
    /// What the load's process used in the window.
    pub usage: Usage,
}

/// A histogram as pairs of a value and how often it occurred.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latencies(pub Vec<(u64, u64)>);

impl Latencies {
    /// As a histogram again.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = fresh();
        self.0.iter().for_each(|&(value, count)| histogram.saturating_record_n(value, count));
        histogram
    }

    /// Whether nothing was recorded.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&Histogram<u64>> for Latencies {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }
}

/// 1 ns to 100 s with three digits.
pub(crate) fn fresh() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_its_journey_as_pairs() {
        let mut histogram = fresh();
        [1, 1000, 1000, 123_456_789].into_iter().for_each(|value| histogram.record(value).unwrap());
        assert_eq!(Latencies::from(&histogram).histogram(), histogram);
    }
}
