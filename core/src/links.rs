//! The connections of a caller or a worker: who has something to write, who is to be closed, whose timer runs.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use crate::buf::send_queue::SendQueue;
use crate::buf::slab::{Key, Slab};
use crate::buf::wheel::{TimerId, Wheel};
use crate::id::ConnId;
use crate::mux::connection::{Connection, State};
use crate::protocol::{Action, Closing};
use crate::request::client::Client;
use crate::request::server::Server;
use crate::stream::feeder::Feeder;
use crate::stream::fetcher::Fetcher;
use crate::stream::receiver::Receiver;
use crate::stream::sender::Sender;
use crate::time::{Deadline, Instant};

/// One connection and what its owner keeps beside it.
#[derive(Debug)]
pub(crate) struct Link<T> {
    pub(crate) conn: ConnId,
    /// Absent while dialing and once the socket is gone.
    pub(crate) leg: Option<Leg>,
    pub(crate) timer: Option<TimerId>,
    listed: bool,
    /// The driver has said its last word about it.
    gone: bool,
    pub(crate) owner: T,
}

impl<T> Link<T> {
    /// The mux machine, if that is what the connection speaks.
    pub(crate) const fn mux(&self) -> Option<&Connection> {
        match &self.leg {
            Some(Leg::Mux(mux)) => Some(mux),
            _ => None,
        }
    }

    /// The mux machine, to use it.
    pub(crate) const fn mux_mut(&mut self) -> Option<&mut Connection> {
        match &mut self.leg {
            Some(Leg::Mux(mux)) => Some(mux),
            _ => None,
        }
    }
}

/// The machine of one connection: one variant per thing a connection can speak.
#[derive(Debug)]
pub(crate) enum Leg {
    /// Our own dialect, either side. Apart, as all of them are, because a table of links grows by doubling.
    Mux(Box<Connection>),
    /// Dynamo's request connection, the worker's end.
    Requests(Box<Server>),
    /// Dynamo's call-home connection, the worker's end.
    Home(Box<Sender>),
    /// Dynamo's request connection, the caller's end.
    Calls(Box<Client>),
    /// Dynamo's call-home connection, the caller's end.
    Answers(Box<Receiver>),
    /// Dynamo's request stream, the caller's end.
    Feeds(Box<Feeder>),
    /// Dynamo's request stream, the worker's end.
    Fetches(Box<Fetcher>),
}

/// What every machine can do for its owner's bookkeeping; what it is for, its owner asks the variant.
impl Leg {
    /// Whether [`Leg::poll_transmit`] would write something.
    pub(crate) fn wants_transmit(&self) -> bool {
        match self {
            Self::Mux(mux) => mux.wants_transmit(),
            Self::Requests(server) => server.wants_transmit(),
            Self::Home(sender) => sender.wants_transmit(),
            Self::Calls(client) => client.wants_transmit(),
            Self::Answers(receiver) => receiver.wants_transmit(),
            Self::Feeds(feeder) => feeder.wants_transmit(),
            Self::Fetches(fetcher) => fetcher.wants_transmit(),
        }
    }

    pub(crate) fn poll_transmit(&mut self, out: &mut SendQueue, now: Instant) -> bool {
        match self {
            Self::Mux(mux) => mux.poll_transmit(out, now),
            Self::Requests(server) => server.poll_transmit(out),
            Self::Home(sender) => sender.poll_transmit(out, now),
            Self::Calls(client) => client.poll_transmit(out, now),
            Self::Answers(receiver) => receiver.poll_transmit(out),
            Self::Feeds(feeder) => feeder.poll_transmit(out, now),
            Self::Fetches(fetcher) => fetcher.poll_transmit(out),
        }
    }

    pub(crate) fn handle_sent(&mut self, bytes: usize, now: Instant) {
        match self {
            Self::Mux(mux) => mux.handle_sent(bytes, now),
            Self::Requests(server) => server.handle_sent(bytes, now),
            Self::Home(sender) => sender.handle_sent(bytes, now),
            Self::Calls(client) => client.handle_sent(bytes, now),
            Self::Answers(_) | Self::Fetches(_) => {}
            Self::Feeds(feeder) => feeder.handle_sent(bytes, now),
        }
    }

    /// How the socket should be closed now, if it should; each answer once.
    pub(crate) fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        match self {
            Self::Mux(mux) => mux.poll_close(now),
            Self::Requests(server) => server.poll_close(now),
            Self::Home(sender) => sender.poll_close(now),
            Self::Calls(client) => client.poll_close(),
            Self::Answers(receiver) => receiver.poll_close(now),
            Self::Feeds(feeder) => feeder.poll_close(now),
            Self::Fetches(fetcher) => fetcher.poll_close(now),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            Self::Mux(mux) => mux.poll_timeout(),
            Self::Requests(server) => server.poll_timeout(),
            Self::Home(sender) => sender.poll_timeout(),
            Self::Calls(client) => client.poll_timeout(),
            Self::Answers(receiver) => receiver.poll_timeout(),
            Self::Feeds(feeder) => feeder.poll_timeout(),
            Self::Fetches(fetcher) => fetcher.poll_timeout(),
        }
    }

    /// Bytes that would complete the frame at hand.
    pub(crate) fn wanted(&self) -> usize {
        match self {
            Self::Mux(mux) => mux.wanted(),
            Self::Requests(server) => server.wanted(),
            Self::Answers(receiver) => receiver.wanted(),
            Self::Fetches(fetcher) => fetcher.wanted(),
            Self::Home(_) | Self::Calls(_) | Self::Feeds(_) => 0,
        }
    }
}

