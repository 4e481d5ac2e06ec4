//! The machine of one mux connection, for either side: its states, commands, events and deadlines.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::buf::closing::{Close, Closing};
use crate::buf::deframer::Deframer;
use crate::buf::fifo::Fifo;
use crate::buf::pace::Pace;
use crate::buf::room::Flight;
use crate::buf::slab::{Key, Slab};
use crate::mux::config::Config;
use crate::mux::credit::{Allowance, Window};
use crate::mux::event::{Event, Queued, Role, Stats};
use crate::mux::farewell::farewell;
use crate::mux::inbox::Inbox;
use crate::mux::liveness::Liveness;
use crate::mux::stream::{Current, Stream};
use crate::protocol::Fault;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::mux::message::Hello;
use crate::wire::parse::Limits;

/// Where the connection stands.
///
/// ```text
///  Dialer:    Opening ──peer's preface, hello──▶ Up ──go_away() or peer's goaway──▶ Draining ──last stream gone──▶ Closing
///  Acceptor:  Opening ──peer's preface, hello──▶ Up ...                               (same)
///  any state ──fault──▶ Closing            Closing: the farewell is written, then the owner closes the socket
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The peer has not introduced itself.
    Opening,
    /// Streams come and go.
    Up,
    /// No new streams; the present ones finish.
    Draining,
    /// Nothing but the farewell.
    Closing,
}

/// One mux connection.
///
/// # Run recipe
/// One `handle_*` call or command, then [`poll_transmit`](Self::poll_transmit) while there is room,
/// [`poll_event`](Self::poll_event) until `None`, [`poll_close`](Self::poll_close), and a timer for
/// [`poll_timeout`](Self::poll_timeout).
///
/// # Deadlines
/// `Hello` while opening; `Ping`, `Pong`, `SendStall`, `RequestFrame` inside a frame and, on the side that accepted, `ItemGap`
/// and `Idle` while up; `Drain` while closing.
#[derive(Debug)]
pub struct Connection {
    pub(super) role: Role,
    pub(super) state: State,
    /// Shared by all connections of their owner.
    pub(super) config: Arc<Config>,
    pub(super) deframer: Deframer,
    pub(super) current: Option<Current>,
    pub(super) streams: Slab<Stream>,
    /// How many of them the peer opened.
    pub(super) theirs: u32,
    pub(super) by_id: HashMap<u32, Key>,
    pub(super) next_id: u32,
    /// Highest id the peer has opened.
    pub(super) peer_last: u32,
    pub(super) peer: Option<Hello>,
    pub(super) allowance: Allowance,
    pub(super) window: Window,
    /// Free bytes of the reserve pool, and streams waiting for some.
    pub(super) pool: u64,
    pub(super) pool_queue: VecDeque<Key>,
    pub(super) liveness: Liveness,
    /// The frame under way.
    pub(super) pace: Pace,
    /// When to look for what stands still.
    pub(super) look_at: Instant,
    /// The peer's last stream, when it was looked at last.
    pub(super) used: u32,
    /// When the socket came up or, once there have been streams, when one was last seen.
    pub(super) quiet_since: Instant,
    pub(super) close: Close,

