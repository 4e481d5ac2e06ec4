//! The less loaded of two.

use crate::rng::Rng;
use crate::route::eligible::{Ask, Eligible};
use crate::route::policy::pick::Pick;
use crate::route::policy::sample::two;

/// Draws two different instances by chance and picks the one with fewer calls in flight, the first if both have as many: Dynamo's
/// rule. Calls in flight are those of this core; one that failed counts on for the [penalty](crate::route::penalty)'s time, which
/// Dynamo's does not. Costs the same for any number of instances, and callers that see the same loads do not all run to one
/// instance (Mitzenmacher 2001).
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct PowerOfTwo;

impl Pick for PowerOfTwo {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let (first, second) = two(eligible, rng)?;
        let load = |index| eligible.at(index).map(|candidate| candidate.calls(eligible.now()));
        Some(if load(first) <= load(second) { first } else { second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::InstanceId;
    use crate::route::eligible::{Candidate, Slate};
    use crate::time::Instant;

    #[test]
    fn of_two_the_one_with_fewer_calls_is_picked_and_the_most_loaded_of_three_never() {
        let mut candidates = [1, 2, 3].map(|id| Candidate::new(InstanceId(id)));
        (candidates[0].in_flight, candidates[1].in_flight) = (7, 2);
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        let (mut picks, mut rng) = ([0u32; 3], Rng::new(1));
        (0..30_000).for_each(|_| picks[PowerOfTwo.pick(&slate, &mut rng).unwrap()] += 1);
        // Two of three pairs have the idle one, the third has the other two.
        assert!(picks[0] == 0 && (9_500..10_500).contains(&picks[1]), "{picks:?}");
        assert_eq!(PowerOfTwo.pick(&Slate { candidates: &candidates[..1], ..slate }, &mut rng), Ok(0));
    }
}
