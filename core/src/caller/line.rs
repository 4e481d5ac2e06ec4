//! What a caller's connections speak.

use alloc::boxed::Box;

use bytes::Bytes;

use crate::buf::gate::Flow;
use crate::buf::outbox::SendError;
use crate::buf::send_queue::SendQueue;
use crate::buf::slab::Key;
use crate::dynamo::cost::cost;
use crate::dynamo::items::sender::Sender;
use crate::dynamo::request::client::Client;
use crate::dynamo::response::receiver::Receiver;
use crate::links::{self, Granted, Link, Links};
use crate::mux::connection::{Connection, State};
use crate::protocol::Closing;
use crate::time::{Deadline, Instant};

/// The machine of one connection. Each stands apart, because a table of links grows by doubling.
#[derive(Debug)]
pub(super) enum Line {
    /// Our own dialect.
    Mux(Box<Connection>),
    /// Dynamo's request connection.
    Requests(Box<Client>),
    /// Dynamo's call-home connection: the response of a call.
    Answers(Box<Receiver>),
    /// Dynamo's call-home connection on which the worker fetches the items of a request.
    Items(Box<Sender>),
}

impl Line {
    /// Queues an item, on `stream` of a connection that has many; `admitted`: all connections together have room for it.
    fn offer(&mut self, stream: Option<Key>, item: Bytes, admitted: bool) -> Result<(), SendError> {
        match (self, stream) {
            (Self::Mux(mux), Some(stream)) => mux.offer(stream, item, admitted),
            (Self::Items(feeder), None) => feeder.offer(item, admitted),
            _ => Err(SendError::Closed),
        }
    }

    /// A writer that was turned away does not try again.
    fn forgo(&mut self, stream: Option<Key>) {
        match (self, stream) {
            (Self::Mux(mux), Some(stream)) => mux.forgo(stream),
            (Self::Items(feeder), None) => feeder.forgo(),
            _ => {}
        }
    }
}

impl links::Line for Line {
    fn wants_transmit(&self) -> bool {
        match self {
            Self::Mux(mux) => mux.wants_transmit(),
            Self::Requests(client) => client.wants_transmit(),
            Self::Answers(receiver) => receiver.wants_transmit(),
            Self::Items(feeder) => feeder.wants_transmit(),
        }
    }

    fn poll_transmit(&mut self, out: &mut SendQueue, now: Instant) -> bool {
        match self {
            Self::Mux(mux) => mux.poll_transmit(out, now),
            Self::Requests(client) => client.poll_transmit(out, now),
            Self::Answers(receiver) => receiver.poll_transmit(out),
            Self::Items(feeder) => feeder.poll_transmit(out, now),
        }
    }

    fn handle_sent(&mut self, bytes: usize, now: Instant) {
        match self {
            Self::Mux(mux) => mux.handle_sent(bytes, now),
            Self::Requests(client) => client.handle_sent(bytes, now),
            Self::Answers(_) => {}
            Self::Items(feeder) => feeder.handle_sent(bytes, now),
        }
    }

    fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        match self {
            Self::Mux(mux) => mux.poll_close(now),
            Self::Requests(client) => client.poll_close(),
            Self::Answers(receiver) => receiver.poll_close(now),
            Self::Items(feeder) => feeder.poll_close(now),
        }
    }

    fn poll_flow(&mut self) -> Option<Flow> {
        match self {
            Self::Answers(receiver) => receiver.poll_flow(),
            Self::Mux(_) | Self::Requests(_) | Self::Items(_) => None,
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            Self::Mux(mux) => mux.poll_timeout(),
            Self::Requests(client) => client.poll_timeout(),
            Self::Answers(receiver) => receiver.poll_timeout(),
            Self::Items(feeder) => feeder.poll_timeout(),
        }
    }

    fn wanted(&self) -> usize {
        match self {
            Self::Mux(mux) => mux.wanted(),
            Self::Answers(receiver) => receiver.wanted(),
            Self::Requests(_) | Self::Items(_) => 0,
        }
    }

    fn outgoing(&self) -> usize {
        match self {
            Self::Mux(mux) => mux.outgoing(),
            Self::Items(feeder) => feeder.outgoing(),
            Self::Requests(_) | Self::Answers(_) => 0,
        }
    }

    fn awaited(&mut self) -> Option<usize> {
        match self {
            Self::Mux(mux) => mux.next_waiting(),
            Self::Items(feeder) => feeder.awaited(),
            Self::Requests(_) | Self::Answers(_) => None,
        }
    }

    fn grant(&mut self) -> Option<Granted> {
        match self {
            Self::Mux(mux) => mux.grant().map(|(_, tag)| Granted::Stream(tag)),
            Self::Items(feeder) => {
                feeder.grant();
                Some(Granted::Only)
            }
            Self::Requests(_) | Self::Answers(_) => None,
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

    /// Whether the link's connection takes no more calls for good.
    pub(super) fn is_leaving(&self, key: Key) -> bool {
        match self.get(key).and_then(|link| link.line.as_ref()) {
            Some(Line::Mux(mux)) => matches!(mux.state(), State::Draining | State::Closing) || mux.is_exhausted(),
            Some(Line::Requests(client)) => client.is_leaving(),
            _ => false,
        }
    }
}
