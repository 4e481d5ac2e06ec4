//! What a subscriber knows of its publishers: which events it has had, which are missing, and which publisher began anew.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::discovery::event::PublisherId;
use crate::stats::counters;

/// Events that are missing.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gap {
    /// Whose they are.
    pub publisher: PublisherId,
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// How many: all from `first` to `last`, or fewer where other members of a group had their share of them.
    pub missing: u64,
}

counters! {
    /// What was seen of a publisher, or of all together.
    pub struct Counters {
        /// Events handed on.
        pub events,
        /// Events that had been handed on before, and were dropped.
        pub duplicates,
        /// Gaps told.
        pub gaps,
        /// Events that were missing in them.
        pub missing,
        /// Events that came after they had been told as missing: handed on, and so no longer missing.
        pub late,
        /// Events that had not come, were asked for again and handed on in their place.
        pub replayed,
        /// Restarts told.
        pub restarts,
    }
}

/// What is to be done with an event that has come.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// Its publisher has begun anew: its numbers count from 0 again.
    pub restarted: bool,
    /// What is missing before it.
    pub gap: Option<Gap>,
    /// Whether it is to be handed on: it has not been before.
    pub fresh: bool,
}

/// The events of all publishers of a subscription, by their numbers.
///
/// The first event that is seen of a publisher says where its numbers stand: those before it were published before anybody
/// listened. From then on each number that is left out is a gap, told with the next event that comes; one that comes after all is
/// handed on. A number that has been seen, or is more than 64 below the newest, is a duplicate, unless it was published later
/// than all others: then its publisher has begun anew, and numbers that are missing before it are a gap again. What an earlier
/// run of a publisher has published counts as a duplicate from then on.
///
/// Of at most [`Tracker::new`]'s number of publishers something is known. When another one comes, the half that was heard longest
/// ago is forgotten; what such a publisher says next counts as first.
#[derive(Debug)]
pub struct Tracker {
    publishers: BTreeMap<PublisherId, Known>,
    max_publishers: usize,
    /// Whether numbers that are left out are missing.
    whole: bool,
    /// Whether gaps are counted by [`Tracker::handle_missing`] only, as events may be asked for first.
    asks: bool,
    /// Events seen: how old the knowledge of a publisher is.
    turn: u64,
    total: Counters,
    forgotten: u64,
}

/// What is known of a publisher.
#[derive(Debug)]
struct Known {
    /// The number of the event that comes next.
    next: u64,
    /// Which of the 64 numbers below have been seen, the highest in the lowest bit.
    seen: u64,
    /// When the first event of this run was published.
    since: u64,
    /// When the newest was.
    newest: u64,
    heard: u64,
    counters: Counters,
}

impl Tracker {
    /// Knows nothing. With `whole` every number that is left out is told as missing; without, as for a member of a group that
    /// shares the events of a publisher, only what is known to be lost.
    pub fn new(max_publishers: usize, whole: bool) -> Self {
        let (publishers, total) = (BTreeMap::new(), Counters::default());
        Self { publishers, max_publishers, whole, asks: false, turn: 0, total, forgotten: 0 }
    }

    /// Gaps count once [`handle_missing`](Self::handle_missing) says so.
    pub(crate) fn asking(mut self) -> Self {
        self.asks = true;
        self
    }

    /// These were asked for, and do not come.
    pub(crate) fn handle_missing(&mut self, gap: &Gap) {
        self.count(gap.publisher, |counters| {
            counters.gaps += 1;
            counters.missing += gap.missing;
        });
    }

    /// An event that was missing and was asked for has come.
    pub(crate) fn handle_replayed(&mut self, publisher: PublisherId, sequence: u64, published_at: u64) {
        if let Some(known) = self.publishers.get_mut(&publisher) {
            known.mark(sequence, published_at);
        }
        self.count(publisher, |counters| {
            counters.events += 1;
            counters.replayed += 1;
        });
    }

    /// All events of a publisher up to this one have been published, whether they come or not: what is missing of it. The first
    /// that is heard of a publisher says where its numbers stand.
    pub(crate) fn handle_head(&mut self, publisher: PublisherId, last: u64) -> Option<Gap> {
        if !self.publishers.contains_key(&publisher) {
            self.learn(publisher, last.saturating_add(1));
        }
        self.handle_lost_up_to(publisher, last)
    }

    fn count(&mut self, publisher: PublisherId, add: impl Fn(&mut Counters)) {
        match self.publishers.get_mut(&publisher) {
            Some(known) => count(&mut known.counters, &mut self.total, add),
            None => add(&mut self.total),
        }
    }

    /// Whether something is known of a publisher.
    pub(crate) fn knows(&self, publisher: PublisherId) -> bool {
        self.publishers.contains_key(&publisher)
    }

