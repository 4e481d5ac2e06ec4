//! The publishing side: numbers, what is kept, and who asked for what again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;

use crate::event::kv::event::{Event, Unsound};
use crate::event::kv::frames::{self, Answer, FrameError};
use crate::event::kv::ring::Ring;
use crate::event::kv::write::{self, Style};
use crate::stats::counters;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::parse::{Error, ErrorKind};

/// What a publisher keeps and whom it answers.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The data-parallel rank it speaks for. Default 0.
    pub rank: u32,
    /// How batches are encoded. Default maps with integers.
    pub style: Style,
    /// Batches kept, for those that ask and for the socket. Default 10,000, as vLLM's `buffer_steps`.
    pub max_batches: usize,
    /// Bytes of batches kept; the newest is kept even if it is larger. Default 64 MiB.
    pub max_bytes: usize,
    /// Requests that are answered or wait for it. Default 64.
    pub max_requests: usize,
    /// How long a client may take no message of its answer before the answer is given up. Default 30 s.
    pub client_timeout: Duration,
    /// How long a client that takes nothing is left alone before it is tried again. Default 5 ms.
    pub client_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rank: 0,
            style: Style::default(),
            max_batches: 10_000,
            max_bytes: 64 << 20,
            max_requests: 64,
            client_timeout: Duration::from_secs(30),
            client_pause: Duration::from_millis(5),
        }
    }
}

counters! {
    /// What a publisher of KV events has done.
    pub struct KvPublisherStats {
        /// Batches numbered.
        pub published,
        /// Batches handed to the socket.
        pub sent,
        /// Batches that were let go before the socket took them: holes that readers see, and that no answer can fill.
        pub dropped,
        /// Requests for batches of the past.
        pub requests,
        /// Requests that broke the form or exceeded the bound.
        pub refused,
        /// Messages of answers that clients took.
        pub answered,
        /// Answers given up: the client went or took nothing.
        pub given_up,
    }
}

/// Events that are not published; no number was used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no event: readers know no empty batch.
    Empty,
    /// The event at this place of the batch cannot be told unambiguously.
    Unsound {
        /// Its place, from 0.
        event: usize,
        /// Why.
        why: Unsound,
    },
    /// The batch cannot be encoded.
    Encode(Error),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a batch needs an event"),
            Self::Unsound { event, .. } => write!(f, "event {event} of the batch cannot be published"),
            Self::Encode(_) => f.write_str("the batch cannot be encoded"),
        }
    }
}

impl core::error::Error for PublishError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Empty => None,
            Self::Unsound { why, .. } => Some(why),
            Self::Encode(error) => Some(error),
        }
    }
}

/// A request that is not answered.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// It breaks the form.
    Frames(FrameError),
    /// As many as are allowed are being answered.
    Busy,
}

/// What became of a message of an answer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The socket took it.
    Sent,
    /// The client has no room.
    Full,
    /// The client is not there any more.
    Gone,
}

/// One request: from the batch it asked for to the newest there was.
#[derive(Clone, Debug)]
struct Request {
    client: Bytes,
    next: u64,
    end: u64,
    /// The batch whose fate is awaited, or [`frames::END`].
    handed: u64,
    /// When the client last took a message.
    moved: Instant,
    /// When it is tried again.
    due: Instant,
}

/// A publisher of KV events without its sockets. Whoever has events calls [`Publisher::publish`], which never waits; the owner
/// of the sockets sends what [`Publisher::poll_live`] gives, and between two of those what [`Publisher::poll_answer`] gives.
///
/// There is one ring of batches. The live socket and each client that asks are places in it, so that nobody holds up another,
/// and a batch is the same bytes for all of them. A socket that falls behind by more than the ring loses the oldest: the number
/// is used, so readers see a hole.
///
/// Every life begins with a batch of one clear, which no reader mistakes for a continuation.
///
/// Deadlines: [`Reason::Retry`] tries a client again that had no room, or gives its answer up.
#[derive(Clone, Debug)]
pub struct Publisher {
    config: Config,
    ring: Ring,
    /// The next batch for the socket.
    live: u64,
    requests: VecDeque<Request>,
    stats: KvPublisherStats,
}

impl Publisher {
    /// A publisher whose first batch, number 0, clears what readers know of an earlier life. `ts` is Unix time in seconds.
    pub fn new(config: Config, ts: f64) -> Self {
        let ring = Ring::new(config.max_batches.max(1), config.max_bytes);
        let mut publisher =
            Self { config, ring, live: 0, requests: VecDeque::new(), stats: KvPublisherStats::default() };
        let cleared = publisher.publish(ts, &[Event::Cleared]);
        debug_assert_eq!(cleared, Ok(0), "a clear can always be encoded");
        publisher
    }

