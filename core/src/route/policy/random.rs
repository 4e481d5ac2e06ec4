//! Everybody alike, by chance.

use crate::rng::Rng;
use crate::route::eligible::{Ask, Eligible};
use crate::route::policy::pick::Pick;

/// Picks uniformly.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Random;

impl Pick for Random {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let n = rng.below(eligible.len() as u64);
        eligible.nth(n as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::InstanceId;
    use crate::route::eligible::{Candidate, Slate};
    use crate::time::Instant;

    #[test]
    fn everybody_is_picked_about_equally_often() {
        let candidates = [1, 2, 3, 4, 5, 6, 7].map(|id| Candidate::new(InstanceId(id)));
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        let mut rng = Rng::new(42);
        let mut picks = [0u32; 7];
        for _ in 0..70_000 {
            picks[Random.pick(&slate, &mut rng).unwrap()] += 1;
        }
        assert!(picks.iter().all(|count| (9_600..10_400).contains(count)), "{picks:?}");
    }
}
