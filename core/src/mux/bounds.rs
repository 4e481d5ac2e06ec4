//! What a peer may not leave as it is for ever, however well it answers pings: a frame half sent, a stream that stands still, a
//! connection without streams.

use alloc::vec::Vec;
use core::time::Duration;

use crate::buf::slab::Key;
use crate::mux::config::Config;
use crate::mux::connection::{Connection, State};
use crate::mux::event::{Ending, Event, Queued, Role, Stall};
use crate::mux::stream::{Reading, Stream, Writing};
use crate::time::{Deadline, Instant, Reason};
use crate::wire::class::Class;

/// Streams are looked at this often within the shortest of the bounds. One that stands still is seen to at the first look and
/// ended at the first behind its bound, by two looks too late at the most; one that moves costs nothing in between.
const LOOKS: u32 = 32;

/// The least pause between two looks.
const SOONEST: Duration = Duration::from_millis(1);

impl Config {
    /// The pause between two looks at all streams.
    pub(super) fn look_interval(&self) -> Duration {
        let shortest = self.item_timeout.min(self.credit_timeout).min(self.idle_timeout);
        (shortest / LOOKS).max(SOONEST)
    }
}

impl Connection {
    /// `bytes` have been read. Whether a frame is under way, and whether it is still the same one.
    pub(super) fn weigh_frame(&mut self, bytes: usize, now: Instant) {
        if self.deframer.wanted() == 0 {
            return self.pace.rest();
        }
        self.pace.grow(self.stats.frames_in as u32, bytes, self.config.frame_timeout, now);
    }

    /// Ends what has stood still for too long, the connection itself if nothing happens on it. Only the side that accepted it
    /// looks: the side that dialed has bounds of its own for its calls.
    pub(super) fn look(&mut self, now: Instant) {
        self.look_at = now + self.config.look_interval();
        let mut late = Vec::new();
        for (key, stream) in self.streams.iter_mut().filter(|(_, stream)| !stream.ours) {
            if core::mem::take(&mut stream.moved) {
                stream.since = now;
            } else if let Some((bound, stall)) = stream.patience(&self.config)
                && stream.since + bound <= now
            {
                late.push((key, stall));
            }
        }
        for (key, stall) in late {
            self.give_up(key, stall);
        }
        if !self.streams.is_empty() || self.used != self.peer_last {
            self.used = self.peer_last;
            self.quiet_since = now;
        } else if self.state == State::Up && self.quiet_since + self.config.idle_timeout <= now {
            self.go_away();
        }
    }

    /// When to look next, and at what.
    pub(super) fn next_look(&self) -> Deadline {
        let why = if self.streams.is_empty() { Reason::Idle } else { Reason::ItemGap };
        Deadline { at: self.look_at, why }
    }

    /// When an acceptor looks for the first time.
    pub(super) fn first_look(role: Role, config: &Config, now: Instant) -> Instant {
        match role {
            Role::Acceptor => now + config.look_interval(),
            Role::Dialer => Instant::FAR,
        }
    }

    /// The opener hears why; nothing more is read or sent for its stream.
    fn give_up(&mut self, key: Key, stall: Stall) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let text = match stall {
            Stall::Items => "no item of the request came for too long",
            Stall::Credit => "the answer waited for credit for too long",
        };
        stream.writing = Writing::Ending(Ending::failed(Class::DeadlineExceeded, "request.deadline_exceeded", text));
        self.events.push_back(Queued::Whole(Event::Stalled(stream.tag, stall)));
        self.drop_queued(key);
        self.discard_input(key);
        self.list_ready(key);
    }
}

impl Stream {
    /// How long it may stand as it is, and what it waits for; `None` if it is not its opener that keeps it waiting.
    fn patience(&self, config: &Config) -> Option<(Duration, Stall)> {
        if self.outbox.first().is_some() {
            return Some((config.credit_timeout, Stall::Credit));
        }
        let waits = matches!(self.reading, Reading::Open) && !self.told && self.inbox.is_empty();
        if !waits || self.inbox.awaited().is_some() {
            return None;
        }
        // An item under way has a second more for each KiB, so that a large one need not be fast.
        let size = Duration::from_secs(self.inbox.arriving() as u64 >> 10);
        Some((config.item_timeout + size, Stall::Items))
    }
}
