//! Being registered: a lease kept alive, and the records under it, written again whenever the registry loses them.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::discovery::entry::{Entry, Step};
use crate::discovery::lease_event::{Action, Claimed, Event, LeaseId, Serves, Written};
use crate::discovery::trouble::{Cause, Trouble};
use crate::retry::backoff::{self, Backoff};
use crate::rng::Rng;
use crate::stats::counters;
use crate::time::{Deadline, Instant, Reason};

/// How a lease is kept.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Life of the lease without a renewal. Default 30 s, Dynamo's.
    pub ttl: Duration,
    /// Pauses after a failure; the number of attempts is not used, a lease is never given up. Default: full jitter up to
    /// 100 ms, doubling to 2 s.
    pub retry: backoff::Config,
    /// How long an answer may take. Default 5 s; at most a third of the time to live counts.
    pub answer: Duration,
    /// Time between two looks whether a record of ours is still there. Default 5 s.
    pub check: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            retry: backoff::Config {
                base: Duration::from_millis(100),
                cap: Duration::from_secs(2),
                attempts: u32::MAX,
            },
            answer: Duration::from_secs(5),
            check: Duration::from_secs(5),
        }
    }
}

counters! {
    /// What happened so far.
    pub struct Stats {
        /// Leases granted.
        pub grants,
        /// Renewals answered.
        pub renewals,
        /// Leases the registry forgot.
        pub losses,
        /// Records written, the first time and again.
        pub writes,
        /// Answers that did not come, and errors.
        pub failures,
    }
}

/// Where the lease stands.
///
/// ```text
///            granted              a third of the life over
///  Granting ─────────▶ Held ──────────────────────────────▶ Renewing
///    ▲  │ failed        ▲ ▲ └──── a write says NoLease ──┐     │ │
///    │  ▼               │ └──────────── renewed ─────────┼─────┘ │ failed: Held, after a pause
///    └─ Waiting ◀───────┼──── forgotten: at once ────────┴───────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Has asked for a lease.
    Granting,
    /// Pauses before asking for one.
    Waiting,
    /// Has one.
    Held(LeaseId),
    /// Has one and has asked to renew it.
    Renewing(LeaseId),
}

