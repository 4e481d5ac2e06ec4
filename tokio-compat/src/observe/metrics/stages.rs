//! What is counted of each endpoint: the stages of its calls, and of the requests for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringplane_core::caller::error::Kind;
use ringplane_core::observer::{CallEnded, RequestEnded, RequestRunning};

use crate::observe::metrics::histogram::{Histogram, Times, add};

/// Outcomes of calls.
pub(super) const CALL_OUTCOMES: [&str; 11] = [
    "ok",
    "no_instance",
    "local",
    "unavailable",
    "no_room",
    "timed_out",
    "cancelled",
    "handler",
    "lost",
    "too_large",
    "closed",
];

/// The place of an outcome among them.
const fn outcome(kind: Kind) -> usize {
    match kind {
        Kind::NoInstance => 1,
        Kind::Local => 2,
        Kind::Unavailable => 3,
        Kind::NoRoom => 4,
        Kind::TimedOut => 5,
        Kind::Cancelled => 6,
        Kind::Handler => 7,
        Kind::Lost => 8,
        Kind::TooLarge => 9,
        Kind::Closed => 10,
    }
}

/// Outcomes of requests.
pub(super) const REQUEST_OUTCOMES: [&str; 6] = ["ok", "handler", "cancelled", "timed_out", "lost", "refused"];

/// The stages of calls, each with what it lasts.
pub(super) const CALL_STAGES: [&str; 5] = ["queue", "connect", "send", "first_item", "between_items"];

/// The calls of an endpoint.
#[derive(Default, Debug)]
pub(super) struct Calls {
    stages: [Histogram; CALL_STAGES.len()],
    whole: [Histogram; CALL_OUTCOMES.len()],
    refused: [AtomicU64; CALL_OUTCOMES.len()],
}

impl Calls {
    pub(super) fn refuse(&self, kind: Kind) {
        if let Some(count) = self.refused.get(outcome(kind)) {
            add(count, 1);
        }
    }

    pub(super) fn wait(&self, time: Duration) {
        let [.., between] = &self.stages;
        between.record(time);
    }

    pub(super) fn end(&self, ended: &CallEnded<'_>) {
        let times = &ended.times;
        let [queue, connect, send, first, _] = &self.stages;
        if let Some(tried) = times.tried {
            queue.record(tried.since(times.begun));
            if let Some(sent) = times.sent {
                connect.record(sent.since(tried));
                if let Some(accepted) = times.accepted {
                    send.record(accepted.since(sent));
                }
            }
        }
        if let Some(answered) = times.answered {
            first.record(answered.since(times.begun));
        }
        let outcome = ended.outcome.map_or_else(|error| outcome(error.kind()), |()| 0);
        if let Some(whole) = self.whole.get(outcome) {
            whole.record(ended.now.since(times.begun));
        }
    }

    pub(super) fn read(&self) -> CallTimes {
        CallTimes {
            stages: self.stages.each_ref().map(Histogram::read),
            whole: self.whole.each_ref().map(Histogram::read),
            refused: self.refused.each_ref().map(|count| count.load(Ordering::Relaxed)),
        }
    }
}

/// [`Calls`] as they were read.
#[derive(Clone, Default, Debug)]
pub(super) struct CallTimes {
    pub(super) stages: [Times; CALL_STAGES.len()],
    pub(super) whole: [Times; CALL_OUTCOMES.len()],
    pub(super) refused: [u64; CALL_OUTCOMES.len()],
}

impl CallTimes {
    pub(super) fn merge(&mut self, other: &Self) {
        self.stages.iter_mut().zip(&other.stages).for_each(|(mine, theirs)| mine.merge(theirs));
        self.whole.iter_mut().zip(&other.whole).for_each(|(mine, theirs)| mine.merge(theirs));
        self.refused.iter_mut().zip(other.refused).for_each(|(mine, theirs)| *mine += theirs);
    }
}

/// The requests for an endpoint.
#[derive(Default, Debug)]
pub(super) struct Requests {
    wait: Histogram,
    run: Histogram,
    whole: [Histogram; REQUEST_OUTCOMES.len()],
    running: AtomicU64,
}

impl Requests {
    pub(super) fn run(&self, running: &RequestRunning<'_>) {
        self.wait.record(running.now.since(running.admitted));
        add(&self.running, 1);
    }

    pub(super) fn end(&self, ended: &RequestEnded<'_>) {
        if let Some(running) = ended.running {
            self.run.record(ended.now.since(running));
            self.running.store(self.running.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        }
        if let Some(whole) = self.whole.get(request_outcome(ended)) {
            whole.record(ended.now.since(ended.admitted));
        }
    }

    pub(super) fn read(&self) -> RequestTimes {
        RequestTimes {
            wait: self.wait.read(),
            run: self.run.read(),
            whole: self.whole.each_ref().map(Histogram::read),
            running: self.running.load(Ordering::Relaxed),
        }
    }
}

/// What ended it from outside counts, and what its handler said only otherwise.
fn request_outcome(ended: &RequestEnded<'_>) -> usize {
    use ringplane_core::worker::job::Cause;
    match (ended.cause, ended.ending) {
        (Some(Cause::Deadline), _) => 3,
        (Some(Cause::Disconnected), _) => 4,
        (Some(Cause::Kill | Cause::Stop | Cause::Drain), _) => 2,
        (None, Some(ending)) => usize::from(ending.class.is_some()),
        (None, None) => 5,
    }
}

/// [`Requests`] as they were read.
#[derive(Clone, Default, Debug)]
pub(super) struct RequestTimes {
    pub(super) wait: Times,
    pub(super) run: Times,
    pub(super) whole: [Times; REQUEST_OUTCOMES.len()],
    pub(super) running: u64,
}

impl RequestTimes {
    pub(super) fn merge(&mut self, other: &Self) {
        self.wait.merge(&other.wait);
        self.run.merge(&other.run);
        self.whole.iter_mut().zip(&other.whole).for_each(|(mine, theirs)| mine.merge(theirs));
        self.running += other.running;
    }

    /// How many ended so.
    pub(super) fn ended(&self, outcome: &str) -> u64 {
        let at = REQUEST_OUTCOMES.iter().position(|known| *known == outcome);
        at.and_then(|at| self.whole.get(at)).map_or(0, Times::count)
    }
}
