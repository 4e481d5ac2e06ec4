//! The health of one instance as a caller sees it: what it did lately, how long others are preferred, how it comes back.

use core::time::Duration;

use crate::rng::Rng;
use crate::route::rules::Config;
use crate::time::Instant;

/// What became of a try at an instance, sorted by what it says of the instance.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its handler answered, well or badly, or said what is wrong with the request: nothing is wrong with the instance.
    Answered,
    /// It is alive and has no room. It may have said when to come back.
    Refused {
        /// Its wish.
        retry_after: Option<Duration>,
    },
    /// It is alive and takes no new calls.
    Leaving,
    /// It could not be dialed, dropped its connection, broke the protocol or does not serve what it is known for.
    Lost,
    /// It said nothing for as long as was waited.
    Silent,
    /// Nothing can be learned of the instance: the caller gave up, its deadline passed, something of its own was missing.
    Untold,
}

/// Where an instance stands; ordered by how grave it is.
///
/// ```text
///                lost                                  its term ends
///   Routable ──────────▶ Suspect ──┐                  ┌──────────▶ HalfOpen ◀─┐
///      ▲  │ several silent or      ├── 1 × base … cap ┘              │ began   │ ended without a verdict
///      │  │ lost more than others  │                                 ▼         │
///      │  └───────────▶ Ejected ───┘◀───────── lost, silent ─────── Probed ────┘
///      │  refused: Overloaded until its wish │ leaving: Leaving, then HalfOpen
///      └─────────── Warming ◀──────────────────── answered ──────────┘
/// ```
/// The first mark is forgiven at once; after a longer absence calls come back little by little. An instance with a lease
/// (`Overloaded`) may be in any other state as well.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Nothing is held against it.
    Routable,
    /// It answers again, and gets a growing part of the calls.
    Warming,
    /// Its mark has ended: one call may go there.
    HalfOpen,
    /// A call is there to see whether it answers; others stay away meanwhile.
    Probed,
    /// It had no room: others are preferred until its wish is over.
    Overloaded,
    /// It takes no new calls.
    Leaving,
    /// It lost far more calls than the others did: others are preferred, as long as they are not too few.
    Failing,
    /// It was silent several times in a row: the same.
    Silent,
    /// It could not be reached, or was lost: others are preferred.
    Suspect,
}

impl State {
    /// As it is shown: `routable`, `half-open` and the like.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Routable => "routable",
            Self::Suspect => "suspect",
            Self::Silent => "ejected: silent",
            Self::Failing => "ejected: failing",
            Self::Leaving => "leaving",
            Self::HalfOpen => "half-open",
            Self::Probed => "probed",
            Self::Overloaded => "overloaded",
            Self::Warming => "warming",
        }
    }

    /// Why it stands there, in words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Routable => "nothing is held against it",
            Self::Warming => "it answers again, and gets a growing part of the calls",
            Self::HalfOpen => "its mark has ended; the next call shows what it is worth",
            Self::Probed => "a call is there to see whether it answers",
            Self::Overloaded => "it had no room for a call",
            Self::Leaving => "it says that it takes no new calls",
            Self::Failing => "it lost far more calls than the others did",
            Self::Silent => "it was silent several times in a row",
            Self::Suspect => "it could not be reached, dropped its connection or does not serve the endpoint",
        }
    }
}

/// Why others are preferred.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
enum Out {
    #[default]
    Not,
    Suspect,
    Silent,
    Failing,
    Leaving,
}

/// Why an instance is ejected: a judgement, which is bounded and can be taken back, where suspicion rests on a fact.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// It was silent several times in a row.
    Silent,
    /// It lost far more calls than the others did.
    Failing,
}

/// A call that is to show what an instance is worth. Its end gives the place free for another.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Probe(u16);

/// What is held against one instance, and until when. A pure function of what happened and when; 32 bytes.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Health {
    /// From then on there is nothing to be minded.
    clear_at: Instant,
    /// Others are preferred until then; with [`Out::Not`] when it came back.
    out_until: Instant,
    /// It has no room until then.
    lease_until: Instant,
    /// Changes with each probe and with all that is learned: a probe of another time says nothing of this one.
    epoch: u16,
    /// How long it warms up after it came back, in hundredths of a second.
    warm: u16,
    /// Marks that count for the length of the next one.
    strikes: u8,
    /// Silent tries since the last answer.
    silences: u8,
    out: Out,
    probed: bool,
}

/// The least part of its calls that an instance gets while it warms up, in percent.
const LEAST_WEIGHT: u64 = 10;

