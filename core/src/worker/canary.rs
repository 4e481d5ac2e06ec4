//! When an endpoint is sent a request of its worker's own, a canary, and what follows from what becomes of it.

use core::time::Duration;

use crate::rng::Rng;
use crate::stats::counters;
use crate::time::{Deadline, Instant, Reason};

/// When canaries are sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Whether any are, to endpoints that have one. Default `false`, as in Dynamo.
    pub enabled: bool,
    /// From an endpoint's last answer, to whomever, to its next canary; the first is sent at once. Default 10 s, as in Dynamo.
    pub wait: Duration,
    /// How much that is made longer or shorter by chance, in percent of it. Default 20. More than 100 counts as 100.
    pub jitter: u8,
    /// How long the first item of the answer may take. A core that does not come round to it is given twice as long. Default
    /// 3 s, as in Dynamo.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: false, wait: Duration::from_secs(10), jitter: 20, timeout: Duration::from_secs(3) }
    }
}

impl Config {
    fn draw(&self, rng: &mut Rng) -> Duration {
        let nanos = u64::try_from(self.wait.as_nanos()).unwrap_or(u64::MAX);
        let reach = nanos / 100 * u64::from(self.jitter.min(100));
        let drawn = rng.below(reach.saturating_mul(2).saturating_add(1));
        Duration::from_nanos((nanos - reach).saturating_add(drawn))
    }
}

counters! {
    /// What became of canaries; merged by addition.
    pub struct Stats {
        /// Canaries sent.
        pub sent,
        /// Canaries that were answered.
        pub answered,
        /// Canaries that failed: the handler did, or there was no way to it.
        pub failed,
        /// Canaries that were not answered in time.
        pub late,
        /// Canaries that say nothing, as there was no room for them.
        pub untold,
        /// Times that an endpoint was found to be unwell, and was taken out of discovery.
        pub withdrawn,
        /// Times that one was found to be well again, and was put back.
        pub returned,
    }
}

/// What became of a canary.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The endpoint has answered.
    Answered,
    /// Its handler has failed, or there is no way to it.
    Failed,
    /// It has not answered in time.
    Late,
    /// Nothing can be learned: there was no room for it, or it was not sent.
    Untold,
}

/// What is to be done when a deadline has passed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send a canary, and tell what becomes of it: [`Canary::handle_outcome`].
    Ask,
    /// Nothing more is expected of the one that was sent.
    GiveUp,
    /// Nothing.
    Rest,
}

/// Where the canary of one endpoint stands.
///
/// ```text
///        ┌── the endpoint has answered somebody meanwhile ──┐
///        ▼                                                  │
///  Waiting ──nobody was answered for a time──▶ Asked        │
///     │  ▲                                      │           │
///     │  └──its outcome, or twice the timeout───┘           │
///     └─────────────────────────────────────────────────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// Nothing is asked until so long after the last answer.
    Waiting { since: Instant, wait: Duration },
    /// A canary is under way.
    Asked { until: Instant },
}

/// The canary of one endpoint. To be run by whoever can send it: [`poll_timeout`](Self::poll_timeout) says when to come back with
/// [`handle_timeout`](Self::handle_timeout), which says what to do; [`is_well`](Self::is_well) is the verdict of the moment.
///
/// # Deadlines
/// `Canary`: one is due, or has been under way for too long.
#[derive(Debug)]
pub struct Canary {
    config: Config,
    rng: Rng,
    state: State,
    /// The endpoint's last good answer when the latest canary was sent. Any other one since counts, however late it is told.
    answered: Option<Instant>,
    well: bool,
    stats: Stats,
}

