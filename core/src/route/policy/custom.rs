//! A policy of the application's own.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Eligible, Slate};
use crate::route::policy::pick::{News, NoPick, Pick};
use crate::time::Instant;

type Make = dyn Fn() -> Box<dyn Pick + Send + Sync> + Send + Sync;

/// Makes a policy for each endpoint of each core: what one of them remembers, the others do not know.
pub struct Custom {
    make: Arc<Make>,
    made: Box<dyn Pick + Send + Sync>,
}

impl Custom {
    /// Policies that `make` makes.
    pub fn new<P: Pick + Send + Sync + 'static>(make: impl Fn() -> P + Send + Sync + 'static) -> Self {
        let make: Arc<Make> = Arc::new(move || Box::new(make()));
        Self { made: make(), make }
    }
}

impl Clone for Custom {
    /// One that has picked nothing yet.
    fn clone(&self) -> Self {
        Self { made: (self.make)(), make: self.make.clone() }
    }
}

/// Whether the same function makes them.
impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.make, &other.make)
    }
}

impl Eq for Custom {}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom").finish_non_exhaustive()
    }
}

impl Pick for Custom {
    fn choose(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        self.made.choose(ask, eligible, rng)
    }

    fn pick(&mut self, slate: &Slate<'_>, rng: &mut Rng) -> Result<usize, NoPick> {
        self.made.pick(slate, rng)
    }

    fn begin(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>) {
        self.made.begin(ask, eligible);
    }

    fn allows(&self, ask: &Ask<'_>, candidate: &Candidate, now: Instant) -> bool {
        self.made.allows(ask, candidate, now)
    }

    fn handle_news(&mut self, ask: &Ask<'_>, instance: InstanceId, news: News, now: Instant) {
        self.made.handle_news(ask, instance, news, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instance that the affinity names by its place, the next one with each pick.
    struct Shifting(usize);

    impl Pick for Shifting {
        fn choose(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>, _: &mut Rng) -> Option<usize> {
            self.0 += 1;
            eligible.nth((usize::try_from(ask.affinity?).ok()? + self.0) % eligible.len())
        }
    }

    #[test]
    fn a_policy_of_the_applications_own_sees_what_the_call_asks_and_a_clone_starts_afresh() {
        let candidates = [1, 2, 3].map(|id| Candidate::new(InstanceId(id)));
        let pick = |policy: &mut Custom, affinity| {
            let ask = Ask { affinity: Some(affinity), ..Ask::default() };
            let slate = Slate { ask, candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
            policy.pick(&slate, &mut Rng::new(1))
        };
        let mut policy = Custom::new(|| Shifting(0));
        assert_eq!([pick(&mut policy, 0), pick(&mut policy, 0), pick(&mut policy, 2)], [Ok(1), Ok(2), Ok(2)]);
        let mut clone = policy.clone();
        assert_eq!((pick(&mut clone, 0), clone == policy), (Ok(1), true));
        assert_ne!(policy, Custom::new(|| Shifting(0)));
    }
}
