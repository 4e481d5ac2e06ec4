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
    attempt: u64,
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

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    impl Record for u32 {
        fn read(_: &str, value: &[u8]) -> Option<Self> {
            core::str::from_utf8(value).ok()?.parse().ok()
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn entries(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        list.iter().map(|(key, value)| ((*key).to_string(), value.as_bytes().to_vec())).collect()
    }

    fn actions(watch: &mut Watch<u32>) -> Vec<Action> {
        core::iter::from_fn(|| watch.poll_action()).collect()
    }

    /// What became of the set.
    fn told(watch: &mut Watch<u32>) -> Vec<String> {
        everything(watch).into_iter().filter(|line| !line.starts_with('!')).collect()
    }

    /// That, and how the registry is.
    fn everything(watch: &mut Watch<u32>) -> Vec<String> {
        let tell = |event| match event {
            Event::Put { key, record } => format!("+{key}={record}"),
            Event::Removed { key, .. } => format!("-{key}"),
            Event::Resync => "sync".to_string(),
            Event::Failing(cause) => format!("!{cause}"),
            Event::Recovered => "!well".to_string(),
        };
        core::iter::from_fn(|| watch.poll_event()).map(tell).collect()
    }

    fn set(watch: &Watch<u32>) -> String {
        watch.iter().map(|(key, value)| format!("{key}={value} ")).collect()
    }

    /// Following at revision 5 with a=1 and b=2; attempts 1 (snapshot) and 2 (stream).
    fn following() -> Watch<u32> {
        let mut watch = Watch::new(Config::default(), Rng::new(7), at(0));
        assert_eq!(actions(&mut watch), [Action::Snapshot { attempt: 1 }]);
        watch.handle_snapshot(1, 5, entries(&[("a", "1"), ("b", "2")]), at(1));
        assert_eq!(told(&mut watch), ["+a=1", "+b=2", "sync"]);
        assert_eq!(actions(&mut watch), [Action::Follow { attempt: 2, from: 6 }]);
        watch.handle_opened(2, 5, at(2));
        assert_eq!(watch.state(), State::Following);
        watch
    }

    /// Lets the pause pass.
    fn wake(watch: &mut Watch<u32>) -> Vec<Action> {
        let deadline = watch.poll_timeout().unwrap();
        watch.handle_timeout(deadline.at);
        actions(watch)
    }

    #[test]
    fn changes_follow_the_snapshot_without_a_gap() {
        let mut watch = following();
        let put = |key: &str, value: &str| Raw::Put { key: key.to_string(), value: value.into() };
        let delete = Raw::Delete { key: "a".to_string() };
        watch.handle_changes(2, 6, vec![put("c", "3"), delete.clone(), delete, put("b", "2"), put("b", "4")], at(3));
        assert_eq!(told(&mut watch), ["+c=3", "-a", "+b=4"]);
        assert_eq!(set(&watch), "b=4 c=3 ");
    }

    #[test]
    fn a_stream_that_ends_is_resumed_after_the_last_revision_heard_of() {
        let mut watch = following();
        watch.handle_progress(2, 9, at(3));
        watch.handle_lost(2, Lost::Stream, at(4));
        assert_eq!(actions(&mut watch), [Action::Drop]);
        assert_eq!(wake(&mut watch), [Action::Follow { attempt: 3, from: 10 }]);
        watch.handle_opened(3, 12, at(200));
        assert_eq!((watch.state(), watch.stats().snapshots), (State::Following, 1));
    }

    #[test]
    fn compaction_and_cancel_lead_to_a_resync_that_tells_the_difference() {
        let mut watch = following();
        watch.handle_lost(2, Lost::History, at(4));
        actions(&mut watch);
        assert_eq!(wake(&mut watch), [Action::Snapshot { attempt: 3 }]);
        watch.handle_snapshot(3, 20, entries(&[("b", "5"), ("c", "3")]), at(100));
        assert_eq!(told(&mut watch), ["-a", "+b=5", "+c=3", "sync"]);
        assert_eq!(actions(&mut watch), [Action::Follow { attempt: 4, from: 21 }]);
    }

    #[test]
    fn a_silent_watch_is_asked_and_then_given_up() {
        let mut watch = following();
        assert_eq!(wake(&mut watch), [Action::Ask { attempt: 2 }]);
        watch.handle_progress(2, 6, at(11_000));
        assert_eq!(watch.state(), State::Following);
        assert_eq!(wake(&mut watch), [Action::Ask { attempt: 2 }]);
        assert_eq!(wake(&mut watch), [Action::Drop]);
        assert_eq!((watch.state(), watch.stats().silent), (State::WaitingToRead, 1));
        assert_eq!(wake(&mut watch), [Action::Snapshot { attempt: 3 }]);
    }

    #[test]
    fn an_unreachable_registry_never_empties_the_set() {
        let mut watch = following();
        watch.handle_lost(2, Lost::Registry, at(10));
        let mut now = at(10);
        let mut reads = 0;
        while now < at(120_000) {
            now = watch.poll_timeout().unwrap().at;
            watch.handle_timeout(now);
            reads += actions(&mut watch).iter().filter(|action| matches!(action, Action::Snapshot { .. })).count();
            watch.handle_lost(watch.attempt, Lost::Registry, now);
        }
        assert_eq!((told(&mut watch), set(&watch)), (vec![], "a=1 b=2 ".to_string()));
        assert!((60..1000).contains(&reads), "{reads} tries in two minutes");
    }

    #[test]
    fn what_a_registry_lost_over_an_outage_is_kept_for_the_grace_time() {
        let mut watch = following();
        watch.handle_lost(2, Lost::Registry, at(10));
        actions(&mut watch);
        wake(&mut watch);
        watch.handle_snapshot(3, 1, entries(&[]), at(1000));
        assert_eq!((told(&mut watch), set(&watch)), (vec!["sync".to_string()], "a=1 b=2 ".to_string()));
        watch.handle_opened(4, 1, at(1001));
        let back = Raw::Put { key: "a".to_string(), value: b"1".to_vec() };
        watch.handle_changes(4, 2, vec![back], at(3000));
        assert!(told(&mut watch).is_empty(), "the same record is no news");
        watch.handle_timeout(at(15_999));
        assert_eq!(set(&watch), "a=1 b=2 ");
        watch.handle_timeout(at(16_000));
        assert_eq!(told(&mut watch), ["-b", "sync"]);
    }

    #[test]
    fn an_explicit_delete_ends_the_grace_of_its_key() {
        let mut watch = following();
        watch.handle_lost(2, Lost::Registry, at(10));
        actions(&mut watch);
        wake(&mut watch);
        watch.handle_snapshot(3, 1, entries(&[]), at(1000));
        told(&mut watch);
        watch.handle_changes(4, 2, vec![Raw::Delete { key: "a".to_string() }], at(1001));
        assert_eq!(told(&mut watch), ["-a"]);
    }

    #[test]
    fn a_registry_younger_than_what_is_known_of_it_is_read_anew() {
        let mut watch = following();
        watch.handle_lost(2, Lost::Stream, at(4));
        actions(&mut watch);
        wake(&mut watch);
        watch.handle_opened(3, 1, at(200));
        assert_eq!((watch.state(), actions(&mut watch)), (State::WaitingToRead, vec![Action::Drop]));
        assert_eq!(set(&watch), "a=1 b=2 ");
    }

    #[test]
    fn late_answers_of_earlier_attempts_are_not_believed() {
        let mut watch = following();
        watch.handle_snapshot(1, 50, entries(&[]), at(5));
        watch.handle_opened(2, 0, at(5));
        watch.handle_lost(1, Lost::Registry, at(5));
        watch.handle_changes(1, 50, vec![Raw::Delete { key: "a".to_string() }], at(5));
        assert_eq!((watch.state(), set(&watch).as_str()), (State::Following, "a=1 b=2 "));
        watch.handle_lost(2, Lost::Stream, at(6));
        actions(&mut watch);
        watch.handle_changes(2, 50, vec![Raw::Delete { key: "a".to_string() }], at(7));
        watch.handle_lost(2, Lost::Registry, at(7));
        assert_eq!((watch.state(), set(&watch).as_str()), (State::WaitingToResume, "a=1 b=2 "));
    }

    #[test]
    fn a_snapshot_or_stream_that_does_not_come_is_asked_for_again() {
        let mut watch = Watch::<u32>::new(Config::default(), Rng::new(1), at(0));
        actions(&mut watch);
        watch.handle_timeout(at(4_999));
        assert_eq!(watch.state(), State::Reading);
        watch.handle_timeout(at(5_000));
        assert_eq!(watch.state(), State::WaitingToRead);
        actions(&mut watch);
        assert_eq!(wake(&mut watch), [Action::Snapshot { attempt: 2 }]);
        watch.handle_snapshot(2, 5, entries(&[]), at(5_200));
        actions(&mut watch);
        watch.handle_timeout(at(10_200));
        assert_eq!(watch.state(), State::WaitingToRead, "the registry is in doubt: not resumed blindly");
    }

    #[test]
    fn why_a_registry_is_not_followed_is_told_when_that_begins_and_when_it_changes() {
        let mut watch = following();
        watch.handle_lost(2, Lost::Stream, at(3));
        assert_eq!(everything(&mut watch), [""; 0], "a stream that ends is nobody's trouble");
        wake(&mut watch);
        let (away, refused) = (Cause::Away("x".to_string()), Cause::Refused("no rights".to_string()));
        let mut heard = Vec::new();
        for cause in [&away, &away, &refused, &refused] {
            let now = watch.poll_timeout().unwrap().at;
            watch.handle_failed(watch.attempt, cause.clone(), now);
            heard.extend(everything(&mut watch));
            wake(&mut watch);
        }
        assert_eq!((heard, watch.cause()), (vec!["!x".to_string(), "!no rights".to_string()], Some(&refused)));
        let now = watch.poll_timeout().unwrap().at;
        watch.handle_snapshot(watch.attempt, 7, entries(&[("a", "1"), ("b", "2")]), now);
        assert_eq!(everything(&mut watch), ["sync"], "not followed yet");
        watch.handle_opened(watch.attempt, 7, now);
        assert_eq!((everything(&mut watch), watch.cause()), (vec!["!well".to_string()], None));
    }

    #[test]
    fn an_unusable_value_leaves_the_last_good_record() {
        let mut watch = following();
        let junk = |key: &str| Raw::Put { key: key.to_string(), value: b"junk".to_vec() };
        watch.handle_changes(2, 6, vec![junk("a"), junk("z")], at(3));
        assert_eq!((told(&mut watch), set(&watch)), (vec![], "a=1 b=2 ".to_string()));
        watch.handle_lost(2, Lost::History, at(4));
        actions(&mut watch);
        wake(&mut watch);
        watch.handle_snapshot(3, 9, entries(&[("a", "junk"), ("b", "2")]), at(100));
        assert_eq!((told(&mut watch), set(&watch)), (vec!["sync".to_string()], "a=1 b=2 ".to_string()));
        assert_eq!(watch.stats().ignored, 3);
    }
}
