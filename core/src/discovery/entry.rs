//! One record under a lease: how far it is written, and what has been told of it.

use alloc::vec::Vec;

use crate::discovery::lease_event::{Event, Serves};
use crate::discovery::trouble::Cause;
use crate::retry::backoff::{self, Backoff};
use crate::rng::Rng;
use crate::time::Instant;

/// One record under a lease.
#[derive(Debug)]
pub(super) struct Entry {
    /// What it shall hold.
    pub(super) value: Vec<u8>,
    pub(super) serves: Serves,
    /// How many want it to be there.
    pub(super) claims: u32,
    pub(super) step: Step,
    pub(super) due: Instant,
    pub(super) attempt: u64,
    pub(super) backoff: Backoff,
    pub(super) told: Told,
    /// Whether the last try failed.
    pub(super) failing: bool,
    /// Whether it is to be removed once the write under way is over.
    pub(super) leaving: bool,
}

/// What the owner has been told of a record.
#[derive(Copy, Clone, Default, Debug)]
pub(super) struct Told {
    /// That it is registered, at least once.
    pub(super) registered: bool,
    /// That another's value is in its place, since it was registered last.
    pub(super) foreign: bool,
    /// That the registry refuses it, since it was registered last.
    pub(super) refused: bool,
}

/// Where one record stands: `Missing` until there is a lease and the pause is over, then `Writing`, then `Present` until
/// the next check, which writes again. `Leaving` and `Removing` alike at the end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Missing,
    Writing,
    Present,
    Leaving,
    Removing,
}

impl Entry {
    /// A record that is to be written.
    pub(super) fn new(value: Vec<u8>, serves: Serves, retry: backoff::Config, now: Instant) -> Self {
        Self {
            value,
            serves,
            claims: 1,
            step: Step::Missing,
            due: now,
            attempt: 0,
            backoff: Backoff::new(retry),
            told: Told::default(),
            failing: false,
            leaving: false,
        }
    }

    /// It is there; it is looked after at `check`.
    pub(super) fn on_registered(&mut self, retry: backoff::Config, check: Instant) {
        self.backoff = Backoff::new(retry);
        (self.step, self.due) = (Step::Present, check);
        self.told = Told { registered: true, ..Told::default() };
    }

    /// Nothing that is at its key is ours, as far as is known.
    pub(super) const fn is_kept_out(&self) -> bool {
        (self.told.foreign || self.told.refused) && !self.told.registered
    }

    pub(super) fn is_at(&self, step: Step, attempt: u64) -> bool {
        self.step == step && self.attempt == attempt
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.step, Step::Writing | Step::Removing)
    }

    /// What is to be told of a refusal: once, and only of a record that nobody has seen yet.
    pub(super) fn refuse(&mut self, key: &str, cause: &Cause) -> Option<Event> {
        let first = cause.is_refusal() && !self.told.registered && !self.leaving && !self.told.refused;
        self.told.refused |= first;
        first.then(|| Event::Refused { key: key.into(), cause: cause.clone() })
    }

    pub(super) fn fail(&mut self, retry: &backoff::Config, rng: &mut Rng, now: Instant) {
        self.failing = true;
        self.step = if self.leaving { Step::Leaving } else { Step::Missing };
        let pause = self.backoff.pause(rng).unwrap_or(retry.cap);
        (self.due, self.attempt) = (now + pause, 0);
    }
}
