//! Whoever has the least to do.

use crate::rng::Rng;
use crate::route::eligible::{Ask, Eligible};
use crate::route::policy::pick::Pick;
use crate::route::policy::sample::least;

/// Picks the instance with the fewest calls in flight, among several by chance: Dynamo's rule. What counts as in flight is what
/// counts for [`PowerOfTwo`](crate::route::policy::power_of_two::PowerOfTwo). Looks at every instance.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct LeastLoaded;

impl Pick for LeastLoaded {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        least(eligible, |candidate| Some(candidate.calls(eligible.now())), rng)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::id::InstanceId;
    use crate::route::eligible::{Candidate, Slate};
    use crate::time::Instant;

    #[test]
    fn the_fewest_calls_in_flight_are_found_and_a_failed_call_counts_as_one() {
        let mut candidates = [1, 2, 3, 4].map(|id| Candidate::new(InstanceId(id)));
        for (candidate, calls) in candidates.iter_mut().zip([1, 2, 1, 0]) {
            candidate.in_flight = calls;
        }
        (0..2).for_each(|_| candidates[3].failed(Duration::ZERO, Duration::from_secs(1), Instant::ZERO));
        let (mut picks, mut rng) = ([0u32; 4], Rng::new(1));
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        (0..1000).for_each(|_| picks[LeastLoaded.pick(&slate, &mut rng).unwrap()] += 1);
        assert!(picks[0].abs_diff(500) < 60 && picks[0] + picks[2] == 1000, "{picks:?}");
        let later = Slate { now: Instant::ZERO + Duration::from_secs(1), ..slate };
        assert_eq!(LeastLoaded.pick(&later, &mut rng), Ok(3));
    }
}