impl Health {
    /// Nothing is held against it.
    pub const CLEAR: Self = Self {
        clear_at: Instant::ZERO,
        out_until: Instant::ZERO,
        lease_until: Instant::ZERO,
        epoch: 0,
        warm: 0,
        strikes: 0,
        silences: 0,
        out: Out::Not,
        probed: false,
    };

    /// It was lost. Returns whether that was news: while it is out and nobody probes it, more losses are echoes of the same
    /// event, as many calls lose one connection.
    pub fn lost(&mut self, now: Instant, config: &Config, rng: &mut Rng) -> bool {
        if self.is_out(now) && !self.probed {
            return false;
        }
        self.put_out(Out::Suspect, now, config, rng);
        true
    }

    /// It is ejected.
    pub fn ejected(&mut self, why: Why, now: Instant, config: &Config, rng: &mut Rng) {
        let out = match why {
            Why::Silent => Out::Silent,
            Why::Failing => Out::Failing,
        };
        self.put_out(out, now, config, rng);
    }

    /// It said nothing; one that was probed stays out for that. Returns whether it has been silent for so often that it is to
    /// be ejected.
    pub fn silent(&mut self, now: Instant, config: &Config, rng: &mut Rng) -> bool {
        if self.probed {
            let out = if self.out == Out::Leaving { Out::Suspect } else { self.out };
            self.put_out(out, now, config, rng);
            return false;
        }
        if config.silences == 0 || self.is_out(now) {
            return false;
        }
        self.silences = self.silences.saturating_add(1);
        self.silences >= config.silences
    }

    /// It was to be ejected and is not: the others would be too few.
    pub const fn spared(&mut self) {
        self.silences = 0;
    }

    /// It has no room: others are preferred for as long as it asks for. Returns whether that was news.
    pub fn refused(&mut self, retry_after: Option<Duration>, now: Instant, config: &Config) -> bool {
        self.free(now);
        let was_free = self.lease_until <= now;
        self.lease_until = self.lease_until.max(now + retry_after.unwrap_or(config.lease).min(config.lease_cap));
        self.learn();
        was_free && self.lease_until > now
    }

    /// It takes no new calls. Returns whether that was news.
    pub fn leaving(&mut self, now: Instant, config: &Config) -> bool {
        if self.is_out(now) && !self.probed {
            return false;
        }
        (self.out, self.probed) = (Out::Leaving, false);
        self.out_until = now + config.leaving;
        self.learn();
        true
    }

    /// It answered `probe`, or a call that is none. Returns whether it is back.
    pub fn answered(&mut self, probe: Option<Probe>, now: Instant, config: &Config) -> bool {
        self.silences = 0;
        let newer = probe == Some(Probe(self.epoch)) && self.lease_until > now;
        if self.out == Out::Not && !newer {
            return false;
        }
        if newer {
            // It was asked in spite of the lease, and took the call.
            self.lease_until = now;
        }
        let back = self.out != Out::Not;
        if back {
            // What was away for the length of a first mark has not gone cold.
            let warms = self.strikes > 1 || matches!(self.out, Out::Silent | Out::Failing);
            let most = u16::try_from(config.slow_start.as_millis() / 10).unwrap_or(u16::MAX);
            self.warm = if warms { most } else { 0 };
            (self.out, self.probed, self.out_until) = (Out::Not, false, now);
        }
        self.learn();
        back
    }

    /// A call is sent to it. If there is something to be learned of the instance, the call is a probe, and others stay away
    /// for one more term unless they have nowhere else to go.
    pub fn began(&mut self, now: Instant, config: &Config) -> Option<Probe> {
        // A call that goes there all the same, because nobody else was left, is one as well.
        let doubtful = self.out != Out::Not;
        if doubtful && config.inhibited.is_none() {
            self.probed = true;
            self.out_until = now + config.term(self.strikes);
        } else if doubtful || self.lease_until <= now {
            return None;
        }
        self.learn();
        Some(Probe(self.epoch))
    }

    /// A probe is over, however. If nothing was learned by it the next call probes.
    pub fn ended(&mut self, probe: Probe, now: Instant) {
        if probe == Probe(self.epoch) {
            self.free(now);
        }
    }

    /// The judgement on it is taken back; what it rests on is kept for the next one. Whether there was one.
    pub fn lift(&mut self, now: Instant) -> bool {
        let ejected = self.is_ejected();
        if ejected {
            (self.out, self.probed, self.out_until) = (Out::Not, false, now);
            self.learn();
        }
        ejected
    }