impl Canary {
    /// Of an endpoint that is well as far as is known. The first canary is due at once; `seed` drives the jitter of others.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let state = State::Waiting { since: now, wait: Duration::ZERO };
        Self { config, rng: Rng::new(seed), state, answered: None, well: true, stats: Stats::default() }
    }

    /// What became of the canary that was sent. It says nothing once it has been given up. One that failed or is late says nothing
    /// either if the endpoint has answered somebody since it was sent. `answered`: when the endpoint last ended a call well, if
    /// it ever did.
    pub fn handle_outcome(&mut self, outcome: Outcome, answered: Option<Instant>, now: Instant) {
        if !matches!(self.state, State::Asked { .. }) {
            return;
        }
        match outcome {
            Outcome::Answered => self.stats.answered += 1,
            Outcome::Failed => self.stats.failed += 1,
            Outcome::Late => self.stats.late += 1,
            Outcome::Untold => self.stats.untold += 1,
        }
        match outcome {
            Outcome::Answered => self.judge(true),
            Outcome::Failed | Outcome::Late => self.judge(self.newer(answered).is_some()),
            Outcome::Untold => {}
        }
        self.state = State::Waiting { since: now, wait: self.config.draw(&mut self.rng) };
    }

    /// Time has passed. `answered`: when the endpoint last ended a call well, if it ever did.
    pub fn handle_timeout(&mut self, answered: Option<Instant>, now: Instant) -> Step {
        match self.state {
            State::Asked { until } if until <= now => {
                self.handle_outcome(Outcome::Late, answered, now);
                Step::GiveUp
            }
            State::Asked { .. } => Step::Rest,
            State::Waiting { since, wait } => {
                let last = self.newer(answered);
                if last.is_some() {
                    self.judge(true);
                }
                let since = last.map_or(since, |last| last.max(since));
                if since + wait > now {
                    self.state = State::Waiting { since, wait };
                    return Step::Rest;
                }
                self.stats.sent += 1;
                self.answered = answered;
                self.state = State::Asked { until: now + self.config.timeout * 2 };
                Step::Ask
            }
        }
    }

    /// When to wake this machine, and why.
    pub fn poll_timeout(&self) -> Deadline {
        let at = match self.state {
            State::Waiting { since, wait } => since + wait,
            State::Asked { until } => until,
        };
        Deadline { at, why: Reason::Canary }
    }

    /// Whether callers are to be sent to the endpoint.
    pub const fn is_well(&self) -> bool {
        self.well
    }

    /// What has been counted since this was asked last.
    pub fn take_stats(&mut self) -> Stats {
        core::mem::take(&mut self.stats)
    }

    /// The last good answer, if there has been one since the latest canary was sent.
    fn newer(&self, answered: Option<Instant>) -> Option<Instant> {
        answered.filter(|_| answered != self.answered)
    }

    fn judge(&mut self, well: bool) {
        match (self.well, well) {
            (true, false) => self.stats.withdrawn += 1,
            (false, true) => self.stats.returned += 1,
            _ => {}
        }
        self.well = well;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::ZERO;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn canary() -> Canary {
        Canary::new(Config { enabled: true, jitter: 0, ..Config::default() }, 1, T0)
    }

    /// Sends one when it is due, and tells what becomes of it at once.
    fn ask(canary: &mut Canary, outcome: Outcome) -> Instant {
        let at = canary.poll_timeout().at;
        assert_eq!(canary.handle_timeout(None, at), Step::Ask);
        canary.handle_outcome(outcome, None, at);
        at
    }

    #[test]
    fn an_endpoint_that_fails_or_is_late_is_unwell_until_it_answers_and_want_of_room_says_nothing() {
        let mut canary = canary();
        assert_eq!(ask(&mut canary, Outcome::Untold), T0, "the first is due at once");
        assert!(canary.is_well());
        assert_eq!(ask(&mut canary, Outcome::Failed), T0 + secs(10));
        assert!(!canary.is_well());
        ask(&mut canary, Outcome::Untold);
        ask(&mut canary, Outcome::Failed);
        assert!(!canary.is_well());
        ask(&mut canary, Outcome::Answered);
        assert!(canary.is_well());
        let at = canary.poll_timeout().at;
        assert_eq!(canary.handle_timeout(None, at), Step::Ask);
        let until = canary.poll_timeout();
        assert_eq!(until, Deadline { at: at + secs(6), why: Reason::Canary });
        assert_eq!(canary.handle_timeout(None, at + secs(5)), Step::Rest);
        assert!(canary.is_well(), "it has time left");
        assert_eq!(canary.handle_timeout(None, until.at), Step::GiveUp);
        canary.handle_outcome(Outcome::Answered, None, until.at);
        assert!(!canary.is_well(), "what comes after that says nothing");
        let stats = Stats { sent: 6, answered: 1, failed: 2, late: 1, untold: 2, withdrawn: 2, returned: 1 };
        assert_eq!((canary.take_stats(), canary.take_stats()), (stats, Stats::default()));
    }

    #[test]
    fn an_endpoint_that_answers_its_callers_is_sent_none_and_is_well() {
        let mut canary = canary();
        ask(&mut canary, Outcome::Failed);
        let at = |seconds| Some(T0 + secs(seconds));
        assert_eq!(canary.handle_timeout(at(4), T0 + secs(10)), Step::Rest);
        assert!(canary.is_well());
        assert_eq!(canary.poll_timeout().at, T0 + secs(14));
        assert_eq!(canary.handle_timeout(at(14), T0 + secs(14)), Step::Rest);
        assert_eq!(canary.handle_timeout(at(14), T0 + secs(24)), Step::Ask);
        canary.handle_outcome(Outcome::Failed, at(14), T0 + secs(25));
        assert!(!canary.is_well());
        assert_eq!(canary.handle_timeout(at(14), T0 + secs(35)), Step::Ask, "an answer from before counts no more");
    }

    #[test]
    fn an_answer_to_a_caller_while_a_canary_is_under_way_outweighs_its_failure() {
        let at = |seconds| Some(T0 + secs(seconds));
        // Told with the outcome.
        let mut canary = canary();
        ask(&mut canary, Outcome::Failed);
        assert_eq!(canary.handle_timeout(None, T0 + secs(10)), Step::Ask);
        canary.handle_outcome(Outcome::Failed, at(11), T0 + secs(12));
        assert!(canary.is_well());
        assert_eq!(canary.handle_timeout(at(11), T0 + secs(22)), Step::Ask);
        assert_eq!(canary.handle_timeout(at(23), T0 + secs(28)), Step::GiveUp);
        assert!(canary.is_well(), "it is late, as its callers' answers are not");
        // Told after it, though it was earlier; the next canary is due after the outcome all the same.
        assert_eq!(canary.handle_timeout(at(23), T0 + secs(38)), Step::Ask);
        canary.handle_outcome(Outcome::Failed, at(23), T0 + secs(40));
        assert!(!canary.is_well());
        assert_eq!(canary.handle_timeout(at(39), T0 + secs(45)), Step::Rest);
        assert!(canary.is_well());
        assert_eq!(canary.poll_timeout().at, T0 + secs(50));
        // It counts once.
        assert_eq!(canary.handle_timeout(at(39), T0 + secs(50)), Step::Ask);
        canary.handle_outcome(Outcome::Failed, at(39), T0 + secs(50));
        assert!(!canary.is_well());
        let stats = Stats { sent: 5, failed: 4, late: 1, withdrawn: 3, returned: 2, ..Stats::default() };
        assert_eq!(canary.take_stats(), stats);
    }

    #[test]
    fn workers_that_began_together_do_not_ask_together() {
        let waits = (0..200).map(|seed| {
            let mut canary = Canary::new(Config { enabled: true, ..Config::default() }, seed, T0);
            ask(&mut canary, Outcome::Answered);
            canary.poll_timeout().at.since(T0)
        });
        let (shortest, longest) =
            waits.fold((Duration::MAX, Duration::ZERO), |(a, b), wait| (a.min(wait), b.max(wait)));
        assert!(shortest >= secs(8) && shortest < Duration::from_millis(8200), "{shortest:?}");
        assert!(longest <= secs(12) && longest > Duration::from_millis(11_800), "{longest:?}");
    }
}
