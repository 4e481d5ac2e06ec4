//! One named instance or nobody.

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Eligible, Slate};
use crate::route::policy::pick::{NoPick, Pick};

/// Picks the named instance as long as it exists, whatever is suspected of it and however often it was tried: the caller has
/// decided.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Direct(pub InstanceId);

impl Pick for Direct {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, _: &mut Rng) -> Option<usize> {
        eligible.iter().find(|(_, candidate)| candidate.id == self.0).map(|(index, _)| index)
    }

    /// As named.
    ///
    /// # Errors
    /// [`NoPick::Absent`] if the instance does not exist.
    fn pick(&mut self, slate: &Slate<'_>, _: &mut Rng) -> Result<usize, NoPick> {
        let found = slate.candidates.iter().position(|candidate| candidate.id == self.0 && slate.allows(self.0));
        found.ok_or(NoPick::Absent { id: self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::eligible::Candidate;
    use crate::route::rules::Config;
    use crate::time::Instant;

    #[test]
    fn the_named_instance_is_picked_even_when_down_and_tried_and_nobody_stands_in_for_it() {
        let mut candidates = [InstanceId(1), InstanceId(2)].map(Candidate::new);
        let mut rng = Rng::new(1);
        candidates[1].health.lost(Instant::ZERO, &Config::default(), &mut rng);
        let (avoid, now) = (&[InstanceId(2)], Instant::ZERO);
        let mut slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid, now };
        assert_eq!(Direct(InstanceId(2)).pick(&slate, &mut rng), Ok(1));
        assert_eq!(Direct(InstanceId(3)).pick(&slate, &mut rng), Err(NoPick::Absent { id: InstanceId(3) }));
        slate.allow = &[InstanceId(1)];
        assert_eq!(Direct(InstanceId(2)).pick(&slate, &mut rng), Err(NoPick::Absent { id: InstanceId(2) }));
    }
}