    /// Whether others are preferred because of what it did, and not because it has no room.
    pub fn is_out(&self, now: Instant) -> bool {
        self.out != Out::Not && now < self.out_until
    }

    /// Whether it is taken for dead: out, and not because it said that it leaves.
    pub fn is_down(&self, now: Instant) -> bool {
        self.out != Out::Leaving && self.is_out(now)
    }

    /// Whether it had no room, and asked to be left alone until later than now.
    pub fn is_leased(&self, now: Instant) -> bool {
        now < self.lease_until
    }

    /// Whether it is ejected and has not come back yet.
    pub const fn is_ejected(&self) -> bool {
        matches!(self.out, Out::Silent | Out::Failing)
    }

    /// Whether nothing is to be minded; the one question of the usual case.
    #[inline]
    pub fn is_clear(&self, now: Instant) -> bool {
        self.clear_at <= now
    }

    /// Whether others are preferred, for whatever reason but that it warms up.
    pub fn is_avoided(&self, now: Instant) -> bool {
        !self.is_clear(now) && now < self.avoided_until()
    }

    /// Until when others are preferred; [`Instant::ZERO`] or a time that is over if they are not.
    pub fn avoided_until(&self) -> Instant {
        if self.out == Out::Not { self.lease_until } else { self.out_until.max(self.lease_until) }
    }

    /// Whether its mark has ended and a call is to show what it is worth, or does already.
    pub fn is_doubtful(&self) -> bool {
        self.out != Out::Not
    }

    /// The part of its calls that it is to get, in percent: 100 but for one that warms up.
    pub fn weight(&self, now: Instant) -> u64 {
        let window = self.warm_for().as_millis();
        if self.out != Out::Not || window == 0 {
            return 100;
        }
        let part = now.since(self.out_until).as_millis().saturating_mul(100) / window;
        u64::try_from(part).unwrap_or(100).clamp(LEAST_WEIGHT, 100)
    }

    /// Where it stands, and until when that lasts if nothing happens. Of two things that hold at once the graver one.
    pub fn state(&self, now: Instant) -> (State, Option<Instant>) {
        let out = match self.out {
            Out::Not => None,
            _ if now >= self.out_until => Some((State::HalfOpen, None)),
            _ if self.probed => Some((State::Probed, Some(self.out_until))),
            Out::Suspect => Some((State::Suspect, Some(self.out_until))),
            Out::Silent => Some((State::Silent, Some(self.out_until))),
            Out::Failing => Some((State::Failing, Some(self.out_until))),
            Out::Leaving => Some((State::Leaving, Some(self.out_until))),
        };
        let lease = (now < self.lease_until).then_some((State::Overloaded, Some(self.lease_until)));
        let warm = (!self.is_clear(now)).then_some((State::Warming, Some(self.clear_at)));
        match out {
            Some((State::HalfOpen, _)) => lease.or(out),
            _ => out.or(lease).or(warm),
        }
        .unwrap_or((State::Routable, None))
    }

    fn put_out(&mut self, out: Out, now: Instant, config: &Config, rng: &mut Rng) {
        if self.out == Out::Not {
            self.strikes = self.strikes.saturating_sub(config.forgiven(now.since(self.out_until)));
        }
        self.strikes = self.strikes.saturating_add(1);
        (self.out, self.probed, self.silences) = (out, false, 0);
        self.out_until = now + config.jittered(config.term(self.strikes), rng);
        self.learn();
    }

    /// Out with others that are until the same time, as Dynamo has it.
    pub fn inhibit(&mut self, until: Instant) {
        (self.out, self.probed, self.silences, self.out_until) = (Out::Suspect, false, 0, until);
        self.learn();
    }

    /// Whatever put it out is forgotten; a lease is not.
    pub fn forgive(&mut self) {
        if self.out != Out::Not {
            (self.out, self.out_until) = (Out::Not, Instant::ZERO);
            self.learn();
        }
    }

    /// Nobody probes it any more.
    fn free(&mut self, now: Instant) {
        if core::mem::take(&mut self.probed) {
            self.out_until = now;
            self.learn();
        }
    }

    const fn warm_for(&self) -> Duration {
        Duration::from_millis(self.warm as u64 * 10)
    }

    fn learn(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        let warm = if self.out == Out::Not { self.out_until + self.warm_for() } else { Instant::FAR };
        self.clear_at = self.lease_until.max(warm);
    }
}
