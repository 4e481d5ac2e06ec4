//! How often what took how long: counted by one thread without a lock, read by any.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::observe::metrics::family::Value;

/// Upper bounds of the buckets, in nanoseconds: 10 µs to 10 min, and what is longer. Those of Dynamo's histograms are among them.
const BOUNDS: [u64; 25] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    30_000_000_000,
    60_000_000_000,
    120_000_000_000,
    300_000_000_000,
    600_000_000_000,
];
const BUCKETS: usize = BOUNDS.len() + 1;

/// Adds to a number that only this thread changes.
pub(super) fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Times as they are counted.
#[derive(Default, Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one. Only one thread may.
    pub(super) fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = self.buckets.get(bucket) {
            add(bucket, 1);
        }
        add(&self.sum, nanos);
    }

    /// As they are now.
    pub(super) fn read(&self) -> Times {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        Times { buckets, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// Times that have been counted.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Times {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Times {
    /// Adds others.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// All of these.
    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |mut sum, times| {
            sum.merge(times);
            sum
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// As they are told, in seconds.
    pub(super) fn value(&self) -> Value {
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e9).chain([f64::INFINITY]);
        Value::Buckets { sum: self.sum as f64 / 1e9, buckets: bounds.zip(self.buckets).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_of_the_first_bound_that_is_not_below_it() {
        let histogram = Histogram::default();
        for time in [0, 10, 11, 600_000_000, 600_000_001] {
            histogram.record(Duration::from_micros(time));
        }
        let Value::Buckets { sum, buckets } = histogram.read().value() else { panic!("a histogram") };
        let filled: Vec<(f64, u64)> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.00001, 2), (0.000025, 1), (600.0, 1), (f64::INFINITY, 1)]);
        assert!((sum - 1_200.000_022).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn bounds_ascend_and_times_add_up() {
        assert!(BOUNDS.is_sorted());
        let histogram = Histogram::default();
        histogram.record(Duration::MAX);
        let mut sum = histogram.read();
        sum.merge(&histogram.read());
        assert_eq!(sum.count(), 2);
    }
}