    /// Gives the next number to a batch of `events` and keeps it. `ts` is Unix time in seconds.
    ///
    /// # Errors
    /// [`PublishError`] if readers could not make sense of it; the number is not used then.
    pub fn publish(&mut self, ts: f64, events: &[Event]) -> Result<u64, PublishError> {
        if events.is_empty() {
            return Err(PublishError::Empty);
        }
        for (event, found) in events.iter().enumerate() {
            if let Event::Stored(stored) = found {
                stored.check().map_err(|why| PublishError::Unsound { event, why })?;
            }
        }
        let seq = self.ring.next();
        if seq == frames::END {
            let limit = ErrorKind::TooLarge { declared: seq, limit: frames::END - 1 };
            return Err(PublishError::Encode(Error::new(limit, 0)));
        }
        let mut batch = Vec::new();
        let Config { rank, style, .. } = self.config;
        write::batch(ts, rank, events, style, &mut batch).map_err(PublishError::Encode)?;
        self.ring.push(batch.into());
        self.stats.published += 1;
        Ok(seq)
    }

    /// A client has asked; `frames` are those behind its identity.
    ///
    /// # Errors
    /// [`Refused`]; there is no message for that, and the client asks again when it has waited long enough.
    pub fn handle_request(&mut self, client: Bytes, frames: &[Bytes], now: Instant) -> Result<(), Refused> {
        self.stats.requests += 1;
        let refused = match frames::read_request(frames) {
            Err(error) => Refused::Frames(error),
            Ok(_) if self.requests.len() >= self.config.max_requests => Refused::Busy,
            Ok(next) => {
                let end = self.ring.next();
                self.requests.push_back(Request { client, next, end, handed: frames::END, moved: now, due: now });
                return Ok(());
            }
        };
        self.stats.refused += 1;
        Err(refused)
    }

    /// What became of the message that [`Publisher::poll_answer`] gave for this client.
    pub fn handle_answered(&mut self, client: &Bytes, outcome: Outcome, now: Instant) {
        let Some(at) = self.requests.iter().position(|request| request.client == *client) else { return };
        if outcome == Outcome::Gone {
            let before = self.requests.len();
            self.requests.retain(|request| request.client != *client);
            self.stats.given_up += (before - self.requests.len()) as u64;
            return;
        }
        let Some(mut request) = self.requests.remove(at) else { return };
        if outcome == Outcome::Full {
            request.due = now + self.config.client_pause;
            self.requests.insert(at, request);
            return;
        }
        self.stats.answered += 1;
        if request.handed == frames::END {
            return;
        }
        request.next = request.handed + 1;
        (request.moved, request.due) = (now, now);
        // Behind the others, and ahead of what the same client asked later.
        let place = self.requests.iter().position(|other| other.client == *client).unwrap_or(self.requests.len());
        self.requests.insert(place, request);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let timeout = self.config.client_timeout;
        let before = self.requests.len();
        self.requests.retain(|request| now.since(request.moved) < timeout || request.due == request.moved);
        self.stats.given_up += (before - self.requests.len()) as u64;
    }

    /// The next batch for everybody, with its number.
    pub fn poll_live(&mut self) -> Option<(u64, Bytes)> {
        let first = self.ring.first();
        self.stats.dropped += first.saturating_sub(self.live);
        self.live = self.live.max(first);
        let batch = self.ring.get(self.live)?.clone();
        self.live += 1;
        self.stats.sent += 1;
        Some((self.live - 1, batch))
    }

    /// The next message for a client that asked; [`Publisher::handle_answered`] says what became of it. A client's requests are
    /// answered one after the other, those of several clients in turn.
    pub fn poll_answer(&mut self, now: Instant) -> Option<(Bytes, Answer)> {
        let earlier = |at: usize, client: &Bytes| self.requests.iter().take(at).any(|other| other.client == *client);
        let ready = |(at, request): &(usize, &Request)| request.due <= now && !earlier(*at, &request.client);
        let (at, _) = self.requests.iter().enumerate().find(ready)?;
        let request = self.requests.get_mut(at)?;
        let seq = request.next.max(self.ring.first());
        let batch = if seq < request.end { self.ring.get(seq) } else { None };
        request.handed = if batch.is_some() { seq } else { frames::END };
        let answer = batch.map_or(Answer::End, |batch| Answer::Batch { seq, payload: batch.clone() });
        Some((request.client.clone(), answer))
    }

    /// When a client is tried again or given up.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let waiting = self.requests.iter().filter(|request| request.due != request.moved);
        waiting.map(|request| request.due).min().map(|at| Deadline { at, why: Reason::Retry })
    }

    /// The number the next batch will have.
    pub fn next_seq(&self) -> u64 {
        self.ring.next()
    }

    /// Bytes kept.
    pub const fn kept_bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// Requests that are not answered to the end.
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// What it has done.
    pub const fn stats(&self) -> KvPublisherStats {
        self.stats
    }
}
