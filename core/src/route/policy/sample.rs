//! Eligible candidates by chance, without a look at the others.

use crate::rng::Rng;
use crate::route::eligible::{Candidate, Eligible};

/// How often a place is drawn before those that are eligible are counted.
const DRAWS: usize = 8;

/// The index of an eligible candidate other than `besides`, each as likely as any other; `None` if there is no other. Costs a few
/// numbers as long as a fair part of all candidates is eligible.
pub(super) fn sample(eligible: &Eligible<'_>, besides: Option<usize>, rng: &mut Rng) -> Option<usize> {
    let places = eligible.places();
    if places > 1 {
        for _ in 0..DRAWS {
            let index = rng.below(places as u64) as usize;
            if Some(index) != besides && eligible.at(index).is_some() {
                return Some(index);
            }
        }
    }
    let others = || eligible.iter().map(|(index, _)| index).filter(|index| Some(*index) != besides);
    let chosen = rng.below(others().count() as u64);
    others().nth(chosen as usize)
}

/// Two different eligible candidates by chance, or one twice if there is no other.
pub(super) fn two(eligible: &Eligible<'_>, rng: &mut Rng) -> Option<(usize, usize)> {
    let first = sample(eligible, None, rng)?;
    Some((first, sample(eligible, Some(first), rng).unwrap_or(first)))
}

/// The index of one with the least of `key`; among several each is as likely as any other. One without a key is left out.
pub(super) fn least<K: Ord>(
    eligible: &Eligible<'_>,
    key: impl Fn(&Candidate) -> Option<K>,
    rng: &mut Rng,
) -> Option<usize> {
    let keyed = || eligible.iter().filter_map(|(index, candidate)| Some((key(candidate)?, index)));
    let (mut best, mut alike) = (None, 0u64);
    for (key, index) in keyed() {
        match &best {
            Some((least, _)) if key > *least => {}
            Some((least, _)) if key == *least => alike += 1,
            _ => (best, alike) = (Some((key, index)), 1),
        }
    }
    let (least, first) = best?;
    if alike == 1 {
        return Some(first);
    }
    let chosen = rng.below(alike) as usize;
    keyed().filter(|(key, _)| *key == least).nth(chosen).map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::id::InstanceId;
    use crate::route::eligible::Group;
    use crate::route::eligible::{Ask, Slate};
    use crate::time::Instant;

    /// How often each of `count` instances is drawn, all but the first `tried` of them tried already.
    fn drawn(count: u64, tried: u64, mut draw: impl FnMut(&Eligible<'_>, &mut Rng) -> Option<usize>) -> Vec<u32> {
        let candidates: Vec<_> = (0..count).map(|id| Candidate::new(InstanceId(id))).collect();
        let avoid: Vec<_> = (tried..count).map(InstanceId).collect();
        let slate =
            Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &avoid, now: Instant::ZERO };
        let (eligible, mut rng) = (Eligible::new(slate, Group::Fresh), Rng::new(3));
        let mut seen = std::vec![0; candidates.len()];
        (0..30_000).for_each(|_| seen[draw(&eligible, &mut rng).unwrap()] += 1);
        seen
    }

    #[test]
    fn every_eligible_candidate_is_as_likely_be_they_many_or_few() {
        for (count, tried) in [(3, 3), (100, 3)] {
            let seen = drawn(count, tried, |eligible, rng| sample(eligible, None, rng));
            assert!(seen[..3].iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
            let seen = drawn(count, tried, |eligible, rng| sample(eligible, Some(1), rng));
            assert!(seen[1] == 0 && (14_500..15_500).contains(&seen[0]), "{seen:?}");
        }
    }

    #[test]
    fn two_are_different_where_there_are_two() {
        let apart = |pair: &(usize, usize)| matches!(pair, (0, 1) | (1, 0));
        drawn(5, 2, |eligible, rng| two(eligible, rng).filter(apart).map(|(first, _)| first));
        drawn(5, 1, |eligible, rng| two(eligible, rng).filter(|pair| *pair == (0, 0)).map(|(first, _)| first));
    }

    #[test]
    fn of_the_least_each_is_as_likely_and_one_without_a_key_is_left_out() {
        let key = |candidate: &Candidate| [Some(2), Some(1), None, Some(1)].get(candidate.id.0 as usize).copied()?;
        let seen = drawn(4, 4, |eligible, rng| least(eligible, key, rng));
        assert!(seen[0] == 0 && seen[2] == 0 && (14_500..15_500).contains(&seen[1]), "{seen:?}");
    }
}
