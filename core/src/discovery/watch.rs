//! Following a registry: a snapshot, then its changes, without a gap and without believing an outage.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::discovery::trouble::{Cause, Trouble};
use crate::retry::backoff::{self, Backoff};
use crate::rng::Rng;
use crate::stats::counters;
use crate::time::{Deadline, Instant, Reason};

/// What is kept in a registry: read from a whole key and its value.
pub trait Record: Clone + PartialEq {
    /// `None` for what cannot be used.
    fn read(key: &str, value: &[u8]) -> Option<Self>;
}

/// How patient a watch is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Pauses before a registry that failed is asked again; the number of attempts is not used, a watch never gives up.
    /// Default: full jitter up to 100 ms, doubling to 2 s.
    pub retry: backoff::Config,
    /// How long an answer may take. Default 5 s.
    pub answer: Duration,
    /// How long a watch may be silent before it is asked whether it lives. Default 10 s.
    pub quiet: Duration,
    /// How long records that a registry lost over an outage are kept for their owners to write again. Default 15 s.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retry: backoff::Config {
                base: Duration::from_millis(100),
                cap: Duration::from_secs(2),
                attempts: u32::MAX,
            },
            answer: Duration::from_secs(5),
            quiet: Duration::from_secs(10),
            grace: Duration::from_secs(15),
        }
    }
}

/// What the driver shall do. Answers carry the attempt, so that late ones are recognised.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read every key and the revision they belong to: [`Watch::handle_snapshot`].
    Snapshot {
        /// Goes back with the answer.
        attempt: u64,
    },
    /// Open a stream of the changes from this revision on: [`Watch::handle_opened`].
    Follow {
        /// Goes back with everything the stream says.
        attempt: u64,
        /// The first revision not seen yet.
        from: u64,
    },
    /// Ask the open stream for a sign of life: [`Watch::handle_progress`].
    Ask {
        /// The stream's.
        attempt: u64,
    },
    /// Drop whatever is open. Nothing of it is believed any more.
    Drop,
}

/// One change of one key, as the registry tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Raw {
    /// Written.
    Put {
        /// The whole key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removed.
    Delete {
        /// The whole key.
        key: String,
    },
}

/// What became of the set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<R> {
    /// A record is new or another.
    Put {
        /// The whole key.
        key: String,
        /// What it holds.
        record: R,
    },
    /// A record is gone.
    Removed {
        /// The whole key.
        key: String,
        /// What it held.
        record: R,
    },
    /// The set is complete as of a snapshot: [`Watch::iter`].
    Resync,
    /// The registry is not followed, and will be asked again: told when that begins and when its cause changes. The set
    /// stays.
    Failing(Cause),
    /// The registry is followed again.
    Recovered,
}

/// What ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Lost {
    /// The stream alone: it is resumed where it was.
    Stream,
    /// The registry: [`Watch::handle_failed`]. The one that comes back may be another, or have forgotten.
    Registry,
    /// The registry no longer has, or no longer tells, the changes from there on: compaction or cancel.
    History,
}

counters! {
    /// What happened so far.
    pub struct Stats {
        /// Snapshots taken in.
        pub snapshots,
        /// Streams opened.
        pub opened,
        /// Failures and ends of any kind.
        pub lost,
        /// Watches given up because they did not answer when asked.
        pub silent,
        /// Values that could not be used.
        pub ignored,
    }
}

/// ```text
///            answer                 answer                  quiet
///  Reading ───────────▶ Opening ────────────▶ Following ─────────────▶ Asked
///    ▲  │ lost, late       │ lost, late        │    ▲  ▲ any word       │ late
///    │  └────────┬─────────┴──────────┬────────┘    │  └────────────────┤
///    │           ▼                    ▼             │                   │
///    └──── Waiting(snapshot)   Waiting(resume) ◀────┼───────────────────┘
///             ▲  registry or history lost           │ pause over: Opening
///             └── pause over: Reading ──────────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Waits for a snapshot.
    Reading,
    /// Waits for the stream to open.
    Opening,
    /// Hears changes.
    Following,
    /// Has asked a silent stream for a sign of life.
    Asked,
    /// Pauses, then reads a snapshot.
    WaitingToRead,
    /// Pauses, then resumes the stream.
    WaitingToResume,
}

