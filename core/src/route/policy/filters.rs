//! Filters that are ready: busy thresholds, a subset of many instances, locality.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::route::eligible::{Ask, Candidate, Eligible};
use crate::route::policy::rank::rank;
use crate::route::policy::scored::Filter;
use crate::time::Instant;

/// Dynamo's busy thresholds: instances that say they are full get no more calls, and if all are the call fails at once. What
/// an instance says are [figures](Candidate::figure) of the names below. Each threshold is off by default, and one that lacks a
/// figure decides nothing.
///
/// | figure | is |
/// |---|---|
/// | `active_decode_blocks`, `kv_used_blocks` | blocks of the key-value cache in use, by either count |
/// | `kv_total_blocks` | blocks that there are |
/// | `active_prefill_tokens` | tokens of prompts that are being read |
/// | `max_num_batched_tokens` | the most of these that one step takes; 10,000,000 if unknown |
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Busy {
    /// Busy if more blocks are in use than so many thousandths of all. Dynamo's `active_decode_blocks_threshold`.
    pub decode_blocks: Option<u32>,
    /// Busy if more tokens than this are being read. Dynamo's `active_prefill_tokens_threshold`.
    pub prefill_tokens: Option<u64>,
    /// Busy if more tokens are being read than so many thousandths of what a step takes. Dynamo's
    /// `active_prefill_tokens_threshold_frac`.
    pub prefill_share: Option<u32>,
}

/// What a step takes if nothing is known, as in Dynamo.
const BATCHED: u64 = 10_000_000;

impl Busy {
    /// Whether any threshold is passed.
    pub fn is_busy(&self, candidate: &Candidate, now: Instant) -> bool {
        let figure = |name| candidate.figure(name, now);
        let reading = |most: u64| figure("active_prefill_tokens").is_some_and(|tokens| tokens > most);
        let part = |of: u64, thousandths: u32| (u128::from(of) * u128::from(thousandths) / 1000) as u64;
        let decodes = self.decode_blocks.is_some_and(|threshold| {
            let total = figure("kv_total_blocks").filter(|total| *total > 0);
            let used = ["active_decode_blocks", "kv_used_blocks"].into_iter().filter_map(figure).max();
            total
                .zip(used)
                .is_some_and(|(total, used)| u128::from(used) * 1000 > u128::from(total) * u128::from(threshold))
        });
        decodes
            || self.prefill_tokens.is_some_and(reading)
            || self
                .prefill_share
                .is_some_and(|share| reading(part(figure("max_num_batched_tokens").unwrap_or(BATCHED), share)))
    }
}

impl Filter for Busy {
    fn keeps(&self, _: &Ask<'_>, candidate: &Candidate, now: Instant) -> bool {
        !self.is_busy(candidate, now)
    }
}

/// Some of many instances, always the same for one caller and others for another: with hundreds of callers and workers not each
/// has a connection to each. Every instance has a rank for the caller, and the highest `size` are kept; one that leaves is
/// replaced by the next, and nothing else changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subset {
    caller: u64,
    size: usize,
    ranks: Vec<u64>,
    /// The lowest rank that is in.
    least: u64,
}

impl Subset {
    /// At most `size` instances for the caller of this number, which is to be another for each; at least one.
    pub const fn new(caller: u64, size: usize) -> Self {
        let size = if size == 0 { 1 } else { size };
        Self { caller, size, ranks: Vec::new(), least: 0 }
    }
}

impl Filter for Subset {
    fn begin(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>) {
        self.ranks.clear();
        // One that is full keeps its place: load is no reason to have a connection more.
        self.ranks.extend(eligible.with_full().iter().map(|(_, candidate)| rank(self.caller, candidate.id.0)));
        self.least = match self.ranks.len().checked_sub(self.size) {
            None | Some(0) => 0,
            Some(out) => *self.ranks.select_nth_unstable(out).1,
        };
    }

    fn keeps(&self, _: &Ask<'_>, candidate: &Candidate, _: Instant) -> bool {
        rank(self.caller, candidate.id.0) >= self.least
    }
}

/// Instances near by as long as they have room: those whose label has the value, unless they have more than so many calls in
/// flight each, on average, or there is none. Then all are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Near {
    label: Box<str>,
    value: Box<str>,
    most: u32,
    overflows: bool,
}

