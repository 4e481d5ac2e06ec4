//! Which of an endpoint's instances a call may go to, in groups from the best to the last resort.

#[cfg(feature = "alloc")]
use alloc::sync::Arc;

use crate::id::InstanceId;
use crate::route::down::DownMark;
#[cfg(feature = "alloc")]
use crate::route::labels::Labels;
#[cfg(feature = "alloc")]
use crate::route::load::Load;
use crate::time::Instant;

/// One instance a call could go to. A line of the cache each: policies look at all of them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(align(64))]
pub struct Candidate {
    /// Which instance it is.
    pub id: InstanceId,
    /// Whether it is suspected, and how long.
    pub down: DownMark,
    /// Calls of this core to it that are not over.
    pub in_flight: u32,
    /// What its record says of it.
    #[cfg(feature = "alloc")]
    pub labels: Labels,
    /// What its worker has reported last, if it has.
    #[cfg(feature = "alloc")]
    pub load: Option<Arc<Load>>,
}

impl Candidate {
    /// An instance nothing is known about.
    pub const fn new(id: InstanceId) -> Self {
        Self {
            id,
            down: DownMark::CLEAR,
            in_flight: 0,
            #[cfg(feature = "alloc")]
            labels: Labels::NONE,
            #[cfg(feature = "alloc")]
            load: None,
        }
    }
}

/// What a call asks of the policy. The policies of this crate do not use it.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Ask {
    /// Calls with the same value fare better at the same instance: a hash of a session or of a prefix.
    pub affinity: Option<u64>,
    /// How much work the call is, in the application's unit, such as tokens; 0: unknown.
    pub cost: u64,
}

/// What one decision looks at.
#[derive(Copy, Clone, Debug)]
pub struct Slate<'a> {
    /// What the call asks.
    pub ask: Ask,
    /// All instances, in any order, each id once.
    pub candidates: &'a [Candidate],
    /// Those this call has already been tried on: picked again only if no other is up.
    pub avoid: &'a [InstanceId],
    /// The time by which marks are judged.
    pub now: Instant,
}

/// The candidates that are up, and either not tried or tried by this call.
#[derive(Copy, Clone, Debug)]
pub struct Eligible<'a> {
    slate: Slate<'a>,
    retried: bool,
}

impl<'a> Eligible<'a> {
    pub(super) const fn new(slate: Slate<'a>, retried: bool) -> Self {
        Self { slate, retried }
    }

    /// Every eligible candidate with its index in the slate, in the slate's order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a Candidate)> + use<'a> {
        let Self { slate, retried } = *self;
        slate.candidates.iter().enumerate().filter(move |(_, candidate)| {
            !candidate.down.is_down(slate.now) && slate.avoid.contains(&candidate.id) == retried
        })
    }

    /// How many there are; counts.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether no candidate is eligible.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Index in the slate of the `n`-th eligible candidate.
    pub fn nth(&self, n: usize) -> Option<usize> {
        self.iter().nth(n).map(|(index, _)| index)
    }
}

pub(super) fn soonest_up(slate: &Slate<'_>) -> Option<usize> {
    let order = |candidate: &Candidate| (slate.avoid.contains(&candidate.id), candidate.down.until(), candidate.id);
    let soonest = slate.candidates.iter().enumerate().min_by_key(|(_, candidate)| order(candidate));
    soonest.map(|(index, _)| index)
}