/// A watch on the keys of one prefix.
///
/// Run recipe: after each `handle_*`, drain [`Watch::poll_action`] and [`Watch::poll_event`] and arm
/// [`Watch::poll_timeout`]. An unreachable registry changes nothing about the set; what a registry has lost when it comes
/// back is kept for `grace`. Why it is not followed is told once, and again only if it changes. Bounded by what the registry holds. Deadlines: answer, quiet and grace ([`Reason::Registry`]),
/// pauses ([`Reason::Retry`]).
#[derive(Debug)]
pub struct Watch<R> {
    config: Config,
    rng: Rng,
    state: State,
    due: Instant,
    pub(super) attempt: u64,
    revision: u64,
    /// Whether the registry was away since the last snapshot.
    doubt: bool,
    grace: Option<Instant>,
    backoff: Backoff,
    trouble: Trouble,
    known: BTreeMap<String, Known<R>>,
    actions: VecDeque<Action>,
    events: VecDeque<Event<R>>,
    stats: Stats,
}

#[derive(Debug)]
struct Known<R> {
    record: R,
    /// Not in the last snapshot, kept for the grace time.
    held: bool,
}

impl<R: Record> Watch<R> {
    /// A watch that begins with a snapshot.
    pub fn new(config: Config, rng: Rng, now: Instant) -> Self {
        let mut watch = Self {
            config,
            rng,
            state: State::Reading,
            due: now,
            attempt: 0,
            revision: 0,
            doubt: false,
            grace: None,
            backoff: Backoff::new(config.retry),
            trouble: Trouble::default(),
            known: BTreeMap::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        };
        watch.read(now);
        watch
    }

    /// The snapshot asked for: its revision, whole keys and values.
    pub fn handle_snapshot(&mut self, attempt: u64, revision: u64, entries: Vec<(String, Vec<u8>)>, now: Instant) {
        if !self.expects(attempt, State::Reading) {
            return;
        }
        self.stats.snapshots += 1;
        // A younger registry than the one known has forgotten, too.
        let keep = self.doubt || revision < self.revision;
        self.replace(entries, keep);
        self.grace = self.known.values().any(|known| known.held).then(|| now + self.config.grace);
        (self.doubt, self.revision) = (false, revision);
        self.events.push_back(Event::Resync);
        self.follow(now);
    }

    /// The stream is open, and the registry is at `revision`.
    pub fn handle_opened(&mut self, attempt: u64, revision: u64, now: Instant) {
        if !self.expects(attempt, State::Opening) {
            return;
        }
        if revision < self.revision {
            return self.lose(Lost::Registry, now);
        }
        self.stats.opened += 1;
        self.hear(now);
    }

    /// Changes up to and with `revision`, in their order.
    pub fn handle_changes(&mut self, attempt: u64, revision: u64, changes: Vec<Raw>, now: Instant) {
        if !self.is_open(attempt) {
            return;
        }
        for change in changes {
            match change {
                Raw::Put { key, value } => self.put(key, &value),
                Raw::Delete { key } => self.remove(&key),
            }
        }
        self.revision = self.revision.max(revision);
        // A stream that brings something works: the next failure is a new one.
        self.backoff = Backoff::new(self.config.retry);
        self.hear(now);
    }

    /// The stream lives, and everything up to `revision` has been told.
    pub fn handle_progress(&mut self, attempt: u64, revision: u64, now: Instant) {
        self.handle_changes(attempt, revision, Vec::new(), now);
    }

    /// What was asked for failed, or what was open ended.
    pub fn handle_lost(&mut self, attempt: u64, what: Lost, now: Instant) {
        if what == Lost::Registry {
            self.handle_failed(attempt, Cause::late(), now);
        } else if attempt == self.attempt && !matches!(self.state, State::WaitingToRead | State::WaitingToResume) {
            self.lose(what, now);
        }
    }

    /// What was asked for failed: the registry cannot be reached, cannot, or refuses.
    pub fn handle_failed(&mut self, attempt: u64, cause: Cause, now: Instant) {
        if attempt == self.attempt && !matches!(self.state, State::WaitingToRead | State::WaitingToResume) {
            self.fail(cause, now);
        }
    }