/// One process's lease and the records under it.
///
/// Run recipe: after each command and each `handle_*`, drain [`Lease::poll_action`] and [`Lease::poll_event`] and arm
/// [`Lease::poll_timeout`]. An unreachable registry is asked again for ever, and nobody's service ends for it: only the
/// registry's own word that the lease is gone makes it lost, whereupon a new one is asked for and every record written
/// under its old name. Bounded by the number of records: one action each is under way. Deadlines: answers, renewals and
/// checks ([`Reason::Registry`]), pauses ([`Reason::Retry`]). Why nothing comes of it is told once, and again only if it
/// changes.
#[derive(Debug)]
pub struct Lease {
    config: Config,
    rng: Rng,
    state: State,
    due: Instant,
    attempt: u64,
    attempts: u64,
    wish: Option<LeaseId>,
    backoff: Backoff,
    /// Whether the lease itself failed the last time.
    failing: bool,
    trouble: Trouble,
    records: BTreeMap<String, Entry>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Lease {
    /// Asks for a lease at once, of the id `wish` if that is free.
    pub fn new(config: Config, wish: Option<LeaseId>, rng: Rng, now: Instant) -> Self {
        let mut lease = Self {
            config,
            rng,
            state: State::Waiting,
            due: now,
            attempt: 0,
            attempts: 0,
            wish,
            backoff: Backoff::new(config.retry),
            failing: false,
            trouble: Trouble::default(),
            records: BTreeMap::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        };
        lease.ask(now);
        lease
    }

    /// Writes `value` at `key` as soon as there is a lease, and sees to it that it stays there. What somebody else has
    /// there instead is taken for ours if it `serves`.
    pub fn register(&mut self, key: String, value: Vec<u8>, serves: Serves, now: Instant) -> Claimed {
        if let Some(entry) = self.records.get_mut(&key) {
            if entry.leaving || !(entry.serves)(&key, &value, &entry.value) {
                return Claimed::Taken;
            }
            entry.claims = entry.claims.saturating_add(1);
            return Claimed::Shared;
        }
        let entry = Entry::new(value, serves, self.config.retry, now);
        self.records.insert(key, entry);
        self.handle_timeout(now);
        Claimed::New
    }

    /// Removes the record, as soon as the registry can be reached. `false` if others want it to stay.
    pub fn unregister(&mut self, key: &str, now: Instant) -> bool {
        if let Some(entry) = self.records.get_mut(key)
            && entry.claims > 1
        {
            entry.claims -= 1;
            return false;
        }
        if self.records.get(key).is_some_and(Entry::is_kept_out) {
            // Nothing there is ours.
            self.records.remove(key);
            self.events.push_back(Event::Removed { key: key.into() });
            self.settle();
        } else if let Some(entry) = self.records.get_mut(key) {
            // A write under way is waited for: it could overtake the removal.
            entry.leaving = true;
            if !entry.is_busy() {
                (entry.step, entry.due) = (Step::Leaving, now);
            }
        }
        self.handle_timeout(now);
        true
    }

    /// Our record holds another value by now: the one to see to from here on.
    pub fn replace(&mut self, key: &str, value: Vec<u8>) {
        if let Some(entry) = self.records.get_mut(key) {
            entry.value = value;
        }
    }

    /// Somebody saw that a record of ours is gone or another: looks now and not at the next check.
    pub fn recheck(&mut self, key: &str, now: Instant) {
        if let Some(entry) = self.records.get_mut(key)
            && entry.step == Step::Present
        {
            (entry.step, entry.due) = (Step::Missing, now);
        }
        self.handle_timeout(now);
    }

    /// A lease was granted, for this long.
    pub fn handle_granted(&mut self, attempt: u64, lease: LeaseId, ttl: Duration, now: Instant) {
        if attempt != self.attempt || self.state != State::Granting {
            return;
        }
        self.stats.grants += 1;
        self.failing = false;
        self.wish = Some(lease);
        self.events.push_back(Event::Granted(lease));
        self.hold(lease, ttl, now);
        self.settle();
        self.handle_timeout(now);
    }

    /// The id wished for is another's: the next lease may have any.
    pub fn handle_refused(&mut self, attempt: u64, now: Instant) {
        if attempt == self.attempt && self.state == State::Granting {
            self.wish = None;
            self.pause(now);
        }
    }

    /// The answer to a renewal: the life that is left, zero if there is no such lease.
    pub fn handle_renewed(&mut self, attempt: u64, ttl: Duration, now: Instant) {
        let State::Renewing(lease) = self.state else { return };
        if attempt != self.attempt {
            return;
        }
        self.failing = false;
        self.settle();
        if ttl.is_zero() {
            return self.lose(lease, now);
        }
        self.stats.renewals += 1;
        self.hold(lease, ttl, now);
    }

    /// The answer to a write.
    pub fn handle_written(&mut self, attempt: u64, written: Written, now: Instant) {
        let Some((key, entry)) = self.records.iter_mut().find(|(_, entry)| entry.is_at(Step::Writing, attempt)) else {
            return;
        };
        let (State::Held(lease) | State::Renewing(lease)) = self.state else { return };
        entry.failing = false;
        match written {
            _ if entry.leaving => (entry.step, entry.due) = (Step::Leaving, now),
            Written::NoLease => return self.lose(lease, now),
            Written::Changed => (entry.step, entry.due) = (Step::Missing, now),
            Written::Exists(found) if !(entry.serves)(key, &entry.value, &found.value) => {
                if !entry.told.foreign {
                    self.events.push_back(Event::Foreign { key: key.clone() });
                }
                entry.told.foreign = true;
                (entry.step, entry.due) = (Step::Missing, now + self.config.check);
            }
            // Under another lease it would go with that.
            Written::Exists(found) if found.lease != Some(lease) => {
                self.attempts += 1;
                entry.value = found.value;
                (entry.attempt, entry.due) = (self.attempts, now + self.config.answer());
                let (key, value) = (key.clone(), entry.value.clone());
                let action = Action::Adopt { attempt: entry.attempt, key, value, lease, revision: found.revision };
                self.actions.push_back(action);
            }
            Written::Done | Written::Exists(_) => {
                let fresh = written == Written::Done;
                if let Written::Exists(found) = written {
                    entry.value = found.value;
                }
                self.stats.writes += u64::from(fresh);
                if fresh || !entry.told.registered {
                    self.events.push_back(Event::Registered { key: key.clone(), again: entry.told.registered });
                }
                entry.on_registered(self.config.retry, now + self.config.check);
            }
        }
        self.settle();
        self.handle_timeout(now);
    }

    /// The record of the removal is gone, or was not ours.
    pub fn handle_removed(&mut self, attempt: u64) {
        let found = self.records.iter().find(|(_, entry)| entry.is_at(Step::Removing, attempt));
        if let Some(key) = found.map(|(key, _)| key.clone()) {
            self.records.remove(&key);
            self.events.push_back(Event::Removed { key });
            self.settle();
        }
    }

    /// An action failed: the registry is unreachable, cannot, or refuses.
    pub fn handle_failed(&mut self, attempt: u64, cause: Cause, now: Instant) {
        let pending = matches!(self.state, State::Granting | State::Renewing(_));
        if pending && attempt == self.attempt {
            self.fail(cause, now);
        } else if let Some((key, entry)) =
            self.records.iter_mut().find(|(_, entry)| entry.attempt == attempt && entry.is_busy())
        {
            self.stats.failures += 1;
            entry.fail(&self.config.retry, &mut self.rng, now);
            if let Some(refused) = entry.refuse(key, &cause) {
                self.events.push_back(refused);
            }
            self.complain(cause, now);
        }
    }

    /// A deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due <= now {
            match self.state {
                State::Waiting => self.ask(now),
                State::Held(lease) => self.renew(lease, now),
                State::Granting | State::Renewing(_) => self.fail(Cause::late(), now),
            }
        }
        let (lease, mut late) = (self.lease(), false);
        for (key, entry) in self.records.iter_mut().filter(|(_, entry)| entry.due <= now) {
            if entry.is_busy() {
                self.stats.failures += 1;
                entry.fail(&self.config.retry, &mut self.rng, now);
                late = true;
                continue;
            }
            let (key, value) = (key.clone(), entry.value.clone());
            let attempt = self.attempts + 1;
            let action = match (entry.step, lease) {
                (Step::Leaving, _) => Action::Remove { attempt, key, value },
                (_, Some(lease)) => Action::Create { attempt, key, value, lease },
                (_, None) => continue,
            };
            self.attempts = attempt;
            entry.step = if entry.step == Step::Leaving { Step::Removing } else { Step::Writing };
            (entry.attempt, entry.due) = (attempt, now + self.config.answer());
            self.actions.push_back(action);
        }
        if late {
            self.complain(Cause::late(), now);
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What the owner should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Lease::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let why = if self.state == State::Waiting { Reason::Retry } else { Reason::Registry };
        let has_lease = self.lease().is_some();
        // Without a lease there is nothing to do for a record that is to be written.
        let records = self.records.values().filter(|entry| has_lease || entry.is_busy() || entry.step == Step::Leaving);
        let first = records.map(|entry| entry.due).min().map(|at| Deadline { at, why: Reason::Registry });
        Deadline::soonest(Some(Deadline { at: self.due, why }), first)
    }

