//! What has come for a subscriber and has not been taken: bounded, and what does not fit is told.

use alloc::collections::{BTreeMap, VecDeque};

use crate::discovery::event::PublisherId;
use crate::event::message::Message;
use crate::event::replay::belongs;
use crate::event::tracker::{self, Gap, Tracker};
use crate::stats::{counters, groups};
use crate::wire::parse::Error;

/// The bounds of a subscription.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Events that may wait. Default 65,536.
    pub max_events: usize,
    /// Bytes of their envelopes; one that is larger waits alone. Default 64 MiB.
    pub max_bytes: usize,
    /// What becomes of events that do not fit. Default the oldest is dropped.
    pub slow: Slow,
    /// Publishers that something is known of. Default 65,536, about 10 MiB.
    pub max_publishers: usize,
}

/// What becomes of events for a subscriber that takes them more slowly than they come.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum Slow {
    /// The oldest that waits is dropped: what is new matters most.
    #[default]
    DropOldest,
    /// The one that comes is dropped.
    DropNewest,
    /// The publisher waits. Only where it can be made to.
    Wait,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_events: 65_536, max_bytes: 64 << 20, slow: Slow::default(), max_publishers: 65_536 }
    }
}

/// What a subscriber is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// An event.
    Event(Message),
    /// Events that will most likely not come.
    Gap(Gap),
    /// A publisher has begun anew: its numbers count from 0 again, and what it was about to say before is lost.
    Restart(PublisherId),
    /// Something came that is no event: what was wrong with the last such thing, and how many there were.
    Malformed(Error, u64),
}

counters! {
    /// What came in and did not stay.
    pub struct Queued {
        /// Events that came.
        pub received,
        /// Events that were dropped for want of room.
        pub dropped,
        /// Dropped events whose publisher could not be kept in mind, as too many others were: no gap tells of them.
        pub untold,
        /// Things that came and are no events.
        pub malformed,
    }
}

groups! {
    /// What a subscription has counted.
    pub struct Stats {
        /// What came in.
        pub queued: Queued,
        /// What was told.
        pub told: tracker::Counters,
    }
}

/// What came of an event that was pushed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It waits, or it or another one was dropped.
    Taken,
    /// It has to wait outside: with [`Slow::Wait`] only.
    Full(Message),
}

/// The events of one subscription.
///
/// What is dropped is remembered by the first and last number of each publisher, and told where the events would have been: before
/// the next one of that publisher, or once nothing else waits.
#[derive(Debug)]
pub struct Inbox {
    config: Config,
    /// Whether this is a member of a group, which shares the events of each publisher with others.
    shared: bool,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    lost: BTreeMap<PublisherId, Lost>,
    malformed: Option<(Error, u64)>,
    /// What their publishers' ends say to have published, told once nothing else waits.
    heads: BTreeMap<PublisherId, u64>,
    /// Whether events that did not come are asked for.
    asks: bool,
    /// What is asked for at the moment. Nothing is handed out meanwhile.
    asked: Option<Asked>,
    /// What goes before the next event.
    told: VecDeque<Delivery>,
    tracker: Tracker,
    queued: Queued,
}

/// Events that are asked for, and the one behind them.
#[derive(Debug)]
struct Asked {
    gap: Gap,
    then: Option<Message>,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    /// What was dropped directly before it.
    lost: Option<Lost>,
}

/// What was dropped of a publisher.
#[derive(Copy, Clone, Debug)]
struct Lost {
    first: u64,
    last: u64,
    count: u64,
}

impl Inbox {
    /// An empty one.
    pub fn new(config: Config) -> Self {
        Self::with(config, false)
    }

    /// An empty one for a member of a group: numbers that are left out went to others.
    pub fn of_group(config: Config) -> Self {
        Self::with(config, true)
    }

    fn with(config: Config, shared: bool) -> Self {
        Self {
            config,
            shared,
            waiting: VecDeque::new(),
            bytes: 0,
            lost: BTreeMap::new(),
            malformed: None,
            heads: BTreeMap::new(),
            asks: false,
            asked: None,
            told: VecDeque::new(),
            tracker: Tracker::new(config.max_publishers, !shared),
            queued: Queued::default(),
        }
    }

