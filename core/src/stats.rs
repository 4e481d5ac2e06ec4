//! Counting: structs of counters that add up across cores, groups of such, and a histogram of fixed size.

use core::fmt;

/// Defines a struct of public `u64` counters. `merge` adds those of another core, `named` yields each with its name, `described`
/// also with its documentation, and `each_mut` yields each to be set, all in the order of definition. A field that is added is in
/// all of them.
///
/// ```
/// ringplane_core::stats::counters! {
///     /// What a queue has seen.
///     pub struct QueueStats {
///         /// Items taken in.
///         pub pushed,
///         /// Items turned away because it was full.
///         pub refused,
///     }
/// }
///
/// let mut total = QueueStats { pushed: 3, refused: 0 };
/// total.merge(&QueueStats { pushed: 4, refused: 1 });
/// assert!(total.named().eq([("pushed", 7), ("refused", 1)]));
/// assert_eq!(total.described().next(), Some(("pushed", "Items taken in.", 7)));
/// ```
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[doc = $doc:literal])+ pub $field:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl $name {
            /// Adds another set of these counters, saturating.
            $vis const fn merge(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)+
            }

            /// Every counter with its name.
            $vis fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((::core::stringify!($field), self.$field)),+].into_iter()
            }

            /// Every counter with its name and its documentation.
            $vis fn described(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
                [$((::core::stringify!($field), ::core::concat!($($doc),+).trim_ascii(), self.$field)),+].into_iter()
            }

            /// Every counter, to be set.
            $vis fn each_mut(&mut self) -> impl Iterator<Item = &mut u64> {
                [$(&mut self.$field),+].into_iter()
            }
        }
    };
}

/// Defines a struct of public structs that [`counters!`] has defined, each one group. `merge` and `each_mut` are those of the
/// groups; `named` yields the name of the group, that of the counter, and its value, `described` also its documentation.
///
/// ```
/// use ringplane_core::stats;
///
/// stats::counters! {
///     /// The calls of one side.
///     pub struct Calls {
///         /// Calls begun.
///         pub begun,
///     }
/// }
///
/// stats::groups! {
///     /// What both sides have counted.
///     pub struct Both {
///         /// The serving side.
///         pub served: Calls,
///         /// The calling side.
///         pub called: Calls,
///     }
/// }
///
/// let mut both = Both::default();
/// both.called.begun = 7;
/// assert!(both.named().eq([("served", "begun", 0), ("called", "begun", 7)]));
/// ```
#[macro_export]
macro_rules! groups {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$doc:meta])* pub $group:ident: $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
        $vis struct $name {
            $($(#[$doc])* pub $group: $type,)+
        }

        impl $name {
            /// Adds another set of these counters, saturating.
            $vis const fn merge(&mut self, other: &Self) {
                $(self.$group.merge(&other.$group);)+
            }

            /// Every counter with its group and its name.
            $vis fn named(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
                let all = ::core::iter::empty();
                $(let all = all.chain(self.$group.named().map(|(name, n)| (::core::stringify!($group), name, n)));)+
                all
            }

            /// Every counter with its group, its name and its documentation.
            $vis fn described(
                &self,
            ) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> + use<> {
                let all = ::core::iter::empty();
                $(
                    let each = self.$group.described();
                    let all = all.chain(each.map(|(name, help, n)| (::core::stringify!($group), name, help, n)));
                )+
                all
            }

            /// Every counter, to be set.
            $vis fn each_mut(&mut self) -> impl Iterator<Item = &mut u64> {
                let all = ::core::iter::empty();
                $(let all = all.chain(self.$group.each_mut());)+
                all
            }
        }
    };
}

pub use {counters, groups};

/// Buckets an octave is split into, as a power of two.
const SPLIT_BITS: u32 = 5;
const SPLIT: usize = 1 << SPLIT_BITS;
const BUCKETS: usize = (64 - SPLIT_BITS as usize + 1) * SPLIT;

/// How often which value occurred, over all of `u64` (durations: nanoseconds), in 15 KiB without allocation.
///
/// Values below 32 are exact. Above, every octave is split into 32 equal buckets and a quantile is the middle of its bucket:
/// off by at most 1/64 (1.6 %) of the value. Count, sum, minimum and maximum are exact.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("min", &self.min())
            .field("p50", &self.quantile(500_000))
            .field("p99", &self.quantile(990_000))
            .field("max", &self.max())
            .finish()
    }
}