    pub(super) greeting_due: bool,
    /// Our preface is out; no frame may go before it.
    pub(super) greeted: bool,
    pub(super) hello_due: bool,
    pub(super) credit_due: bool,
    pub(super) pongs: Fifo<u64>,
    pub(super) farewell: Option<(u8, &'static str)>,
    /// The header of a report of load that is to be written.
    pub(super) report: Option<Box<[u8]>>,
    /// The header of the last one that came, until its owner has taken it.
    pub(super) reported: Option<Box<[u8]>>,
    pub(super) urgent: VecDeque<Key>,
    pub(super) ready: VecDeque<Key>,
    pub(super) blocked: VecDeque<Key>,
    /// Bytes of items queued on all streams, and of large ones handed out and not written.
    pub(super) queued: usize,
    /// Bytes kept for writers whose turn it is.
    pub(super) granted: usize,
    /// Streams whose writers wait for room beside the others, in order.
    pub(super) waiting: VecDeque<Key>,
    pub(super) flight: Flight,
    /// Nobody else says whose turn it is.
    alone: bool,
    pub(super) scratch: Vec<u8>,
    pub(super) events: Fifo<Queued>,
    pub(super) stats: Stats,
}

/// A peer that lets this many pings go unanswered by us is flooding.
pub(super) const MAX_PONGS: usize = 32;

impl Connection {
    /// A connection whose socket is up. The dialer greets first.
    pub fn new(role: Role, config: impl Into<Arc<Config>>, now: Instant) -> Self {
        let config = config.into();
        Self {
            role,
            state: State::Opening,
            deframer: Deframer::new(&Limits::DEFAULT, config.crc),
            current: None,
            streams: Slab::default(),
            theirs: 0,
            by_id: HashMap::new(),
            next_id: if role == Role::Dialer { 1 } else { 2 },
            peer_last: 0,
            peer: None,
            allowance: Allowance::default(),
            window: Window::of_connection(config.connection_window, config.stream_window),
            pool: config.reserve_pool,
            pool_queue: VecDeque::new(),
            liveness: Liveness::new(now),
            pace: Pace::new(),
            look_at: Self::first_look(role, &config, now),
            used: 0,
            quiet_since: now,
            close: Close::new(),
            greeting_due: role == Role::Dialer,
            greeted: false,
            hello_due: role == Role::Dialer,
            credit_due: false,
            pongs: Fifo::default(),
            farewell: None,
            report: None,
            reported: None,
            urgent: VecDeque::new(),
            ready: VecDeque::new(),
            blocked: VecDeque::new(),
            queued: 0,
            granted: 0,
            waiting: VecDeque::new(),
            flight: Flight::default(),
            alone: true,
            scratch: Vec::new(),
            events: Fifo::default(),
            stats: Stats::default(),
            config,
        }
    }

    /// One of several connections of an owner, who says which writers' turn it is.
    pub(crate) fn shared(role: Role, config: Arc<Config>, now: Instant) -> Self {
        Self { alone: false, ..Self::new(role, config, now) }
    }

    /// Bytes of what was handed out are written.
    pub fn handle_sent(&mut self, bytes: usize, now: Instant) {
        self.liveness.on_sent(bytes, now);
        self.queued -= self.flight.on_written(bytes);
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The fault that ended the connection, if one did.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        match self.state {
            State::Closing => Ok(()),
            _ if self.peer.is_none() => {
                if self.quiet_since + self.config.hello_timeout <= now {
                    self.fail(Fault::Silent, now)
                } else {
                    Ok(())
                }
            }
            State::Opening | State::Up | State::Draining => {
                let outcome = match self.liveness.handle_timeout(&self.config, now) {
                    Ok(()) if self.pace.until() <= now => Err(Fault::Silent),
                    outcome => outcome,
                };
                if self.look_at <= now {
                    self.look(now);
                }
                outcome.or_else(|fault| self.fail(fault, now))
            }
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        while self.alone
            && self.next_waiting().is_some()
            && let Some((key, _)) = self.grant()
        {
            self.events.push_back(Queued::Writable(key));
        }
        loop {
            let queued = self.events.pop_front()?;
            let tag = |key| self.streams.get(key).map(|stream| stream.tag);
            let event = match queued {
                Queued::Whole(event) => Some(event),
                Queued::Load => self.reported.take().map(Event::Load),
                Queued::Readable(key) => tag(key).map(Event::Readable),
                Queued::Writable(key) => tag(key).map(Event::Writable),
                Queued::Status(key, status) => tag(key).map(|tag| Event::Status(tag, status)),
                Queued::Starved(key) => tag(key).map(Event::Starved),
                Queued::Cancelled(key, mode) => tag(key).map(|tag| Event::Cancelled(tag, mode)),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// How the socket should be closed now, if it should. Each answer is given once.
    pub fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        if self.state == State::Draining && self.streams.is_empty() && self.peer.is_some() && !self.wants_transmit() {
            self.state = State::Closing;
            self.close.begin(now);
        }
        if self.state != State::Closing {
            return None;
        }
        let written = !self.wants_transmit();
        self.close.poll(written.then_some(Closing::Flush), self.config.flush_timeout, now)
    }

    /// When to wake this machine, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        match self.state {
            State::Closing => self.close.deadline(self.config.flush_timeout),
            _ if self.peer.is_none() => {
                Some(Deadline { at: self.quiet_since + self.config.hello_timeout, why: Reason::Hello })
            }
            State::Opening | State::Up | State::Draining => {
                let mut next = self.liveness.deadline(&self.config);
                if self.pace.until() < next.at {
                    next = Deadline { at: self.pace.until(), why: Reason::RequestFrame };
                }
                Some(if self.look_at < next.at { self.next_look() } else { next })
            }
        }
    }

    /// Where the connection stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether not one byte has come from the peer.
    pub fn is_unheard(&self) -> bool {
        self.state != State::Up && self.peer.is_none() && !self.greeted && self.deframer.is_fresh()
    }

    /// Whether [`open`](Self::open) would succeed.
    pub fn can_open(&self) -> bool {
        self.state == State::Up
            && self.next_id < u32::MAX - 2
            && self.peer.is_some_and(|peer| self.ours() < peer.max_streams as usize)
    }

    /// Whether every id has been used; the owner should dial anew.
    pub const fn is_exhausted(&self) -> bool {
        self.next_id >= u32::MAX - 2
    }

    /// Streams that are not gone.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    const fn ours(&self) -> usize {
        self.streams.len().saturating_sub(self.theirs as usize)
    }

