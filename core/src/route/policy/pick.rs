//! What every policy shares: the trait.

use core::fmt;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Eligible, Group, Slate};

/// Why no instance was picked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NoPick {
    /// There is no instance at all.
    Empty,
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
            Self::Absent { id } => write!(f, "instance {id} is not known"),
        }
    }
}

impl core::error::Error for NoPick {}

/// A way to pick.
pub trait Pick {
    /// Chooses among the eligible, of whom there is at least one, and returns an index [`Eligible::iter`] yields. Called
    /// with the best non-empty group: a policy sees neither instances under suspicion nor those already tried while there are
    /// better ones.
    fn choose(&mut self, ask: &Ask, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize>;

    /// Picks a candidate and returns its index in the slate. The groups, best first:
    ///
    /// 1. up and not yet tried by this call; one that warms up takes part in a share of the decisions;
    /// 2. up and not yet tried, warm or not;
    /// 3. up and already tried;
    /// 4. not up: not yet tried before tried, then the one that will be soonest. Health alone never turns a call away.
    ///
    /// # Errors
    /// [`NoPick`] if there is no candidate.
    fn pick(&mut self, slate: &Slate<'_>, rng: &mut Rng) -> Result<usize, NoPick> {
        for group in Group::ALL {
            let eligible = Eligible::new(*slate, group);
            if !eligible.is_empty()
                && let Some(index) = self.choose(&slate.ask, &eligible, rng)
            {
                return Ok(index);
            }
        }
        slate.soonest_up().ok_or(NoPick::Empty)
    }
}
