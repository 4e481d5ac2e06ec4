//! Shares by weight, less what is being done already.

use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Eligible};
use crate::route::policy::pick::Pick;
use crate::time::Instant;

/// Picks by chance, each instance as likely as its share says: `weight / (calls in flight + 1)`, as Envoy's least requests does with
/// weights. The weight is that of [`Candidate`], 1 unless something says otherwise; an instance of weight 0 is picked
/// only if all have that. What counts as in flight is what counts for
/// [`PowerOfTwo`](crate::route::policy::power_of_two::PowerOfTwo). Looks at every instance.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Weighted;

impl Pick for Weighted {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let shares = || eligible.iter().map(|(index, candidate)| (index, share(candidate, eligible.now())));
        let total: u64 = shares().map(|(_, share)| share).sum();
        if total == 0 {
            return eligible.nth(rng.below(eligible.len() as u64) as usize);
        }
        let mut left = rng.below(total);
        for (index, share) in shares() {
            match left.checked_sub(share) {
                Some(rest) => left = rest,
                None => return Some(index),
            }
        }
        None
    }
}

/// The share of an instance, in 65,536ths of a weight of 1; less than 2^32, so that those of all instances can be added up.
fn share(candidate: &Candidate, now: Instant) -> u64 {
    let whole = u64::from(candidate.weight) << 16;
    match candidate.calls(now) {
        0 => whole,
        // The least share of one that has a weight at all, or it would get nothing for ever.
        load => (whole / (u64::from(load) + 1)).max(u64::from(candidate.weight > 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::InstanceId;
    use crate::route::eligible::Slate;

    /// How often each is picked in 60,000 tries.
    fn picks(weights: [u16; 3], in_flight: [u32; 3]) -> [u32; 3] {
        let mut candidates = [1, 2, 3].map(|id| Candidate::new(InstanceId(id)));
        for ((candidate, weight), calls) in candidates.iter_mut().zip(weights).zip(in_flight) {
            (candidate.weight, candidate.in_flight) = (weight, calls);
        }
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        let (mut picks, mut rng) = ([0; 3], Rng::new(5));
        (0..60_000).for_each(|_| picks[Weighted.pick(&slate, &mut rng).unwrap()] += 1);
        picks
    }

    fn about(picks: [u32; 3], expected: [u32; 3]) -> bool {
        picks.iter().zip(expected).all(|(picked, expected)| picked.abs_diff(expected) <= 600)
    }

    #[test]
    fn shares_follow_weights_and_calls_in_flight() {
        for (weights, in_flight, expected) in [
            ([1, 1, 1], [0, 0, 0], [20_000, 20_000, 20_000]),
            ([1, 2, 3], [0, 0, 0], [10_000, 20_000, 30_000]),
            ([1, 2, 3], [0, 1, 2], [20_000, 20_000, 20_000]),
            ([0, 1, 2], [0, 0, 0], [0, 20_000, 40_000]),
            ([0, 0, 0], [0, 9, 0], [20_000, 20_000, 20_000]),
            ([0, 1, 1], [0, u32::MAX, u32::MAX], [0, 30_000, 30_000]),
        ] {
            let picks = picks(weights, in_flight);
            assert!(about(picks, expected), "{weights:?} {in_flight:?}: {picks:?}");
        }
    }
}
