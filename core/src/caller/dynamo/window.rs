//! The requests of one caller that are with a carrier, and the calls that wait to hand one over.

use core::time::Duration;

use crate::buf::slab::Slab;
use crate::caller::dynamo::carrier::Config;
use crate::caller::request::CallId;
use crate::caller::target::Transport;
use crate::caller::waiting::Waiting;

/// One request that has room in the window.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(in crate::caller) struct Posted {
    /// What tells this try of the call from others.
    pub(in crate::caller) number: u64,
    bytes: usize,
    stage: Stage,
    /// How long its ack may take.
    pub(in crate::caller) patience: Duration,
}

/// ```text
///  Named ──a carrier takes it──▶ Taken ──it says what came of it──▶ Answered
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stage {
    Named,
    Taken,
    Answered,
}

impl Posted {
    /// A carrier takes the request; whether it is the first to do so.
    pub(in crate::caller) fn take(&mut self) -> bool {
        let is_first = self.stage == Stage::Named;
        if is_first {
            self.stage = Stage::Taken;
        }
        is_first
    }

    /// Whether a carrier has taken it: it may have been delivered.
    pub(in crate::caller) fn is_taken(&self) -> bool {
        self.stage != Stage::Named
    }

    /// Whether what came of it is known.
    pub(in crate::caller) fn is_answered(&self) -> bool {
        self.stage == Stage::Answered
    }
}

/// The requests that have no answer yet, bounded in number and in bytes.
#[derive(Debug)]
pub(in crate::caller) struct Window {
    config: Config,
    /// Calls that wait for the listener, or for room.
    waiting: Waiting,
    unacked: usize,
    bytes: usize,
    next: u64,
}

impl Window {
    pub(in crate::caller) const fn new(config: Config) -> Self {
        Self { config, waiting: Waiting::new(), unacked: 0, bytes: 0, next: 0 }
    }

    /// A call of `calls` waits for its turn.
    pub(in crate::caller) fn wait<T>(&mut self, call: CallId, calls: &Slab<T>) {
        self.waiting.push(call, calls);
    }

    /// The call whose turn it is.
    pub(in crate::caller) fn first(&self) -> Option<CallId> {
        self.waiting.first()
    }

    /// That call waits no more.
    pub(in crate::caller) fn skip(&mut self) {
        self.waiting.pop();
    }

    /// Whether a request with a body of so many bytes may go: one that is larger than the window goes alone.
    pub(in crate::caller) const fn has_room(&self, bytes: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= self.config.max_unacked_bytes;
        self.unacked < self.config.max_unacked && (fits || self.unacked == 0)
    }

    /// Gives a request with a body of so many bytes its room.
    pub(in crate::caller) const fn post(&mut self, bytes: usize, transport: &Transport) -> Posted {
        let patience = match transport {
            Transport::Http(_) => self.config.http_timeout,
            Transport::Nats { .. } | Transport::Tcp => self.config.nats_timeout,
        };
        let posted = Posted { number: self.next, bytes, stage: Stage::Named, patience };
        self.next += 1;
        self.unacked += 1;
        self.bytes += bytes;
        posted
    }

    /// What came of a request is known: its room is free.
    pub(in crate::caller) fn on_answer(&mut self, posted: &mut Posted) {
        self.release(posted);
        posted.stage = Stage::Answered;
    }

    /// The call has left the request: its room is free, unless its answer has freed it.
    pub(in crate::caller) fn release(&mut self, posted: &Posted) {
        if !posted.is_answered() {
            self.unacked -= 1;
            self.bytes -= posted.bytes;
        }
    }

    /// Whether no request is out.
    #[cfg(test)]
    pub(in crate::caller) const fn is_idle(&self) -> bool {
        self.unacked == 0 && self.bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(Config { max_unacked: 2, max_unacked_bytes: 10, ..Config::default() })
    }

    #[test]
    fn the_window_is_full_by_number_or_by_bytes_and_what_is_larger_than_it_goes_alone() {
        let mut window = window();
        assert!(window.has_room(100));
        let large = window.post(100, &Transport::Http("u".into()));
        assert!(!window.has_room(0));
        window.release(&large);
        window.post(4, &Transport::Http("u".into()));
        assert!(window.has_room(6) && !window.has_room(7));
        window.post(0, &Transport::Http("u".into()));
        assert!(!window.has_room(0));
    }

    #[test]
    fn room_is_given_back_once_by_the_answer_or_by_the_call() {
        let mut window = window();
        let mut posted = window.post(4, &Transport::Http("u".into()));
        let other = window.post(4, &Transport::Http("u".into()));
        assert!(posted.take() && !posted.take() && posted.is_taken() && !other.is_taken());
        window.on_answer(&mut posted);
        window.release(&posted);
        assert!(!window.is_idle());
        window.release(&other);
        assert!(window.is_idle() && posted.number != other.number);
    }

    #[test]
    fn each_transport_has_its_own_patience() {
        let (mut window, config) = (window(), Config::default());
        let nats = window.post(0, &Transport::Nats { subject: "s".into(), slug: None });
        let http = window.post(0, &Transport::Http("u".into()));
        assert_eq!((nats.patience, http.patience), (config.nats_timeout, config.http_timeout));
    }
}