    /// Events that do not come are [asked for](Self::wants) before they are told as missing. What it has dropped itself it does
    /// not ask for again. A member of a group cannot tell what is missing, and asks for nothing.
    #[must_use]
    pub fn asking(mut self) -> Self {
        if !self.shared {
            self.asks = true;
            self.tracker = self.tracker.asking();
        }
        self
    }

    /// An event has come.
    pub fn push(&mut self, message: Message) -> Pushed {
        if self.config.slow == Slow::Wait && !self.has_room(&message) {
            return Pushed::Full(message);
        }
        if self.config.slow == Slow::DropNewest && !self.has_room(&message) {
            self.drop_newest(&message);
            return Pushed::Taken;
        }
        self.queued.received += 1;
        while !self.has_room(&message) {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.message.envelope.len());
            self.lose(&oldest.message, oldest.lost);
        }
        let lost =
            if self.lost.is_empty() || !self.drops_newest() { None } else { self.lost.remove(&message.publisher) };
        self.bytes += message.envelope.len();
        self.waiting.push_back(Waiting { message, lost });
        Pushed::Taken
    }

    /// An event has come that is not waited for any more: it is dropped, and told.
    pub fn drop_newest(&mut self, message: &Message) {
        self.queued.received += 1;
        self.lose(message, None);
    }

    /// The end of a publisher says that all its events up to `last` have been published before: what of them has not come until
    /// now does not come. For a publisher that nothing is known of this is where its numbers stand.
    pub fn push_head(&mut self, publisher: PublisherId, last: u64) {
        if self.shared {
            return;
        }
        let waits = |waiting: &Waiting| waiting.message.publisher == publisher;
        if !self.tracker.knows(publisher) && !self.lost.contains_key(&publisher) && !self.waiting.iter().any(waits) {
            self.tracker.handle_head(publisher, last);
        } else if self.heads.contains_key(&publisher) || self.heads.len() < self.config.max_publishers {
            self.heads.insert(publisher, last);
        }
    }

    /// Events that are missing and wanted from their publisher. Until [`handle_found`](Self::handle_found) nothing is handed out.
    pub fn wants(&self) -> Option<Gap> {
        self.asked.as_ref().filter(|_| self.told.is_empty()).map(|asked| asked.gap)
    }

    /// What came back for [those](Self::wants), in the order of their numbers: it is handed out in their place, and what is still
    /// missing is told.
    pub fn handle_found(&mut self, found: impl IntoIterator<Item = Message>) {
        let Some(Asked { gap, then }) = self.asked.take() else { return };
        let newest = then.as_ref().map(|message| message.published_at);
        let mut next = gap.first;
        for message in belongs(&gap, newest, found) {
            self.tracker.handle_replayed(gap.publisher, message.sequence, message.published_at);
            self.tell_missing(gap.publisher, next, message.sequence);
            next = message.sequence.saturating_add(1);
            self.told.push_back(Delivery::Event(message));
        }
        self.tell_missing(gap.publisher, next, gap.last.saturating_add(1));
        self.told.extend(then.map(Delivery::Event));
    }

    /// Something has come that is no event.
    pub fn push_malformed(&mut self, error: Error) {
        self.queued.malformed += 1;
        let times = self.malformed.map_or(0, |(_, times)| times);
        self.malformed = Some((error, times + 1));
    }

    /// What is to be told next; `None` if nothing is.
    pub fn pop(&mut self) -> Option<Delivery> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            if self.asked.is_some() {
                return None;
            }
            if let Some((error, times)) = self.malformed.take() {
                return Some(Delivery::Malformed(error, times));
            }
            let Some(Waiting { message, lost }) = self.waiting.pop_front() else {
                if let Some((publisher, lost)) = self.lost.pop_first() {
                    self.tell_lost(publisher, &lost);
                } else {
                    self.tell_head()?;
                }
                continue;
            };
            self.bytes = self.bytes.saturating_sub(message.envelope.len());
            let ahead =
                if self.lost.is_empty() || self.drops_newest() { None } else { self.lost.remove(&message.publisher) };
            let lost = ahead.or(lost);
            if let Some(lost) = &lost {
                self.tell_lost_before(&message, lost);
            }
            let verdict = self.tracker.handle_event(message.publisher, message.sequence, message.published_at);
            if verdict.restarted {
                self.told.push_back(Delivery::Restart(message.publisher));
            }
            if let Some(gap) = verdict.gap {
                if self.asks && lost.is_none() {
                    self.asked = Some(Asked { gap, then: Some(message) });
                    continue;
                }
                self.tell_gap(gap);
            }
            if verdict.fresh {
                if self.told.is_empty() {
                    return Some(Delivery::Event(message));
                }
                self.told.push_back(Delivery::Event(message));
            }
        }
    }

    /// Whether nothing is to be told.
    pub fn is_empty(&self) -> bool {
        let waits = !self.waiting.is_empty() || self.asked.is_some() || self.malformed.is_some();
        !waits && self.told.is_empty() && self.lost.is_empty() && self.heads.is_empty()
    }

    /// Events that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of their envelopes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was counted.
    pub const fn stats(&self) -> Stats {
        Stats { queued: self.queued, told: self.tracker.counters() }
    }

    /// What is known of the publishers.
    pub const fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    fn has_room(&self, message: &Message) -> bool {
        let fits = self.bytes.saturating_add(message.envelope.len()) <= self.config.max_bytes;
        self.waiting.is_empty() || (self.waiting.len() < self.config.max_events && fits)
    }

    /// Whether what is dropped comes behind what waits.
    fn drops_newest(&self) -> bool {
        self.config.slow != Slow::DropOldest
    }

    /// An event is dropped, and perhaps others have been before it.
    fn lose(&mut self, message: &Message, before: Option<Lost>) {
        self.queued.dropped += 1;
        let full = self.lost.len() >= self.config.max_publishers;
        let lost = match self.lost.get_mut(&message.publisher) {
            Some(lost) => lost,
            None if full => {
                self.queued.untold += 1;
                return;
            }
            None => self.lost.entry(message.publisher).or_insert(Lost { first: u64::MAX, last: 0, count: 0 }),
        };
        for (first, last, count) in before
            .map(|before| (before.first, before.last, before.count))
            .into_iter()
            .chain([(message.sequence, message.sequence, 1)])
        {
            lost.first = lost.first.min(first);
            lost.last = lost.last.max(last);
            lost.count += count;
        }
    }

    /// Nothing waits that would tell of these.
    fn tell_lost(&mut self, publisher: PublisherId, lost: &Lost) {
        if self.shared {
            self.tell_share(publisher, lost);
            return;
        }
        self.tracker.handle_first_lost(publisher, lost.first);
        if let Some(gap) = self.tracker.handle_lost_up_to(publisher, lost.last) {
            self.tell_gap(gap);
        }
    }

    /// Nothing waits: what a publisher's end says to have published has come, or does not. `None`: there is no such word.
    fn tell_head(&mut self) -> Option<()> {
        let (publisher, last) = self.heads.pop_first()?;
        match self.tracker.handle_head(publisher, last) {
            Some(gap) if self.asks => self.asked = Some(Asked { gap, then: None }),
            Some(gap) => self.tell_gap(gap),
            None => {}
        }
        Some(())
    }

    fn tell_gap(&mut self, gap: Gap) {
        if self.asks {
            self.tracker.handle_missing(&gap);
        }
        self.told.push_back(Delivery::Gap(gap));
    }

    /// Of the numbers from `first` to the one before `next` nothing has come back.
    fn tell_missing(&mut self, publisher: PublisherId, first: u64, next: u64) {
        if first < next {
            self.tell_gap(Gap { publisher, first, last: next - 1, missing: next - first });
        }
    }

    /// These were dropped before an event. It will itself tell of those below it.
    fn tell_lost_before(&mut self, message: &Message, lost: &Lost) {
        if self.shared {
            self.tell_share(message.publisher, lost);
        } else if lost.last > message.sequence {
            // The publisher has begun anew among those that were dropped.
            self.tell_lost(message.publisher, lost);
        } else {
            self.tracker.handle_first_lost(message.publisher, lost.first);
        }
    }

    fn tell_share(&mut self, publisher: PublisherId, lost: &Lost) {
        let Lost { first, last, count: missing } = *lost;
        let gap = Gap { publisher, first, last, missing };
        self.tracker.handle_share_lost(&gap);
        self.told.push_back(Delivery::Gap(gap));
    }
}