    /// The lease, while there is one.
    pub const fn lease(&self) -> Option<LeaseId> {
        match self.state {
            State::Held(lease) | State::Renewing(lease) => Some(lease),
            State::Granting | State::Waiting => None,
        }
    }

    /// Where the lease stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What is at the key, or shall be, if it is ours.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key).map(|entry| entry.value.as_slice())
    }

    /// Whether the record is there, as far as is known.
    pub fn is_registered(&self, key: &str) -> bool {
        self.records.get(key).is_some_and(|entry| entry.step == Step::Present)
    }

    /// Why what was tried last is not done, if anything is not.
    pub const fn cause(&self) -> Option<&Cause> {
        self.trouble.cause()
    }

    /// What happened so far.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn enter(&mut self, state: State, due: Instant) {
        trace!(from = ?self.state, to = ?state, "lease");
        (self.state, self.due) = (state, due);
    }

    fn ask(&mut self, now: Instant) {
        self.attempts += 1;
        self.attempt = self.attempts;
        self.enter(State::Granting, now + self.config.answer());
        self.actions.push_back(Action::Grant { attempt: self.attempt, wish: self.wish, ttl: self.config.ttl });
    }

    fn renew(&mut self, lease: LeaseId, now: Instant) {
        self.attempts += 1;
        self.attempt = self.attempts;
        self.enter(State::Renewing(lease), now + self.config.answer());
        self.actions.push_back(Action::Renew { attempt: self.attempt, lease });
    }

    fn hold(&mut self, lease: LeaseId, ttl: Duration, now: Instant) {
        self.backoff = Backoff::new(self.config.retry);
        // Not the last moment, and not all at the same one.
        let spread = self.rng.below(u64::try_from(ttl.as_nanos() / 12).unwrap_or(u64::MAX));
        self.enter(State::Held(lease), now + (ttl / 3).saturating_sub(Duration::from_nanos(spread)));
    }

    fn fail(&mut self, cause: Cause, now: Instant) {
        self.failing = true;
        if self.lease().is_none() {
            let refused = self.records.iter_mut().filter_map(|(key, entry)| entry.refuse(key, &cause));
            self.events.extend(refused);
        }
        self.complain(cause, now);
        self.pause(now);
    }

    fn complain(&mut self, cause: Cause, now: Instant) {
        if self.trouble.fail(cause.clone(), now) {
            self.events.push_back(Event::Failing(cause));
        }
    }

    /// The trouble is over when nothing is failing any more: what works does not speak for what does not.
    fn settle(&mut self) {
        let failing = self.failing || self.records.values().any(|entry| entry.failing);
        if !failing && self.trouble.settle() {
            self.events.push_back(Event::Recovered);
        }
    }

    fn pause(&mut self, now: Instant) {
        self.stats.failures += 1;
        let pause = self.backoff.pause(&mut self.rng).unwrap_or(self.config.retry.cap);
        let next = if let State::Renewing(lease) = self.state { State::Held(lease) } else { State::Waiting };
        self.enter(next, now + pause);
    }

    fn lose(&mut self, lease: LeaseId, now: Instant) {
        self.stats.losses += 1;
        debug!(lease = lease.0, "the registry has forgotten the lease");
        self.events.push_back(Event::Lost(lease));
        self.wish = Some(lease);
        for entry in self.records.values_mut().filter(|entry| matches!(entry.step, Step::Writing | Step::Present)) {
            let step = if entry.leaving { Step::Leaving } else { Step::Missing };
            (entry.step, entry.due, entry.attempt) = (step, now, 0);
        }
        self.ask(now);
    }
}

impl Config {
    fn answer(&self) -> Duration {
        self.answer.min(self.ttl / 3)
    }
}