impl Near {
    /// Instances whose `label` is `value`, up to `most` calls of this core each on average.
    pub fn new(label: impl Into<Box<str>>, value: impl Into<Box<str>>, most: u32) -> Self {
        Self { label: label.into(), value: value.into(), most, overflows: true }
    }

    fn is_near(&self, candidate: &Candidate) -> bool {
        candidate.labels.get(&self.label) == Some(&*self.value)
    }
}

impl Filter for Near {
    fn begin(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>) {
        let near = eligible.iter().filter(|(_, candidate)| self.is_near(candidate));
        let (count, calls) = near.fold((0u64, 0u64), |(count, calls), (_, candidate)| {
            (count + 1, calls + u64::from(candidate.calls(eligible.now())))
        });
        self.overflows = calls >= count.saturating_mul(u64::from(self.most));
    }

    fn keeps(&self, _: &Ask<'_>, candidate: &Candidate, _: Instant) -> bool {
        self.overflows || self.is_near(candidate)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::id::InstanceId;
    use crate::rng::Rng;
    use crate::route::eligible::{Room, Slate};
    use crate::route::labels::Labels;
    use crate::route::policy::pick::{NoPick, Pick};
    use crate::route::policy::scored::Scored;
    use crate::route::policy::sticky::{self, Sticky};

    /// Everybody that is picked in a thousand tries, in order of ids.
    fn picked(policy: Scored, candidates: &[Candidate]) -> Vec<u64> {
        let (mut policy, mut rng) = (policy, Rng::new(2));
        let slate = Slate { ask: Ask::default(), candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        let mut seen: Vec<u64> =
            (0..1000).filter_map(|_| policy.pick(&slate, &mut rng).ok()).map(|index| candidates[index].id.0).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    fn candidates(count: u64) -> Vec<Candidate> {
        (0..count).map(|id| Candidate::new(InstanceId(id))).collect()
    }

    #[test]
    fn an_instance_that_passes_a_threshold_is_busy_and_one_that_says_nothing_is_not() {
        let busy = |thresholds: Busy, figures: &[(&str, i64)]| {
            let mut candidate = Candidate::new(InstanceId(1));
            for (name, value) in figures {
                assert!(candidate.set_fact(name, *value, Duration::from_secs(1), Instant::ZERO));
            }
            thresholds.is_busy(&candidate, Instant::ZERO)
        };
        let decode = Busy { decode_blocks: Some(900), ..Busy::default() };
        for (used, total, is_busy) in [(90, 100, false), (91, 100, true), (1, 0, false)] {
            assert_eq!(busy(decode, &[("active_decode_blocks", used), ("kv_total_blocks", total)]), is_busy);
            assert_eq!(busy(decode, &[("kv_used_blocks", used), ("kv_total_blocks", total)]), is_busy);
        }
        assert!(!busy(decode, &[("active_decode_blocks", 1_000)]));
        let tokens = Busy { prefill_tokens: Some(100), ..Busy::default() };
        assert!(busy(tokens, &[("active_prefill_tokens", 101)]) && !busy(tokens, &[("active_prefill_tokens", 100)]));
        let share = Busy { prefill_share: Some(1_500), ..Busy::default() };
        assert!(busy(share, &[("active_prefill_tokens", 16), ("max_num_batched_tokens", 10)]));
        assert!(!busy(share, &[("active_prefill_tokens", 15), ("max_num_batched_tokens", 10)]));
        assert!(!busy(share, &[("active_prefill_tokens", 15_000_000)]));
        assert!(!busy(Busy::default(), &[("active_prefill_tokens", i64::MAX)]));
    }

    #[test]
    fn a_subset_is_the_same_each_time_is_spread_over_callers_and_changes_by_one() {
        let all = candidates(40);
        let mut seen = [0u32; 40];
        for caller in 0..200 {
            let mine = picked(Scored::new().filter(Subset::new(caller, 5)), &all);
            assert_eq!(mine.len(), 5);
            mine.iter().for_each(|id| seen[*id as usize] += 1);
            let less: Vec<_> = all.iter().filter(|candidate| candidate.id.0 != mine[2]).cloned().collect();
            let next = picked(Scored::new().filter(Subset::new(caller, 5)), &less);
            assert_eq!(next.iter().filter(|id| mine.contains(id)).count(), 4, "caller {caller}");
        }
        assert!(seen.iter().all(|callers| (8..50).contains(callers)), "{seen:?}");
        assert_eq!(picked(Scored::new().filter(Subset::new(1, 0)), &all).len(), 1);
        assert_eq!(picked(Scored::new().filter(Subset::new(1, 99)), &all).len(), 40);
    }

    /// What is picked when the ones that are down are so until their number of seconds, by a policy that has decided before.
    fn last_resort(policy: &mut impl Pick, candidates: &mut [Candidate], seconds: &[u64]) -> u64 {
        for (candidate, seconds) in candidates.iter_mut().zip(seconds) {
            candidate.health.inhibit(Instant::ZERO + Duration::from_secs(*seconds));
        }
        let ask = Ask { affinity: Some(1), ..Ask::default() };
        let slate = Slate { ask, candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        let index = policy.pick(&slate, &mut Rng::new(3)).unwrap();
        candidates[index].id.0
    }

    #[test]
    fn the_last_resort_is_near_and_within_the_subset_whatever_the_decision_before_was() {
        let mut all = candidates(4);
        all[1].set_labels(Labels::new([("zone", "a")]));
        all[1].in_flight = 9;
        let mut near = Scored::new().filter(Near::new("zone", "a", 3));
        let slate = Slate { ask: Ask::default(), candidates: &all, allow: &[], avoid: &[], now: Instant::ZERO };
        near.pick(&slate, &mut Rng::new(1)).unwrap();
        all[1].in_flight = 0;
        assert_eq!(last_resort(&mut near, &mut all, &[5, 9, 4, 3]), 1, "the overflow is over");

        let mine = picked(Scored::new().filter(Subset::new(7, 2)), &candidates(20));
        for around in [false, true] {
            let mut all = candidates(20);
            let scored = || Scored::new().filter(Subset::new(7, 2));
            // A decision among few, all of whom were kept.
            let before = candidates(2);
            let few = Slate {
                ask: Ask { affinity: Some(2), ..Ask::default() },
                candidates: &before,
                allow: &[],
                avoid: &[],
                now: Instant::ZERO,
            };
            let seconds: Vec<u64> = (0..20).map(|id| if mine.contains(&id) { 90 } else { 5 }).collect();
            let resort = if around {
                let config = sticky::Config { bond: sticky::Bond::Hard, ..sticky::Config::default() };
                let mut policy = Sticky::new(config, scored());
                policy.pick(&few, &mut Rng::new(1)).unwrap();
                last_resort(&mut policy, &mut all, &seconds)
            } else {
                let mut policy = scored();
                policy.pick(&few, &mut Rng::new(1)).unwrap();
                last_resort(&mut policy, &mut all, &seconds)
            };
            assert!(mine.contains(&resort), "{resort} of {mine:?}, around: {around}");
        }
    }

    #[test]
    fn a_subset_that_is_full_waits_and_takes_no_instance_more() {
        let mut all = candidates(20);
        let mine = picked(Scored::new().filter(Subset::new(7, 2)), &all);
        all.iter_mut().for_each(|one| one.places.recorded(1));
        let mut policy = Scored::new().filter(Subset::new(7, 2));
        let mut pick = |all: &[Candidate]| {
            let ask = Ask { room: Room::Free, ..Ask::default() };
            let slate = Slate { ask, candidates: all, allow: &[], avoid: &[], now: Instant::ZERO };
            policy.pick(&slate, &mut Rng::new(1)).map(|index| all[index].id.0)
        };
        all[mine[0] as usize].in_flight = 1;
        assert_eq!(pick(&all), Ok(mine[1]));
        all[mine[1] as usize].in_flight = 1;
        assert_eq!(pick(&all), Err(NoPick::Full));
    }

    #[test]
    fn calls_stay_near_until_those_are_full() {
        let mut all = candidates(4);
        (0..2).for_each(|place| all[place].set_labels(Labels::new([("zone", "a")])));
        let near = || Scored::new().filter(Near::new("zone", "a", 3));
        assert_eq!(picked(near(), &all), [0, 1]);
        (all[0].in_flight, all[1].in_flight) = (5, 0);
        assert_eq!(picked(near(), &all), [0, 1]);
        all[1].in_flight = 1;
        assert_eq!(picked(near(), &all), [0, 1, 2, 3]);
        assert_eq!(picked(Scored::new().filter(Near::new("zone", "b", 3)), &all), [0, 1, 2, 3], "none is near");
    }
}