    /// A deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.grace.is_some_and(|at| at <= now) {
            self.grace = None;
            self.drop_held();
        }
        if self.due > now {
            return;
        }
        match self.state {
            State::WaitingToRead => self.read(now),
            State::WaitingToResume => self.follow(now),
            State::Following => {
                self.enter(State::Asked, now + self.config.answer);
                self.actions.push_back(Action::Ask { attempt: self.attempt });
            }
            State::Asked => {
                self.stats.silent += 1;
                self.fail(Cause::late(), now);
            }
            State::Reading | State::Opening => self.fail(Cause::late(), now),
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What became of the set.
    pub fn poll_event(&mut self) -> Option<Event<R>> {
        self.events.pop_front()
    }

    /// When to call [`Watch::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let why = match self.state {
            State::WaitingToRead | State::WaitingToResume => Reason::Retry,
            _ => Reason::Registry,
        };
        let grace = self.grace.map(|at| Deadline { at, why: Reason::Registry });
        Deadline::soonest(Some(Deadline { at: self.due, why }), grace)
    }

    /// The records known, by whole key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &R)> {
        self.known.iter().map(|(key, known)| (key.as_str(), &known.record))
    }

    /// Why the registry is not followed, if it is not.
    pub const fn cause(&self) -> Option<&Cause> {
        self.trouble.cause()
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What happened so far.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn enter(&mut self, state: State, due: Instant) {
        trace!(from = ?self.state, to = ?state, "watch");
        (self.state, self.due) = (state, due);
    }

    fn read(&mut self, now: Instant) {
        self.attempt += 1;
        self.enter(State::Reading, now + self.config.answer);
        self.actions.push_back(Action::Snapshot { attempt: self.attempt });
    }

    fn follow(&mut self, now: Instant) {
        self.attempt += 1;
        self.enter(State::Opening, now + self.config.answer);
        self.actions.push_back(Action::Follow { attempt: self.attempt, from: self.revision.saturating_add(1) });
    }

    fn hear(&mut self, now: Instant) {
        if self.trouble.settle() {
            self.events.push_back(Event::Recovered);
        }
        self.enter(State::Following, now + self.config.quiet);
    }

    fn fail(&mut self, cause: Cause, now: Instant) {
        if self.trouble.fail(cause.clone(), now) {
            self.events.push_back(Event::Failing(cause));
        }
        self.lose(Lost::Registry, now);
    }

    fn lose(&mut self, what: Lost, now: Instant) {
        self.stats.lost += 1;
        debug!(state = ?self.state, what = ?what, "a watch was interrupted");
        self.doubt |= what == Lost::Registry;
        let resume = what == Lost::Stream && !self.doubt && self.state != State::Reading;
        let pause = self.backoff.pause(&mut self.rng).unwrap_or(self.config.retry.cap);
        self.enter(if resume { State::WaitingToResume } else { State::WaitingToRead }, now + pause);
        self.actions.clear();
        self.actions.push_back(Action::Drop);
    }

    fn expects(&self, attempt: u64, state: State) -> bool {
        attempt == self.attempt && self.state == state
    }

    fn is_open(&self, attempt: u64) -> bool {
        attempt == self.attempt && matches!(self.state, State::Opening | State::Following | State::Asked)
    }

    fn put(&mut self, key: String, value: &[u8]) {
        let Some(record) = R::read(&key, value) else {
            self.stats.ignored += 1;
            debug!(key = key.as_str(), "a record that cannot be used is ignored");
            // Somebody wrote it: whatever was known of the key goes on.
            if let Some(known) = self.known.get_mut(&key) {
                known.held = false;
            }
            return;
        };
        let fresh = Known { record: record.clone(), held: false };
        let before = self.known.insert(key.clone(), fresh);
        if before.is_none_or(|before| before.record != record) {
            self.events.push_back(Event::Put { key, record });
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, known)) = self.known.remove_entry(key) {
            self.events.push_back(Event::Removed { key, record: known.record });
        }
    }

    fn replace(&mut self, entries: Vec<(String, Vec<u8>)>, keep: bool) {
        self.known.values_mut().for_each(|known| known.held = true);
        let mut puts = VecDeque::new();
        core::mem::swap(&mut puts, &mut self.events);
        for (key, value) in entries {
            self.put(key, &value);
        }
        // Removals are told first.
        core::mem::swap(&mut puts, &mut self.events);
        if !keep {
            self.drop_held_quietly();
        }
        self.events.append(&mut puts);
    }

    fn drop_held(&mut self) {
        self.drop_held_quietly();
        self.events.push_back(Event::Resync);
    }

    fn drop_held_quietly(&mut self) {
        let held: Vec<_> = self.known.iter().filter(|(_, known)| known.held).map(|(key, _)| key.clone()).collect();
        held.iter().for_each(|key| self.remove(key));
    }
}