impl Histogram {
    /// An empty histogram.
    pub const fn new() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, sum: 0, min: u64::MAX, max: 0 }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(value)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds everything `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Forgets everything.
    pub const fn clear(&mut self) {
        *self = Self::new();
    }

    /// The smallest value that at least `ppm` millionths of all values do not exceed, within the histogram's accuracy:
    /// 500 000 is the median, 999 000 the 99.9th percentile, 0 the minimum, 1 000 000 and more the maximum. `None` if
    /// nothing has been counted.
    pub fn quantile(&self, ppm: u32) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(ppm)).div_ceil(1_000_000);
        if rank >= u128::from(self.count) {
            return self.max();
        }
        if rank == 0 {
            return self.min();
        }
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        })?;
        Some(middle_of(bucket).clamp(self.min, self.max))
    }

    /// Values counted.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value, exact; `None` if nothing has been counted.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The largest value, exact; `None` if nothing has been counted.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The mean, exact, rounded down; `None` if nothing has been counted.
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(u128::from(self.count)).and_then(|mean| u64::try_from(mean).ok())
    }
}

/// Values below `SPLIT` stand for themselves; above, the leading bit selects the octave and the next five the bucket.
const fn bucket_of(value: u64) -> usize {
    if value < SPLIT as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - SPLIT_BITS;
    shift as usize * SPLIT + (value >> shift) as usize
}

const fn middle_of(bucket: usize) -> u64 {
    if bucket < SPLIT {
        return bucket as u64;
    }
    let shift = bucket / SPLIT - 1;
    let low = ((bucket % SPLIT + SPLIT) as u64) << shift;
    low + ((1 << shift) - 1) / 2
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::rng::Rng;

    fn values(seed: u64, count: usize) -> Vec<u64> {
        let mut rng = Rng::new(seed);
        (0..count).map(|_| rng.next_u64() >> rng.below(64)).collect()
    }

    fn histogram(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn every_value_is_within_a_sixty_fourth_of_the_middle_of_its_bucket() {
        let edges = (0..64).flat_map(|bit| [0, 1, 2].map(|step| (1u64 << bit).wrapping_add(step).wrapping_sub(1)));
        for value in edges.chain(values(1, 10_000)).chain([u64::MAX]) {
            let middle = middle_of(bucket_of(value));
            assert!(middle.abs_diff(value) <= value / 64, "{value} is told as {middle}");
        }
    }

    #[test]
    fn buckets_ascend_without_a_gap() {
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(middle_of(bucket)), bucket);
            assert!(bucket == 0 || middle_of(bucket - 1) < middle_of(bucket), "bucket {bucket}");
        }
    }

    #[test]
    fn quantiles_agree_with_sorting() {
        for seed in 0..20 {
            let mut values = values(seed, 1000);
            let histogram = histogram(&values);
            values.sort_unstable();
            for ppm in [0, 1, 1000, 250_000, 500_000, 900_000, 990_000, 999_000, 999_999, 1_000_000, u32::MAX] {
                let rank = (u64::from(ppm) * 1000).div_ceil(1_000_000).clamp(1, 1000);
                let exact = values[usize::try_from(rank).unwrap() - 1];
                let told = histogram.quantile(ppm).unwrap();
                assert!(told.abs_diff(exact) <= exact / 64, "seed {seed}, {ppm} ppm: {told} for {exact}");
            }
            let mean = values.iter().map(|value| u128::from(*value)).sum::<u128>() / 1000;
            assert_eq!(histogram.mean().map(u128::from), Some(mean));
            assert_eq!((histogram.min(), histogram.max()), (values.first().copied(), values.last().copied()));
        }
    }

    #[test]
    fn merging_halves_gives_the_whole() {
        let values = values(3, 1000);
        let mut merged = histogram(&values[..300]);
        merged.merge(&histogram(&values[300..]));
        assert_eq!(merged, histogram(&values));
        merged.merge(&Histogram::new());
        assert_eq!(merged, histogram(&values));
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        let mut empty = histogram(&[4]);
        empty.clear();
        assert_eq!((empty.quantile(500_000), empty.min(), empty.max(), empty.mean()), (None, None, None, None));
    }

    counters! {
        /// Two.
        struct Two {
            /// First.
            pub first,
            /// Second, which takes
            /// two lines.
            pub second,
        }
    }
    groups! {
        /// Four.
        struct Four {
            /// Two of them.
            pub left: Two,
            /// The others.
            pub right: Two,
        }
    }

    #[test]
    fn counters_add_up_field_by_field_and_know_their_names() {
        let mut two = Two { first: 1, second: u64::MAX };
        two.merge(&Two { first: 2, second: 3 });
        assert!(two.named().eq([("first", 3), ("second", u64::MAX)]));
        two.each_mut().for_each(|counter| *counter = 5);
        assert_eq!(two, Two { first: 5, second: 5 });
        assert!(two.described().eq([("first", "First.", 5), ("second", "Second, which takes two lines.", 5)]));
    }

    #[test]
    fn groups_add_up_counter_by_counter_and_name_each_with_its_group() {
        let mut four = Four::default();
        four.each_mut().zip(1..).for_each(|(counter, n)| *counter = n);
        four.merge(&Four { right: Two { first: 10, second: 20 }, ..Four::default() });
        let named = [("left", "first", 1), ("left", "second", 2), ("right", "first", 13), ("right", "second", 24)];
        assert!(four.named().eq(named));
        assert_eq!(four.described().nth(2), Some(("right", "first", "First.", 13)));
    }
}
