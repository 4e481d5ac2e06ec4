//! What a worker's connections speak.

use alloc::boxed::Box;

use bytes::Bytes;

use crate::buf::gate::Flow;
use crate::buf::outbox::SendError;
use crate::buf::send_queue::SendQueue;
use crate::buf::slab::Key;
use crate::dynamo::cost::{cost, cost_of};
use crate::dynamo::items::receiver::Receiver;
use crate::dynamo::request::server::Server;
use crate::dynamo::response::sender::Sender;
use crate::links::{self, Granted, Link, Links};
use crate::mux::connection::Connection;
use crate::protocol::Closing;
use crate::time::{Deadline, Instant};

/// The machine of one connection. Each stands apart, because a table of links grows by doubling.
#[derive(Debug)]
pub(super) enum Line {
    /// Our own dialect.
    Mux(Box<Connection>),
    /// Dynamo's request connection.
    Requests(Box<Server>),
    /// Dynamo's call-home connection: the answer of a call, dialed from here.
    Answer(Box<Sender>),
    /// Dynamo's call-home connection on which the items of a request are fetched, dialed from here.
    Items(Box<Receiver>),
}

impl Line {
    /// Queues an item, on `stream` of a connection that has many; `admitted`: all connections together have room for it.
    fn offer(&mut self, stream: Option<Key>, item: Bytes, admitted: bool) -> Result<(), SendError> {
        match (self, stream) {
            (Self::Mux(mux), Some(stream)) => mux.offer(stream, item, admitted),
            (Self::Answer(sender), None) => sender.offer(item, admitted),
            _ => Err(SendError::Closed),
        }
    }

    /// Keeps room for an item of `len` bytes; `false` if there is none.
    fn reserve(&mut self, stream: Option<Key>, len: usize, admitted: bool) -> Result<bool, SendError> {
        match (self, stream) {
            (Self::Mux(mux), Some(stream)) => mux.reserve(stream, len, admitted),
            (Self::Answer(sender), None) => sender.reserve(len, admitted),
            _ => Err(SendError::Closed),
        }
    }

    /// A writer that was turned away does not try again, nor does one for which room is kept.
    fn forgo(&mut self, stream: Option<Key>) {
        match (self, stream) {
            (Self::Mux(mux), Some(stream)) => mux.forgo(stream),
            (Self::Answer(sender), None) => sender.forgo(),
            _ => {}
        }
    }
}

impl links::Line for Line {
    fn wants_transmit(&self) -> bool {
        match self {
            Self::Mux(mux) => mux.wants_transmit(),
            Self::Requests(server) => server.wants_transmit(),
            Self::Answer(sender) => sender.wants_transmit(),
            Self::Items(fetcher) => fetcher.wants_transmit(),
        }
    }

    fn poll_transmit(&mut self, out: &mut SendQueue, now: Instant) -> bool {
        match self {
            Self::Mux(mux) => mux.poll_transmit(out, now),
            Self::Requests(server) => server.poll_transmit(out),
            Self::Answer(sender) => sender.poll_transmit(out, now),
            Self::Items(fetcher) => fetcher.poll_transmit(out),
        }
    }

    fn handle_sent(&mut self, bytes: usize, now: Instant) {
        match self {
            Self::Mux(mux) => mux.handle_sent(bytes, now),
            Self::Requests(server) => server.handle_sent(bytes, now),
            Self::Answer(sender) => sender.handle_sent(bytes, now),
            Self::Items(_) => {}
        }
    }

    fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        match self {
            Self::Mux(mux) => mux.poll_close(now),
            Self::Requests(server) => server.poll_close(now),
            Self::Answer(sender) => sender.poll_close(now),
            Self::Items(fetcher) => fetcher.poll_close(now),
        }
    }

    fn poll_flow(&mut self) -> Option<Flow> {
        match self {
            Self::Requests(server) => server.poll_flow(),
            Self::Items(fetcher) => fetcher.poll_flow(),
            Self::Mux(_) | Self::Answer(_) => None,
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            Self::Mux(mux) => mux.poll_timeout(),
            Self::Requests(server) => server.poll_timeout(),
            Self::Answer(sender) => sender.poll_timeout(),
            Self::Items(fetcher) => fetcher.poll_timeout(),
        }
    }

    fn wanted(&self) -> usize {
        match self {
            Self::Mux(mux) => mux.wanted(),
            Self::Requests(server) => server.wanted(),
            Self::Items(fetcher) => fetcher.wanted(),
            Self::Answer(_) => 0,
        }
    }

    fn outgoing(&self) -> usize {
        match self {
            Self::Mux(mux) => mux.outgoing(),
            Self::Answer(sender) => sender.outgoing(),
            Self::Requests(_) | Self::Items(_) => 0,
        }
    }

    fn awaited(&mut self) -> Option<usize> {
        match self {
            Self::Mux(mux) => mux.next_waiting(),
            Self::Answer(sender) => sender.awaited(),
            Self::Requests(_) | Self::Items(_) => None,
        }
    }

    fn grant(&mut self) -> Option<Granted> {
        match self {
            Self::Mux(mux) => mux.grant().map(|(_, tag)| Granted::Stream(tag)),
            Self::Answer(sender) => {
                sender.grant();
                Some(Granted::Only)
            }
            Self::Requests(_) | Self::Items(_) => None,
        }
    }
}

impl<O> Link<O, Line> {
    /// The mux machine, if that is what the connection speaks.
    pub(super) const fn mux(&self) -> Option<&Connection> {
        match &self.line {
            Some(Line::Mux(mux)) => Some(mux),
            _ => None,
        }
    }
}

impl<O> Links<O, Line> {
    /// The mux machine of a link that is up and speaks mux.
    pub(super) fn mux(&mut self, key: Key) -> Option<&mut Connection> {
        match self.line(key) {
            Some(Line::Mux(mux)) => Some(mux),
            _ => None,
        }
    }

    /// Queues an item on a link, or on `stream` of it if it has many.
    pub(super) fn send(&mut self, key: Key, stream: Option<Key>, item: Bytes) -> Result<(), SendError> {
        let outcome = self.write(key, cost(&item), |line, admitted| line.offer(stream, item, admitted));
        self.nudge(key);
        outcome.unwrap_or(Err(SendError::Closed))
    }

    /// A writer that was turned away does not try again.
    pub(super) fn forgo(&mut self, key: Key, stream: Option<Key>) {
        self.write(key, 0, |line, _| line.forgo(stream));
    }

    /// Keeps room for an item of `len` bytes, which is sent next on the same link or stream; `false` if there is none.
    pub(super) fn reserve(&mut self, key: Key, stream: Option<Key>, len: usize) -> Result<bool, SendError> {
        let outcome = self.write(key, cost_of(len), |line, admitted| line.reserve(stream, len, admitted));
        outcome.unwrap_or(Err(SendError::Closed))
    }
}
