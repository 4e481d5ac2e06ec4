//! Everybody in turn, fair while members come and go.

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Eligible};
use crate::route::policy::pick::Pick;

/// Picks the next greater id after the last one picked, from the greatest on to the smallest; the first time anybody, so
/// that callers started together do not march together.
///
/// Fair under any change of membership: seen as a circle of ids, the place of the last pick only moves forward and never
/// jumps over an eligible instance. So between two picks of one instance the circle is covered once, and everybody who was
/// eligible all along is picked exactly once in between. An index counter modulo the number of instances has no such
/// property: each join and leave makes it skip some and repeat others.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct RoundRobin {
    last: Option<InstanceId>,
}

impl RoundRobin {
    /// A round that starts anywhere.
    pub const fn new() -> Self {
        Self { last: None }
    }
}

impl Pick for RoundRobin {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let chosen = match self.last {
            None => eligible.iter().nth(rng.below(eligible.len() as u64) as usize),
            Some(last) => eligible.iter().min_by_key(|(_, candidate)| (candidate.id <= last, candidate.id)),
        };
        let (index, candidate) = chosen?;
        self.last = Some(candidate.id);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::route::eligible::{Candidate, Slate};
    use crate::time::Instant;

    fn next(policy: &mut RoundRobin, ids: &[u64], rng: &mut Rng) -> u64 {
        let candidates: Vec<_> = ids.iter().map(|id| Candidate::new(InstanceId(*id))).collect();
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        ids[policy.pick(&slate, rng).unwrap()]
    }

    #[test]
    fn a_round_goes_up_the_ids_and_starts_again_whatever_the_order_of_the_slate() {
        let (mut policy, mut rng) = (RoundRobin { last: Some(InstanceId(5)) }, Rng::new(1));
        let round: Vec<_> = (0..7).map(|_| next(&mut policy, &[9, 2, 7], &mut rng)).collect();
        assert_eq!(round, [7, 9, 2, 7, 9, 2, 7]);
    }

    #[test]
    fn the_first_pick_is_anybody() {
        let mut firsts: Vec<_> =
            (0..50).map(|seed| next(&mut RoundRobin::new(), &[1, 2, 3], &mut Rng::new(seed))).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts, [1, 2, 3]);
    }

    #[test]
    fn between_two_picks_of_one_instance_every_lasting_member_is_picked_exactly_once() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut policy = RoundRobin::new();
            // Members 0, 10, .. 90 stay all along; those in between come and go before every pick.
            let mut since = [None::<[u32; 10]>; 10];
            for step in 0..500 {
                let mut ids: Vec<u64> = (0..10).map(|n| n * 10).collect();
                ids.extend((0..rng.below(8)).map(|_| rng.below(100)).filter(|id| !id.is_multiple_of(10)));
                ids.sort_unstable();
                ids.dedup();
                let picked = next(&mut policy, &ids, &mut rng);
                if !picked.is_multiple_of(10) {
                    continue;
                }
                let picked = usize::try_from(picked / 10).unwrap();
                since.iter_mut().flatten().for_each(|counts| counts[picked] += 1);
                if let Some(counts) = since[picked] {
                    assert_eq!(counts, [1; 10], "seed {seed} step {step} member {picked}");
                }
                since[picked] = Some([0; 10]);
            }
            assert!(since.iter().all(Option::is_some), "seed {seed}: somebody starved");
        }
    }
}