    /// An event has come.
    pub fn handle_event(&mut self, publisher: PublisherId, sequence: u64, published_at: u64) -> Verdict {
        let whole = self.whole;
        let total = &mut self.total;
        let mut verdict = Verdict::default();
        self.turn += 1;
        let Some(known) = self.publishers.get_mut(&publisher) else {
            let known = self.learn(publisher, sequence);
            known.take(sequence, published_at);
            known.counters.events += 1;
            self.total.events += 1;
            return Verdict { fresh: true, ..verdict };
        };
        known.heard = self.turn;
        if sequence >= known.next {
            if published_at < known.since {
                // From before a restart.
                count(&mut known.counters, total, |counters| counters.duplicates += 1);
                return verdict;
            }
            verdict.gap = known.gap(publisher, sequence).filter(|_| whole);
            known.take(sequence, published_at);
            verdict.fresh = true;
        } else if !known.has_seen(sequence) && published_at >= known.since {
            known.mark(sequence, published_at);
            verdict.fresh = true;
            if whole {
                count(&mut known.counters, total, |counters| counters.late += 1);
            }
        } else if published_at > known.newest {
            (known.next, known.seen, known.since) = (0, 0, published_at);
            verdict = Verdict { restarted: true, gap: known.gap(publisher, sequence).filter(|_| whole), fresh: true };
            known.take(sequence, published_at);
        }
        let gap = verdict.gap.filter(|_| !self.asks);
        count(&mut known.counters, total, |counters| {
            counters.events += u64::from(verdict.fresh);
            counters.duplicates += u64::from(!verdict.fresh);
            counters.restarts += u64::from(verdict.restarted);
            counters.gaps += u64::from(gap.is_some());
            counters.missing += gap.map_or(0, |gap| gap.missing);
        });
        verdict
    }

    /// An event with this number is known to have been published and lost, the first of such: nothing before it is missing
    /// because of that, but it is.
    pub fn handle_first_lost(&mut self, publisher: PublisherId, sequence: u64) {
        if !self.publishers.contains_key(&publisher) {
            self.learn(publisher, sequence);
        }
    }

    /// Nothing will come up to this number: what is missing of it.
    pub fn handle_lost_up_to(&mut self, publisher: PublisherId, last: u64) -> Option<Gap> {
        let known = self.publishers.get_mut(&publisher)?;
        let gap = known.gap(publisher, last.saturating_add(1))?;
        known.skip(last.saturating_add(1));
        // They are gone: the same number again is of a publisher that has begun anew.
        known.seen |= u64::MAX.checked_shr(64u32.saturating_sub(u32::try_from(gap.missing).unwrap_or(64))).unwrap_or(0);
        if !self.asks {
            self.handle_missing(&gap);
        }
        Some(gap)
    }

    /// These were lost, of numbers of which others may have gone elsewhere.
    pub fn handle_share_lost(&mut self, gap: &Gap) {
        self.handle_first_lost(gap.publisher, gap.first);
        self.handle_missing(gap);
    }

    /// What was seen of a publisher since it is known; `None` if it is not.
    pub fn counters_of(&self, publisher: PublisherId) -> Option<Counters> {
        self.publishers.get(&publisher).map(|known| known.counters)
    }

    /// What was seen of all publishers ever.
    pub const fn counters(&self) -> Counters {
        self.total
    }

    /// The publishers known, in the order of their ids.
    pub fn publishers(&self) -> impl Iterator<Item = PublisherId> + '_ {
        self.publishers.keys().copied()
    }

    /// How many publishers have been forgotten for want of room.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Begins to know a publisher whose first number is this.
    fn learn(&mut self, publisher: PublisherId, first: u64) -> &mut Known {
        if self.publishers.len() >= self.max_publishers.max(1) {
            self.forget();
        }
        let (heard, counters) = (self.turn, Counters::default());
        // What came before counts as seen.
        let known = Known { next: first, seen: u64::MAX, since: 0, newest: 0, heard, counters };
        self.publishers.entry(publisher).or_insert(known)
    }

    /// Forgets the half that was heard longest ago, or the only one.
    fn forget(&mut self) {
        let mut heard: Vec<u64> = self.publishers.values().map(|known| known.heard).collect();
        let before = heard.len();
        let (_, median, _) = heard.select_nth_unstable(before.saturating_sub(1) / 2);
        let median = *median;
        self.publishers.retain(|_, known| known.heard > median);
        self.forgotten += (before - self.publishers.len()) as u64;
    }
}

/// Counts for a publisher and in sum.
fn count(one: &mut Counters, total: &mut Counters, add: impl Fn(&mut Counters)) {
    add(one);
    add(total);
}

impl Known {
    /// What is missing if `sequence` comes next.
    fn gap(&self, publisher: PublisherId, sequence: u64) -> Option<Gap> {
        let missing = sequence.checked_sub(self.next).filter(|missing| *missing > 0)?;
        Some(Gap { publisher, first: self.next, last: sequence - 1, missing })
    }

    /// `sequence`, which is not below `next`, has come.
    fn take(&mut self, sequence: u64, published_at: u64) {
        self.skip(sequence.saturating_add(1));
        self.seen |= 1;
        self.newest = self.newest.max(published_at);
    }

    /// What is below `next` has not been seen, as far as it is new.
    fn skip(&mut self, next: u64) {
        let by = u32::try_from(next.saturating_sub(self.next)).unwrap_or(u32::MAX);
        self.seen = self.seen.checked_shl(by).unwrap_or(0);
        self.next = self.next.max(next);
    }

    fn has_seen(&self, sequence: u64) -> bool {
        self.bit(sequence).is_none_or(|bit| self.seen & bit != 0)
    }

    /// `sequence`, which is below `next`, has come.
    fn mark(&mut self, sequence: u64, published_at: u64) {
        self.seen |= self.bit(sequence).unwrap_or(0);
        self.newest = self.newest.max(published_at);
    }

    /// `None` for what is too far below.
    fn bit(&self, sequence: u64) -> Option<u64> {
        let back = self.next.checked_sub(sequence)?.checked_sub(1)?;
        1u64.checked_shl(u32::try_from(back).unwrap_or(u32::MAX))
    }
}