/// Bit of a wheel token that says it names a link.
pub(crate) const LINK_TOKEN: u64 = 1 << 63;

/// All links of one machine.
#[derive(Debug)]
pub(crate) struct Links<T> {
    slab: Slab<Link<T>>,
    ready: VecDeque<Key>,
    actions: VecDeque<Action>,
}

impl<T> Links<T> {
    pub(crate) const fn new() -> Self {
        Self { slab: Slab::new(), ready: VecDeque::new(), actions: VecDeque::new() }
    }

    /// Adds a link; `name` makes its connection id from its key.
    pub(crate) fn insert(&mut self, owner: T, name: impl FnOnce(Key) -> ConnId) -> Key {
        let link = Link { conn: ConnId::accepted(0), leg: None, timer: None, listed: false, gone: false, owner };
        let key = self.slab.insert(link);
        if let Some(link) = self.slab.get_mut(key) {
            link.conn = name(key);
        }
        key
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Link<T>> {
        self.slab.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Link<T>> {
        self.slab.get_mut(key)
    }

    /// The mux machine of a link that is up and speaks mux.
    pub(crate) fn mux(&mut self, key: Key) -> Option<&mut Connection> {
        self.slab.get_mut(key)?.mux_mut()
    }

    /// The machine of a link that is up.
    pub(crate) fn leg(&mut self, key: Key) -> Option<&mut Leg> {
        self.slab.get_mut(key)?.leg.as_mut()
    }

    /// The socket is gone: from now on the link asks for nothing.
    pub(crate) fn close(&mut self, key: Key) {
        if let Some(link) = self.slab.get_mut(key) {
            link.gone = true;
        }
    }

    pub(crate) fn remove(&mut self, key: Key, wheel: &mut Wheel) -> Option<Link<T>> {
        let link = self.slab.remove(key)?;
        if let Some(timer) = link.timer {
            wheel.cancel(timer);
        }
        Some(link)
    }

    pub(crate) const fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Link<T>)> {
        self.slab.iter()
    }

    /// The key of every link, in slot order.
    pub(crate) fn keys(&self) -> alloc::vec::Vec<Key> {
        self.slab.iter().map(|(key, _)| key).collect()
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn poll_ready(&mut self) -> Option<ConnId> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(link) = self.slab.get_mut(key) {
                link.listed = false;
                return Some(link.conn);
            }
        }
        None
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn poll_transmit(&mut self, key: Key, out: &mut SendQueue, now: Instant) -> bool {
        self.leg(key).is_some_and(|leg| leg.poll_transmit(out, now))
    }

    /// After items have been read or queued, which moves no timer and closes nothing: lists the link if it wants to write.
    pub(crate) fn nudge(&mut self, key: Key) {
        if let Some(link) = self.slab.get_mut(key).filter(|link| !link.gone && !link.listed)
            && link.leg.as_ref().is_some_and(Leg::wants_transmit)
        {
            link.listed = true;
            self.ready.push_back(key);
        }
    }

    /// After anything has happened to a link: lists it if it wants to write, asks for its close if that is due, and moves
    /// its timer if `extra` or the connection wants an earlier one.
    pub(crate) fn settle(&mut self, key: Key, extra: Option<Deadline>, wheel: &mut Wheel, now: Instant) {
        let Some(link) = self.slab.get_mut(key).filter(|link| !link.gone) else { return };
        let mut deadline = extra;
        if let Some(leg) = &mut link.leg {
            if leg.wants_transmit() && !link.listed {
                link.listed = true;
                self.ready.push_back(key);
            }
            if let Some(how) = leg.poll_close(now) {
                self.actions.push_back(Action::Close { conn: link.conn, how });
            }
            deadline = Deadline::soonest(extra, leg.poll_timeout());
        }
        set_timer(wheel, &mut link.timer, LINK_TOKEN | key.to_u64(), deadline);
    }

    /// Whether the link's connection takes no more calls for good.
    pub(crate) fn is_leaving(&self, key: Key) -> bool {
        match self.slab.get(key).and_then(|link| link.leg.as_ref()) {
            Some(Leg::Mux(mux)) => matches!(mux.state(), State::Draining | State::Closing) || mux.is_exhausted(),
            Some(Leg::Calls(client)) => client.is_leaving(),
            _ => false,
        }
    }
}

/// Makes sure that a timer fires no later than `deadline`. A timer that runs earlier is left alone: it fires, looks, and is
/// set anew, which costs less than moving it with every byte.
pub(crate) fn set_timer(wheel: &mut Wheel, timer: &mut Option<TimerId>, token: u64, deadline: Option<Deadline>) {
    let Some(deadline) = deadline else { return };
    let armed = timer.and_then(|id| Some((id, wheel.armed(id)?)));
    match armed {
        Some((_, armed)) if armed.at <= deadline.at => {}
        Some((id, _)) => {
            wheel.rearm(id, deadline.why, deadline.at);
        }
        None => *timer = Some(wheel.arm(token, deadline.why, deadline.at)),
    }
}
