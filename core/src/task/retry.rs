//! Whether a task that asks for another try gets one, and when.

use core::time::Duration;

use crate::retry::backoff::{self, Backoff};
use crate::retry::budget::Budget;
use crate::rng::Rng;

/// What happens to a task's slot between two of its tries.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub enum Slot {
    /// The task keeps it: it runs again as soon as its pause is over, and counts as running meanwhile.
    #[default]
    Kept,
    /// The task gives it back before the pause and asks for one after it, behind those that wait by then.
    GivenBack,
}

/// How often a task is tried, and what it does in between.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Retry {
    /// The pauses between tries, and how many tries there are in all. Default: three tries, full jitter up to 50 ms, doubling
    /// to 5 s.
    pub backoff: backoff::Config,
    /// What happens to the slot in the pauses. Default: it is kept.
    pub slot: Slot,
}

/// What a task does that has asked for another try.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It waits for so long and is tried again.
    Again(Duration),
    /// It has failed, and gets no other try.
    GiveUp(Refused),
}

/// Why a task gets no other try.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Those were its tries.
    Tries,
    /// Its policy allows no other.
    Policy,
    /// The budget that it shares with others has no room: too much fails.
    Budget,
}

/// The tries of one task.
///
/// ```
/// use std::time::Duration;
///
/// use ringplane_core::retry::backoff;
/// use ringplane_core::rng::Rng;
/// use ringplane_core::task::retry::{Attempts, Decision, Refused, Retry};
///
/// let backoff = backoff::Config { base: Duration::ZERO, attempts: 3, ..Default::default() };
/// let (mut attempts, mut rng) = (Attempts::new(Retry { backoff, ..Retry::default() }), Rng::new(1));
/// assert_eq!(attempts.failed(true, None, &mut rng), Decision::Again(Duration::ZERO));
/// assert_eq!(attempts.failed(true, None, &mut rng), Decision::Again(Duration::ZERO));
/// assert_eq!(attempts.failed(true, None, &mut rng), Decision::GiveUp(Refused::Tries));
/// assert_eq!(attempts.number(), 3);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempts {
    backoff: Backoff,
}

impl Attempts {
    /// The first try is about to begin.
    pub const fn new(retry: Retry) -> Self {
        Self { backoff: Backoff::new(retry.backoff) }
    }

    /// The try under way, from 1.
    pub const fn number(&self) -> u32 {
        self.backoff.pauses().saturating_add(1)
    }

    /// The try under way has failed and asks for another. `allowed` is the policy's word. The budget, if there is one, counts
    /// each such failure, whatever comes of it.
    pub fn failed(&mut self, allowed: bool, budget: Option<&mut Budget>, rng: &mut Rng) -> Decision {
        let affordable = budget.is_none_or(Budget::failed);
        let mut backoff = self.backoff.clone();
        let Some(pause) = backoff.pause(rng) else { return Decision::GiveUp(Refused::Tries) };
        if !allowed {
            return Decision::GiveUp(Refused::Policy);
        }
        if !affordable {
            return Decision::GiveUp(Refused::Budget);
        }
        self.backoff = backoff;
        Decision::Again(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::budget;

    #[test]
    fn no_task_is_tried_more_often_than_configured_and_none_against_its_policy() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let tries = u32::try_from(rng.below(20)).unwrap();
            let backoff = backoff::Config { attempts: tries, ..backoff::Config::default() };
            let mut attempts = Attempts::new(Retry { backoff, slot: Slot::Kept });
            let refused = u32::try_from(rng.below(30)).unwrap();
            let mut tried = 1;
            while let Decision::Again(pause) = attempts.failed(tried != refused, None, &mut rng) {
                assert!(pause <= backoff.cap, "seed {seed}");
                tried += 1;
                assert_eq!(attempts.number(), tried);
            }
            let most = tries.max(1);
            assert_eq!(tried, if refused > 0 { most.min(refused) } else { most }, "seed {seed}");
        }
    }

    #[test]
    fn a_budget_that_many_tasks_share_refuses_the_tries_of_all_and_says_so() {
        let (mut budget, mut rng) =
            (Budget::new(budget::Config { max_tokens: 10, milli_tokens_per_success: 1000 }), Rng::new(1));
        let backoff = backoff::Config { attempts: 3, ..backoff::Config::default() };
        let mut fail = |budget: &mut Budget, allowed| {
            Attempts::new(Retry { backoff, slot: Slot::Kept }).failed(allowed, Some(budget), &mut rng)
        };
        for _ in 0..4 {
            assert!(matches!(fail(&mut budget, true), Decision::Again(_)));
        }
        assert_eq!(fail(&mut budget, true), Decision::GiveUp(Refused::Budget), "half of it is left");
        budget.succeeded();
        budget.succeeded();
        assert_eq!(fail(&mut budget, false), Decision::GiveUp(Refused::Policy), "it is counted all the same");
        assert_eq!(fail(&mut budget, true), Decision::GiveUp(Refused::Budget));
        (0..3).for_each(|_| budget.succeeded());
        let mut last = Attempts::new(Retry { backoff: backoff::Config { attempts: 1, ..backoff }, slot: Slot::Kept });
        assert_eq!(last.failed(true, Some(&mut budget), &mut Rng::new(1)), Decision::GiveUp(Refused::Tries));
        assert_eq!(last.number(), 1, "a try that is refused is none");
    }
}
