//! One key, one instance, as long as that is not overloaded.

use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Eligible};
use crate::route::policy::pick::Pick;
use crate::route::policy::power_of_two::PowerOfTwo;
use crate::route::policy::rank::rank;

/// Picks by [`Ask::affinity`]: calls with the same key meet at the same instance on every caller, without a table. A key moves only
/// if its instance leaves or is overloaded, and the keys of one that left spread over all others.
///
/// Every instance has a rank for the key, a hash of both, and the highest rank is picked: rendezvous hashing (Thaler and
/// Ravishankar 1998), which does what a ring of hashes does without keeping one, and spreads more evenly. Loads are bounded
/// (Mirrokni, Thorup and Zadimoghaddam 2018): an instance that has more than [`bound`](Self::bound) of the average in flight is
/// passed over, for the next rank. Looks at every instance. A call without a key is picked for as by [`PowerOfTwo`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RingHash {
    /// Calls in flight at one instance, this one included, that are at most as many percent of the average, rounded up. Default
    /// 125. Below 100 it counts as 100.
    pub bound: u32,
}

impl Default for RingHash {
    fn default() -> Self {
        Self { bound: 125 }
    }
}

impl Pick for RingHash {
    fn choose(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let Some(key) = ask.affinity else { return PowerOfTwo.choose(ask, eligible, rng) };
        let now = eligible.now();
        let (count, calls) = eligible
            .iter()
            .fold((0u64, 1u64), |(count, calls), (_, candidate)| (count + 1, calls + u64::from(candidate.calls(now))));
        let most = calls.saturating_mul(u64::from(self.bound.max(100))).div_ceil(count.max(1) * 100);
        let has_room = |candidate: &Candidate| u64::from(candidate.calls(now)) < most;
        let roomy = eligible.iter().filter(|(_, candidate)| has_room(candidate));
        roomy.max_by_key(|(_, candidate)| rank(key, candidate.id.0)).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::id::InstanceId;
    use crate::route::eligible::Slate;
    use crate::time::Instant;

    fn candidates(ids: impl IntoIterator<Item = u64>) -> Vec<Candidate> {
        ids.into_iter().map(|id| Candidate::new(InstanceId(id))).collect()
    }

    fn pick(candidates: &[Candidate], affinity: Option<u64>) -> u64 {
        let ask = Ask { affinity, ..Ask::default() };
        let slate = Slate { ask, candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        candidates[RingHash::default().pick(&slate, &mut Rng::new(1)).unwrap()].id.0
    }

    #[test]
    fn keys_spread_evenly_and_only_those_of_one_that_leaves_move() {
        let (all, less) = (candidates(0..10), candidates((0..10).filter(|id| *id != 3)));
        let (mut seen, mut moved) = ([0u32; 10], [0u32; 10]);
        for key in 0..20_000 {
            let home = pick(&all, Some(key));
            seen[home as usize] += 1;
            let next = pick(&less, Some(key));
            if home == 3 {
                moved[next as usize] += 1;
            } else {
                assert_eq!(next, home, "key {key}");
            }
        }
        assert!(seen.iter().all(|keys| (1_800..2_200).contains(keys)), "{seen:?}");
        assert!(moved.iter().enumerate().all(|(id, keys)| id == 3 || *keys > 150), "{moved:?}");
    }

    #[test]
    fn one_key_does_not_overload_its_instance() {
        let mut candidates = candidates(0..4);
        for calls in 1..=100u32 {
            let home = pick(&candidates, Some(7)) as usize;
            candidates[home].in_flight += 1;
            let most = (calls * 125).div_ceil(400);
            assert!(candidates.iter().all(|candidate| candidate.in_flight <= most), "after {calls}");
        }
        assert!(candidates.iter().all(|candidate| candidate.in_flight > 0));
    }

    #[test]
    fn a_call_without_a_key_goes_to_the_less_loaded() {
        let mut candidates = candidates(0..2);
        candidates[0].in_flight = 1;
        assert_eq!(pick(&candidates, None), 1);
    }
}