    /// Whether the stream's open frame has been handed to the driver: the peer may have seen it.
    pub fn was_written(&self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.opening.is_none())
    }

    /// Whether whole items wait for the stream's reader.
    pub fn has_unread(&self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|stream| !stream.inbox.is_empty())
    }

    /// Whether the peer's pings are to be answered.
    pub const fn owes_pong(&self) -> bool {
        !self.pongs.is_empty()
    }

    /// Bytes that would complete the frame at hand.
    pub fn wanted(&self) -> usize {
        self.deframer.wanted()
    }

    /// Bytes received, unread and charged to the connection's window.
    pub const fn held(&self) -> u64 {
        self.window.held()
    }

    /// Bytes of the reserve pool in use.
    pub fn reserved(&self) -> u64 {
        self.config.reserve_pool - self.pool
    }

    /// Counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Ends the connection because of `fault`, with a farewell that names it.
    pub(super) fn fail(&mut self, fault: Fault, now: Instant) -> Result<(), Fault> {
        if self.state != State::Closing {
            self.state = State::Closing;
            self.close.begin(now);
            // To a peer that has not shown our preface we say nothing.
            self.farewell = farewell(&fault).filter(|_| self.greeted || self.greeting_due);
            self.pongs = Fifo::default();
            self.urgent.clear();
            self.ready.clear();
            self.blocked.clear();
        }
        Err(fault)
    }

    /// Nobody reads the stream any more: drops what is there and returns its credit.
    pub(super) fn discard_input(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.reading.discard_input();
        stream.told = false;
        stream.outbox.take_writer();
        self.forget_inbox(key);
    }

    /// Returns everything an inbox holds to the connection's window and the pool.
    fn forget_inbox(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.inbox = Inbox::default();
        let held = stream.window.held();
        stream.window.consume(held);
        let pool = core::mem::take(&mut stream.pool_held);
        self.credit_due |= self.window.consume(held);
        self.release_pool(pool);
    }

    /// Forgets the stream.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else { return };
        let (held, pool) = (stream.window.held(), stream.pool_held);
        self.queued -= stream.outbox.held();
        self.granted -= stream.turn.granted();
        self.theirs -= u32::from(!stream.ours);
        self.by_id.remove(&stream.id.0);
        self.streams.discard(key);
        self.credit_due |= self.window.consume(held);
        self.release_pool(pool);
    }

    pub(super) fn list_urgent(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && !core::mem::replace(&mut stream.listed.urgent, true)
        {
            list(&mut self.urgent, &self.streams, key);
        }
    }

    pub(super) fn list_ready(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && !stream.listed.blocked
            && !core::mem::replace(&mut stream.listed.ready, true)
        {
            list(&mut self.ready, &self.streams, key);
        }
    }

    pub(super) fn tell_readable(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && !stream.reading.is_discarding()
            && !core::mem::replace(&mut stream.told, true)
        {
            self.events.push_back(Queued::Readable(key));
        }
    }
}

/// Appends `key` to a list on which each live stream stands at most twice. Streams that are gone are struck off now and
/// then, so that the list is bounded by the streams there are, however many come and go while it does not move.
pub(super) fn list(keys: &mut VecDeque<Key>, streams: &Slab<Stream>, key: Key) {
    if keys.len() > 2 * streams.len() + 64 {
        keys.retain(|listed| streams.contains(*listed));
    }
    keys.push_back(key);
}
