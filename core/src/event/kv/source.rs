//! What one source is known to hold: batches applied event by event, and whether that is all.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::event::kv::batch::{Batch, EventError};
use crate::event::kv::copies::{self, Copies, Place};
use crate::event::kv::event::{Event, Removed, Stored, Tier};
use crate::event::kv::limits::Limits;
use crate::stats::counters;
use crate::wire::parse::Error;

/// What a subscriber tells its consumer, in order.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "most outputs are stores")]
pub enum Output {
    /// Copies of blocks are held.
    Stored {
        /// By which rank.
        rank: u32,
        /// In which tier.
        tier: Tier,
        /// What was stored, as the engine said it.
        event: Stored,
        /// The hashes whose first copy in that place it is. A store that is not dense makes none of hashes nobody knows.
        new: Vec<u64>,
        /// The parent is not known to be held: tokens before this store cannot be told.
        detached: bool,
    },
    /// Copies are gone.
    Removed {
        /// Of which rank.
        rank: u32,
        /// From which tier.
        tier: Tier,
        /// What was removed, as the engine said it.
        event: Removed,
        /// The hashes that have no copy left in that place.
        gone: Vec<u64>,
    },
    /// Nothing is held any more.
    Cleared {
        /// By this rank; by none of this source if `None`.
        rank: Option<u32>,
        /// Why that is known.
        why: Clear,
    },
    /// Batches will not come any more.
    Missed {
        /// The first one.
        first: u64,
        /// The last one.
        last: u64,
        /// Whether the publisher has confirmed that it does not have them; else nobody could be asked, or did not answer.
        confirmed: bool,
    },
    /// A batch or an event could not be read; what it said is not known.
    Spoilt {
        /// The batch.
        seq: u64,
        /// What was wrong.
        why: Spoilt,
    },
}

/// Why nothing is held.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Clear {
    /// The engine says so.
    Announced,
    /// Another engine has taken its place.
    Restarted,
}

/// What could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Spoilt {
    /// The whole batch.
    Batch(Error),
    /// The event at this place of it.
    Event(usize, EventError),
}

counters! {
    /// What a subscriber of KV events has seen of one source.
    pub struct KvSourceStats {
        /// Batches that came live.
        pub received,
        /// Batches applied, live or from an answer.
        pub applied,
        /// Batches that had been applied before.
        pub overlapped,
        /// Batches that will not come.
        pub missed,
        /// Batches that could not be read.
        pub spoilt_batches,
        /// Events that could not be read.
        pub spoilt_events,
        /// Events of a type this build does not know.
        pub unknown_events,
        /// Events of a medium without a meaning.
        pub ignored_events,
        /// Batches of another rank than the expected one.
        pub foreign_ranks,
        /// Stores that exceeded the bounds on hashes and places.
        pub overfull,
        /// Engines that took the place of another.
        pub restarts,
        /// Messages that broke the form.
        pub malformed,
        /// Requests for batches of the past.
        pub requests,
        /// Searches for batches that were given up without an answer.
        pub unanswered,
        /// Messages of answers that nobody waits for any more.
        pub late_answers,
        /// Live batches dropped while an answer was awaited, to be asked for again.
        pub merge_dropped,
    }
}

/// The applied part of a subscriber.
#[derive(Clone, Debug)]
pub(super) struct Source {
    rank: u32,
    limits: Limits,
    copies: Copies,
    exact: bool,
    outputs: VecDeque<Output>,
    pub(super) stats: KvSourceStats,
}

impl Source {
    pub(super) fn new(rank: u32, limits: Limits, config: copies::Config) -> Self {
        let (copies, outputs) = (Copies::new(config), VecDeque::new());
        Self { rank, limits, copies, exact: false, outputs, stats: KvSourceStats::default() }
    }

    /// A batch is next in order. `from_start`: it is the first there ever was.
    pub(super) fn apply(&mut self, seq: u64, payload: &[u8], from_start: bool) {
        self.stats.applied += 1;
        self.exact |= from_start;
        let batch = match Batch::read(payload, &self.limits) {
            Ok(batch) => batch,
            Err(error) => {
                self.stats.spoilt_batches += 1;
                return self.spoil(seq, Spoilt::Batch(error));
            }
        };
        let rank = batch.rank.unwrap_or(self.rank);
        self.stats.foreign_ranks += u64::from(rank != self.rank);
        for (at, event) in batch.enumerate() {
            match event {
                Ok(Event::Stored(event)) => self.store(rank, event),
                Ok(Event::Removed(event)) => self.remove(rank, event),
                Ok(Event::Cleared) => {
                    self.copies.clear_rank(rank);
                    self.exact = true;
                    self.outputs.push_back(Output::Cleared { rank: Some(rank), why: Clear::Announced });
                }
                Err(EventError::Unknown(_)) => self.stats.unknown_events += 1,
                Err(error) => {
                    self.stats.spoilt_events += 1;
                    self.spoil(seq, Spoilt::Event(at, error));
                }
            }
        }
    }

    /// Batches will not come.
    pub(super) fn miss(&mut self, first: u64, last: u64, confirmed: bool) {
        self.stats.missed = self.stats.missed.saturating_add((last - first).saturating_add(1));
        self.exact = false;
        self.outputs.push_back(Output::Missed { first, last, confirmed });
    }

    /// Another engine has taken the place of this one.
    pub(super) fn restart(&mut self) {
        self.stats.restarts += 1;
        self.copies.clear();
        self.exact = false;
        self.outputs.push_back(Output::Cleared { rank: None, why: Clear::Restarted });
    }

    /// It is not certain any more that this is all.
    pub(super) const fn doubt(&mut self) {
        self.exact = false;
    }

    pub(super) const fn is_exact(&self) -> bool {
        self.exact
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn held(&self) -> usize {
        self.copies.len()
    }

    fn spoil(&mut self, seq: u64, why: Spoilt) {
        self.exact = false;
        self.outputs.push_back(Output::Spoilt { seq, why });
    }

    fn store(&mut self, rank: u32, event: Stored) {
        let Some(tier) = event.tier() else {
            self.stats.ignored_events += 1;
            return;
        };
        let detached = event.parent_block_hash.is_some_and(|parent| !self.copies.knows(rank, parent));
        let place = Place::of_stored(rank, tier, &event);
        let (new, all) = self.copies.add(place, &event.block_hashes, event.is_dense());
        if all.is_err() {
            self.stats.overfull += 1;
            self.exact = false;
        }
        self.outputs.push_back(Output::Stored { rank, tier, event, new, detached });
    }

    fn remove(&mut self, rank: u32, event: Removed) {
        let Some(tier) = event.tier() else {
            self.stats.ignored_events += 1;
            return;
        };
        let gone = self.copies.remove(&Place::of_removed(rank, tier, &event), &event.block_hashes);
        self.outputs.push_back(Output::Removed { rank, tier, event, gone });
    }
}
