//! Scorers that are ready: few calls, low latency, a fact.

use alloc::boxed::Box;

use crate::route::eligible::{Ask, Candidate};
use crate::route::policy::scored::{BEST, Score};
use crate::time::Instant;

/// The fewer calls in flight the better: [`BEST`] for none, half of it for one, a third for two.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct FewCalls;

impl Score for FewCalls {
    fn score(&self, _: &Ask<'_>, candidate: &Candidate, now: Instant) -> u32 {
        BEST / candidate.calls(now).saturating_add(1)
    }
}

/// The sooner the first item comes the better: [`BEST`] for at once and for an instance that has not answered yet, half of it for
/// `half`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Quick {
    /// The latency that is half as good as none, in microseconds.
    pub half: u32,
}

impl Score for Quick {
    fn score(&self, _: &Ask<'_>, candidate: &Candidate, now: Instant) -> u32 {
        let half = u64::from(self.half.max(1));
        let micros = u64::from(candidate.latency.micros(now).unwrap_or(0));
        (u64::from(BEST) * half / (half + micros)) as u32
    }
}

/// The greater a figure of the instance is the better: a [fact](crate::route::facts) of this name, else a gauge of its load report;
/// in proportion, 0 for nothing or less and for one that has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figure {
    /// Its name.
    pub name: Box<str>,
    /// What is as good as can be; at least 1.
    pub most: u32,
}

impl Score for Figure {
    fn score(&self, _: &Ask<'_>, candidate: &Candidate, now: Instant) -> u32 {
        let value = candidate.figure(&self.name, now).unwrap_or(0);
        let most = u64::from(self.most.max(1));
        (value.min(most) * u64::from(BEST) / most) as u32
    }
}
