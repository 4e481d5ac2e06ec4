//! The connections of a caller or a worker: who has something to write, who is to be closed, whose timer runs.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::buf::gate::Flow;
use crate::buf::room::fits;
use crate::buf::send_queue::SendQueue;
use crate::buf::slab::{Key, Slab};
use crate::buf::wheel::{TimerId, Wheel};
use crate::id::ConnId;
use crate::mux::connection::{Connection, SendError, State};
use crate::protocol::{Action, Closing};
use crate::request::client::Client;
use crate::request::server::Server;
use crate::stream::cost::cost_of;
use crate::stream::feeder::Feeder;
use crate::stream::fetcher::Fetcher;
use crate::stream::receiver::Receiver;
use crate::stream::sender::{SendError as HomeSendError, Sender};
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
    /// Bytes that wait here to be written, as counted in the sum of all links.
    outgoing: usize,
    /// It stands in line for room in that sum.
    in_line: bool,
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

    /// Whether receiving is to pause or to go on; each answer once. Mux has its credit instead.
    pub(crate) const fn poll_flow(&mut self) -> Option<Flow> {
        match self {
            Self::Answers(receiver) => receiver.poll_flow(),
            Self::Fetches(fetcher) => fetcher.poll_flow(),
            Self::Mux(_) | Self::Requests(_) | Self::Home(_) | Self::Calls(_) | Self::Feeds(_) => None,
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

    /// Bytes of items that wait here to be written, with those kept for writers whose turn it is.
    const fn outgoing(&self) -> usize {
        match self {
            Self::Mux(mux) => mux.outgoing(),
            Self::Home(sender) => sender.outgoing(),
            Self::Feeds(feeder) => feeder.outgoing(),
            Self::Requests(_) | Self::Calls(_) | Self::Answers(_) | Self::Fetches(_) => 0,
        }
    }

    /// What the next writer weighs that waits for room on other connections, having some on this one.
    fn awaited(&mut self) -> Option<usize> {
        match self {
            Self::Mux(mux) => mux.next_in_line(),
            Self::Home(sender) => sender.awaited(),
            Self::Feeds(feeder) => feeder.awaited(),
            Self::Requests(_) | Self::Calls(_) | Self::Answers(_) | Self::Fetches(_) => None,
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

impl Outgoing {
    /// Whether there is room for an item of `len` bytes, and nobody has waited for it longer.
    fn admits(&self, len: usize) -> bool {
        self.line.is_empty() && fits(self.bytes, cost_of(len), self.limit)
    }
}

impl From<HomeSendError> for SendError {
    fn from(error: HomeSendError) -> Self {
        match error {
            HomeSendError::Blocked(item) => Self::Blocked(item),
            HomeSendError::Closed => Self::Closed,
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
    outgoing: Outgoing,
}

/// What waits to be written on all links together.
#[derive(Debug)]
struct Outgoing {
    limit: usize,
    bytes: usize,
    /// Links whose next writer waits for room in the sum and has it on its own connection; one writer each, in turn.
    line: VecDeque<Key>,
    /// Writers whose turn it is, and who have not heard of it.
    called: VecDeque<Writer>,
}

/// Who may write again.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Writer {
    /// Whoever writes to the stream of this tag.
    Stream(u64),
    /// Whoever writes to this link, which has one stream.
    Link(Key),
}

impl<T> Links<T> {
    /// No links. On all of them `max_outgoing` bytes of items may wait to be written.
    pub(crate) const fn new(max_outgoing: usize) -> Self {
        let outgoing = Outgoing { limit: max_outgoing, bytes: 0, line: VecDeque::new(), called: VecDeque::new() };
        Self { slab: Slab::new(), ready: VecDeque::new(), actions: VecDeque::new(), outgoing }
    }

    /// Adds a link; `name` makes its connection id from its key.
    pub(crate) fn insert(&mut self, owner: T, name: impl FnOnce(Key) -> ConnId) -> Key {
        let key = self.slab.insert(Link {
            conn: ConnId::accepted(0),
            leg: None,
            timer: None,
            listed: false,
            gone: false,
            outgoing: 0,
            in_line: false,
            owner,
        });
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
        self.outgoing.bytes -= link.outgoing;
        self.call_writers();
        Some(link)
    }

    /// Queues an item on a link, or on `stream` of it if it has many.
    pub(crate) fn send(&mut self, key: Key, stream: Option<Key>, item: Bytes) -> Result<(), SendError> {
        let admitted = self.outgoing.admits(item.len());
        let outcome = match (self.leg(key), stream) {
            (Some(Leg::Mux(mux)), Some(stream)) => mux.offer(stream, item, admitted),
            (Some(Leg::Home(sender)), None) => sender.offer(item, admitted).map_err(SendError::from),
            (Some(Leg::Feeds(feeder)), None) => feeder.offer(item, admitted).map_err(SendError::from),
            _ => Err(SendError::Closed),
        };
        self.weigh(key);
        self.nudge(key);
        outcome
    }

    /// Keeps room for an item of `len` bytes, which is sent next on the same link or stream; `false` if there is none.
    pub(crate) fn reserve(&mut self, key: Key, stream: Option<Key>, len: usize) -> Result<bool, SendError> {
        let admitted = self.outgoing.admits(len);
        let outcome = match (self.leg(key), stream) {
            (Some(Leg::Mux(mux)), Some(stream)) => mux.reserve(stream, len, admitted),
            (Some(Leg::Home(sender)), None) => sender.reserve(len, admitted).map_err(SendError::from),
            _ => Err(SendError::Closed),
        };
        self.weigh(key);
        outcome
    }

    /// A writer that was turned away does not try again, nor does one for whom room is kept.
    pub(crate) fn forgo(&mut self, key: Key, stream: Option<Key>) {
        match (self.leg(key), stream) {
            (Some(Leg::Mux(mux)), Some(stream)) => mux.forgo(stream),
            (Some(Leg::Home(sender)), None) => sender.forgo(),
            (Some(Leg::Feeds(feeder)), None) => feeder.forgo(),
            _ => {}
        }
        self.weigh(key);
    }

    /// The next writer whose turn it is; it tries again.
    pub(crate) fn poll_writer(&mut self) -> Option<Writer> {
        self.outgoing.called.pop_front()
    }

    /// Bytes of items that wait to be written, on all links.
    pub(crate) const fn outgoing(&self) -> usize {
        self.outgoing.bytes
    }

    /// So many bytes of what a link handed out are written.
    pub(crate) fn handle_sent(&mut self, key: Key, bytes: usize, now: Instant) {
        if let Some(leg) = self.leg(key) {
            leg.handle_sent(bytes, now);
            self.weigh(key);
        }
    }

    /// Counts what waits on a link, and calls writers if there is room.
    fn weigh(&mut self, key: Key) {
        if let Some(link) = self.slab.get_mut(key)
            && let Some(leg) = &mut link.leg
        {
            let bytes = leg.outgoing();
            let before = core::mem::replace(&mut link.outgoing, bytes);
            self.outgoing.bytes = self.outgoing.bytes - before + bytes;
            if !link.in_line && leg.awaited().is_some() {
                link.in_line = true;
                self.outgoing.line.push_back(key);
            }
        }
        self.call_writers();
    }

    /// Calls the writers that have waited longest, as many as there is room for.
    fn call_writers(&mut self) {
        while let Some(key) = self.outgoing.line.front().copied() {
            let Some(link) = self.slab.get_mut(key) else {
                self.outgoing.line.pop_front();
                continue;
            };
            let next = link.leg.as_mut().and_then(Leg::awaited);
            if next.is_some_and(|weight| !fits(self.outgoing.bytes, weight, self.outgoing.limit)) {
                return;
            }
            self.outgoing.line.pop_front();
            link.in_line = false;
            let Some(leg) = link.leg.as_mut().filter(|_| next.is_some()) else { continue };
            match leg {
                Leg::Mux(mux) => {
                    let tag = mux.grant().map(|(_, tag)| Writer::Stream(tag));
                    self.outgoing.called.extend(tag);
                }
                Leg::Home(sender) => sender.grant(),
                Leg::Feeds(feeder) => feeder.grant(),
                Leg::Requests(_) | Leg::Calls(_) | Leg::Answers(_) | Leg::Fetches(_) => {}
            }
            if !matches!(leg, Leg::Mux(_)) {
                self.outgoing.called.push_back(Writer::Link(key));
            }
            let bytes = leg.outgoing();
            let before = core::mem::replace(&mut link.outgoing, bytes);
            self.outgoing.bytes = self.outgoing.bytes - before + bytes;
            if leg.awaited().is_some() {
                link.in_line = true;
                self.outgoing.line.push_back(key);
            }
        }
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
        let wrote = self.leg(key).is_some_and(|leg| leg.poll_transmit(out, now));
        self.weigh(key);
        wrote
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

    /// After items have been read that held their sender back: has the driver receive again if that is due.
    pub(crate) fn relieve(&mut self, key: Key) {
        if let Some(link) = self.slab.get_mut(key).filter(|link| !link.gone)
            && let Some(flow) = link.leg.as_mut().and_then(Leg::poll_flow)
        {
            self.actions.push_back(action(flow, link.conn));
        }
    }

    /// After anything has happened to a link: lists it if it wants to write, has it pause, resume or close if that is due,
    /// and moves its timer if `extra` or the connection wants an earlier one.
    pub(crate) fn settle(&mut self, key: Key, extra: Option<Deadline>, wheel: &mut Wheel, now: Instant) {
        self.weigh(key);
        let Some(link) = self.slab.get_mut(key).filter(|link| !link.gone) else { return };
        let mut deadline = extra;
        if let Some(leg) = &mut link.leg {
            if leg.wants_transmit() && !link.listed {
                link.listed = true;
                self.ready.push_back(key);
            }
            if let Some(flow) = leg.poll_flow() {
                self.actions.push_back(action(flow, link.conn));
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

const fn action(flow: Flow, conn: ConnId) -> Action {
    match flow {
        Flow::Pause => Action::Pause { conn },
        Flow::Resume => Action::Resume { conn },
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
