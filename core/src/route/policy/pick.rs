//! What every policy shares: the trait.

use core::fmt;
use core::time::Duration;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Eligible, Group, Slate};
use crate::time::Instant;

/// Why no instance was picked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NoPick {
    /// There is no instance at all.
    Empty,
    /// The policy's filters rule out every one.
    Filtered,
    /// Every one that would do is full; only of a call that minds ([`Room::Free`](crate::route::eligible::Room)).
    Full,
    /// The one instance asked for is not there.
    Absent {
        /// The instance that was asked for.
        id: InstanceId,
    },
}

impl fmt::Display for NoPick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no instance is known"),
            Self::Filtered => f.write_str("the routing policy's filters rule out every instance"),
            Self::Full => f.write_str("no instance has a free place"),
            Self::Absent { id } => write!(f, "instance {id} is not known"),
        }
    }
}

impl core::error::Error for NoPick {}

/// What became of a call that a policy picked an instance for, or of an instance.
///
/// ```text
///   Dispatched ──▶ FirstItem ──▶ Ended
///        │             └▶ Failed ─▶ │
///        └────────────────▶ Failed ─┘
/// ```
/// Each `Dispatched` has one `Ended`, whatever else comes between.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum News {
    /// A call is sent to the instance.
    Dispatched,
    /// The instance has answered it for the first time, so long after.
    FirstItem(Duration),
    /// The instance has failed or refused it, so long after: another one might have done better.
    Failed(Duration),
    /// The call is over, or leaves the instance.
    Ended,
    /// The instance is known no more; the call's wishes are none.
    Gone,
}

/// A way to pick.
pub trait Pick {
    /// Chooses among the eligible, of whom there is at least one, and returns an index [`Eligible::iter`] yields. Called
    /// with the best non-empty group: a policy sees neither instances under suspicion nor those already tried while there are
    /// better ones.
    fn choose(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize>;

    /// Picks a candidate and returns its index in the slate. The groups, best first:
    ///
    /// 1. up and not yet tried by this call; one that warms up takes part in a share of the decisions, one that is to be probed
    ///    only for a call that was not tried anywhere;
    /// 2. up and not yet tried, warm or not, proven or not;
    /// 3. up and already tried;
    /// 4. not up: not yet tried before tried, then the one that will be soonest. Health alone never turns a call away.
    ///
    /// # Errors
    /// [`NoPick`] if there is no candidate.
    fn pick(&mut self, slate: &Slate<'_>, rng: &mut Rng) -> Result<usize, NoPick> {
        self.by_groups(slate, rng)
    }

    /// What [`pick`](Self::pick) does unless a policy does something else first.
    ///
    /// # Errors
    /// [`NoPick`] if there is no candidate that is allowed.
    fn by_groups(&mut self, slate: &Slate<'_>, rng: &mut Rng) -> Result<usize, NoPick> {
        for group in Group::CHOICE {
            let eligible = Eligible::new(*slate, group);
            if !eligible.is_empty()
                && let Some(index) = self.choose(&slate.ask, &eligible, rng)
            {
                return Ok(index);
            }
        }
        self.begin(&slate.ask, &Eligible::new(*slate, Group::Last));
        let will_do = |candidate: &Candidate| self.allows(&slate.ask, candidate, slate.now);
        if slate.is_full(will_do) {
            return Err(NoPick::Full);
        }
        if let Some(index) = slate.soonest_up(will_do) {
            return Ok(index);
        }
        let any = slate.candidates.iter().any(|candidate| slate.allows(candidate.id));
        Err(if any { NoPick::Filtered } else { NoPick::Empty })
    }

    /// [`allows`](Self::allows) is about to be asked: of the last resort, where all that the call may go to are eligible, or by a
    /// policy around this one. For one whose word on an instance depends on the others.
    fn begin(&mut self, _ask: &Ask<'_>, _eligible: &Eligible<'_>) {}

    /// Whether an instance may be picked at all, even if no other is left. All may unless a policy says otherwise.
    fn allows(&self, _ask: &Ask<'_>, _candidate: &Candidate, _now: Instant) -> bool {
        true
    }

    /// What became of a call or an instance: for a policy's own books.
    fn handle_news(&mut self, _ask: &Ask<'_>, _instance: InstanceId, _news: News, _now: Instant) {}
}
