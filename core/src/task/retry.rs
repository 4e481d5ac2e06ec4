//! Whether a task that asks for another try gets one, and when.

use core::time::Duration;

use crate::retry::backoff::{self, Backoff};
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
    /// It has failed: those were its tries, or its policy allows no other.
    GiveUp,
}

/// The tries of one task.
///
/// ```
/// use std::time::Duration;
///
/// use ringplane_core::retry::backoff;
/// use ringplane_core::rng::Rng;
/// use ringplane_core::task::retry::{Attempts, Decision, Retry};
///
/// let backoff = backoff::Config { base: Duration::ZERO, attempts: 3, ..Default::default() };
/// let (mut attempts, mut rng) = (Attempts::new(Retry { backoff, ..Retry::default() }), Rng::new(1));
/// assert_eq!(attempts.failed(true, &mut rng), Decision::Again(Duration::ZERO));
/// assert_eq!(attempts.failed(true, &mut rng), Decision::Again(Duration::ZERO));
/// assert_eq!((attempts.number(), attempts.failed(true, &mut rng)), (3, Decision::GiveUp));
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

    /// The try under way has failed and asks for another. `allowed` is the policy's word.
    pub fn failed(&mut self, allowed: bool, rng: &mut Rng) -> Decision {
        let pause = if allowed { self.backoff.pause(rng) } else { None };
        pause.map_or(Decision::GiveUp, Decision::Again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_task_is_tried_more_often_than_configured_and_none_against_its_policy() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let tries = u32::try_from(rng.below(20)).unwrap();
            let backoff = backoff::Config { attempts: tries, ..backoff::Config::default() };
            let mut attempts = Attempts::new(Retry { backoff, slot: Slot::Kept });
            let refused = u32::try_from(rng.below(30)).unwrap();
            let mut tried = 1;
            while let Decision::Again(pause) = attempts.failed(tried != refused, &mut rng) {
                assert!(pause <= backoff.cap, "seed {seed}");
                tried += 1;
                assert_eq!(attempts.number(), tried);
            }
            let most = tries.max(1);
            assert_eq!(tried, if refused > 0 { most.min(refused) } else { most }, "seed {seed}");
        }
    }
}
