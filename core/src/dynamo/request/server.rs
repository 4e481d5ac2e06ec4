//! The worker's end of a Dynamo request connection: frames in, one ack each out, in order.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::{Buf, Bytes};

use crate::buf::closing::{Close, Closing};
use crate::buf::gate::{BURST, Flow, Gate};
use crate::buf::hold::{append, copy};
use crate::buf::pace::Pace;
use crate::buf::progress::Progress;
use crate::buf::send_queue::SendQueue;
use crate::protocol::Fault;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::dynamo::ack::Ack;
use crate::wire::dynamo::request::Head;
use crate::wire::parse::{ErrorKind, Format, Limits, Parse};

/// What bounds the worker's end of a request connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The largest request frame taken, in bytes; refused by its lengths alone. Default 32 MiB, as Dynamo's
    /// `DYN_TCP_MAX_MESSAGE_SIZE`.
    pub max_message: usize,
    /// Bytes of acks the peer may leave unread before its requests wait. Default 256 KiB.
    pub max_acks: usize,
    /// Bytes of requests that wait until acks have left, each received portion with 64 more for its keep, beyond which nothing
    /// more is received until half of them are left. Default 4 MiB. What had been received by then is taken all the same, up to
    /// 64 MiB of it.
    pub max_waiting: usize,
    /// The longest a request frame may be under way without its end or 10 KiB more of it. Default 10 s.
    pub frame_timeout: Duration,
    /// The longest acks may wait without one byte leaving. Default 10 s.
    pub send_timeout: Duration,
    /// The longest to wait for the last acks to be written once the connection closes. Default 1 s.
    pub flush_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_message: 32 << 20,
            max_acks: 256 << 10,
            max_waiting: 4 << 20,
            frame_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(1),
        }
    }
}

/// One request frame, whole and owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    bytes: Bytes,
    path: Range<usize>,
    headers: Range<usize>,
    payload: Range<usize>,
}

impl Frame {
    /// The routing key; need not be UTF-8.
    pub fn path(&self) -> &[u8] {
        self.bytes.get(self.path.clone()).unwrap_or_default()
    }

    /// JSON, or nothing; read it with `wire::headers`.
    pub fn headers(&self) -> &[u8] {
        self.bytes.get(self.headers.clone()).unwrap_or_default()
    }

    /// One two-part frame, sharing the memory of the whole.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(self.payload.clone())
    }
}

/// What each received portion of requests that wait counts besides its bytes.
const KEEP: usize = 64;

/// Where the connection stands.
///
/// ```text
///  Open ──peer's FIN, nothing waits; leave()──▶ Closing ──acks written──▶ (owner closes the socket)
///    └──unreadable frame, too much that waits for all pausing, a frame that comes too slowly, an ack that stands still──▶ Closing
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Frames are read and answered.
    Open,
    /// Nothing more is read; what has been answered goes out.
    Closing,
}

/// The worker's end of one request connection.
///
/// # Run recipe
/// One `handle_*` call; then [`next`](Self::next) until `None`, each frame answered with [`answer`](Self::answer) before
/// the next one is asked for, which is what keeps acks in order; then [`poll_transmit`](Self::poll_transmit),
/// [`poll_flow`](Self::poll_flow), [`poll_close`](Self::poll_close), and a timer for [`poll_timeout`](Self::poll_timeout).
/// The same again after [`handle_sent`](Self::handle_sent) if requests [can go on](Self::can_go_on).
///
/// # Deadlines
/// `RequestFrame` while a frame is half-read, `SendStall` while acks wait, `Drain` while closing. An idle connection has
/// none: callers keep theirs open for minutes, and the socket's keepalive finds those that are gone.
#[derive(Debug)]
pub struct Server {
    config: Config,
    state: State,
    /// The frame at hand, as far as it has come.
    carry: Vec<u8>,
    /// Bytes still missing from it, as far as its lengths tell.
    missing: usize,
    pace: Pace,
    acks: Vec<u8>,
    /// What came while too many acks were unread, in order, and how many bytes of it.
    backlog: VecDeque<Bytes>,
    waiting: usize,
    /// By what waits.
    gate: Gate,
    /// The peer has closed its direction.
    eof: bool,
    progress: Progress,
    close: Close,
}

impl Server {
    /// A connection that has just been accepted.
    pub const fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            state: State::Open,
            carry: Vec::new(),
            missing: 0,
            pace: Pace::new(),
            acks: Vec::new(),
            backlog: VecDeque::new(),
            waiting: 0,
            gate: Gate::new(),
            eof: false,
            progress: Progress::new(now),
            close: Close::new(),
        }
    }

    /// Reads the next frame off the front of what waits and of `input`. `None` once the rest of it has been kept for later: for
    /// more bytes, or until the peer has read some of its acks. See [`can_go_on`](Self::can_go_on).
    ///
    /// # Errors
    /// [`Fault::Wire`] for a frame that can never be taken, [`Fault::NoMemory`] for one that cannot be held, [`Fault::Flood`] if
    /// more waits than a driver that pauses can have brought. The connection is closing then, and the refusal is queued.
    pub fn next(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<Frame>, Fault> {
        while self.state == State::Open {
            let outcome = if self.backlog.is_empty() && self.has_room() {
                if input.is_empty() && (self.missing > 0 || self.carry.is_empty()) {
                    break;
                }
                self.step(input, now)
            } else {
                self.keep(input, now)?;
                if !self.has_room() {
                    break;
                }
                self.step_back(now)
            };
            if let Some(frame) = outcome? {
                return Ok(Some(frame));
            }
        }
        self.gate.weigh(self.backlog_held(), self.config.max_waiting);
        if self.eof && self.backlog.is_empty() {
            self.leave(now);
        }
        Ok(None)
    }

    /// Whether another request may be answered.
    const fn has_room(&self) -> bool {
        self.acks.len() + self.progress.in_flight() <= self.config.max_acks
    }

    /// Puts what has come behind what waits already.
    fn keep(&mut self, input: &mut &[u8], now: Instant) -> Result<(), Fault> {
        if input.is_empty() {
            return Ok(());
        }
        if self.backlog_held() > self.config.max_waiting.saturating_add(BURST) {
            return self.fail(Fault::Flood, now);
        }
        let Ok(chunk) = copy(input) else { return self.cannot_hold(input.len(), now) };
        self.waiting += chunk.len();
        self.backlog.push_back(chunk);
        *input = &[];
        // The rest of the frame at hand is here.
        self.pace.rest();
        Ok(())
    }

    /// A step through what waits.
    fn step_back(&mut self, now: Instant) -> Result<Option<Frame>, Fault> {
        let Some(mut chunk) = self.backlog.pop_front() else { return Ok(None) };
        let mut rest = &*chunk;
        let outcome = self.step(&mut rest, now);
        let used = chunk.len() - rest.len();
        self.waiting = self.waiting.saturating_sub(used);
        chunk.advance(used);
        if !chunk.is_empty() && self.state == State::Open {
            self.backlog.push_front(chunk);
        }
        outcome
    }

    fn step(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<Frame>, Fault> {
        let limits = Limits { max_message: self.config.max_message, ..Limits::default() };
        if self.carry.is_empty() {
            // The usual case: a whole frame in one piece of memory.
            if let Ok(Parse::Complete { value: head, used }) = Head::parse(input, &limits)
                && let Some((whole, rest)) = input.split_at_checked(used + head.payload_len)
            {
                let (path, headers) = (head.path.len(), head.headers.len());
                let Ok(bytes) = copy(whole) else { return self.cannot_hold(whole.len(), now) };
                *input = rest;
                return Ok(Some(cut(bytes, path, headers)));
            }
        }
        let (front, rest) = input.split_at_checked(self.missing.max(1)).unwrap_or((input, &[]));
        if append(&mut self.carry, front).is_err() {
            return self.cannot_hold(self.carry.len() + self.missing, now);
        }
        self.pace.grow(0, front.len(), self.config.frame_timeout, now);
        *input = rest;
        match Head::parse(&self.carry, &limits) {
            Err(error) => {
                let text = match error.kind {
                    ErrorKind::TooLarge { declared, limit } => {
                        alloc::format!("Server unavailable: message too large: {declared} bytes (max: {limit} bytes)")
                    }
                    _ => alloc::format!("Server unavailable: {error}"),
                };
                self.refuse(&Ack::from_text(text.as_bytes()), now);
                Err(Fault::Wire(error))
            }
            Ok(Parse::Incomplete { needed }) => {
                self.missing = needed;
                Ok(None)
            }
            Ok(Parse::Complete { value: head, used }) => {
                self.missing = (used + head.payload_len).saturating_sub(self.carry.len());
                if self.missing > 0 {
                    return Ok(None);
                }
                self.pace.rest();
                let (path, headers) = (head.path.len(), head.headers.len());
                Ok(Some(cut(Bytes::from(core::mem::take(&mut self.carry)), path, headers)))
            }
        }
    }

    /// There is no memory for a request of so many bytes, or for what waits before it.
    fn cannot_hold<T>(&mut self, bytes: usize, now: Instant) -> Result<T, Fault> {
        let text = alloc::format!("Server overloaded: no memory for a request of {bytes} bytes");
        self.refuse(&Ack::from_text(text.as_bytes()), now);
        Err(Fault::NoMemory)
    }

    /// Answers the frame [`next`](Self::next) gave last.
    pub fn answer(&mut self, ack: &Ack<'_>, now: Instant) {
        if self.acks.is_empty() {
            self.progress.begin(now);
        }
        let at = self.acks.len();
        self.acks.resize(at + ack.emitted_len(), 0);
        let emitted = self.acks.get_mut(at..).map(|room| ack.emit(room));
        debug_assert!(matches!(emitted, Some(Ok(_))), "an ack has the room it asked for");
    }

    /// Refuses the frame at hand before the rest of it has come, and closes behind the ack that says so.
    pub fn refuse(&mut self, ack: &Ack<'_>, now: Instant) {
        self.answer(ack, now);
        self.leave(now);
    }

    /// Reads nothing more, and closes once the acks are out.
    pub fn leave(&mut self, now: Instant) {
        if self.state == State::Open {
            self.state = State::Closing;
            self.close.begin(now);
            self.carry = Vec::new();
            self.backlog = VecDeque::new();
            self.waiting = 0;
        }
    }

    /// The peer has closed its direction: the connection closes once what waits is answered.
    pub fn handle_eof(&mut self, now: Instant) {
        self.eof = true;
        if self.backlog.is_empty() {
            self.leave(now);
        }
    }

    /// Whether [`next`](Self::next) would read on in what waits, as acks have left.
    pub fn can_go_on(&self) -> bool {
        !self.backlog.is_empty() && self.has_room()
    }

    /// Bytes of what was handed out are written.
    pub const fn handle_sent(&mut self, bytes: usize, now: Instant) {
        self.progress.on_sent(bytes, now);
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`Fault::Silent`] for a frame that came too slowly, [`Fault::Stalled`] for acks that did.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        match self.poll_timeout() {
            Some(Deadline { at, why: Reason::RequestFrame }) if at <= now => self.fail(Fault::Silent, now),
            Some(Deadline { at, why: Reason::SendStall }) if at <= now => self.fail(Fault::Stalled, now),
            _ => Ok(()),
        }
    }

    /// Appends the acks that are due; whether there were any.
    pub fn poll_transmit(&mut self, out: &mut SendQueue) -> bool {
        if self.acks.is_empty() || out.is_full() {
            return false;
        }
        out.push(&self.acks);
        self.progress.on_handed_out(self.acks.len());
        self.acks.clear();
        true
    }

    /// Whether acks are due.
    pub const fn wants_transmit(&self) -> bool {
        !self.acks.is_empty()
    }

    /// Whether receiving is to pause or to go on; each answer once.
    pub const fn poll_flow(&mut self) -> Option<Flow> {
        match self.state {
            State::Open => self.gate.poll(),
            State::Closing => None,
        }
    }

    /// How the socket should be closed now, if it should; each answer once.
    pub fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        if self.state == State::Open {
            return None;
        }
        let written = !self.wants_transmit();
        self.close.poll(written.then_some(Closing::Flush), self.config.flush_timeout, now)
    }

    /// When to wake this machine, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.state == State::Closing {
            return self.close.deadline(self.config.flush_timeout);
        }
        let frame = (!self.carry.is_empty() && self.backlog.is_empty())
            .then(|| Deadline { at: self.pace.until(), why: Reason::RequestFrame });
        let waits = self.progress.in_flight() + self.acks.len() > 0;
        Deadline::soonest(frame, waits.then(|| self.progress.stall(self.config.send_timeout)))
    }

    /// Where the connection stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Bytes that would complete the frame at hand, as far as is known.
    pub const fn wanted(&self) -> usize {
        if self.carry.is_empty() { 0 } else { self.missing }
    }

    /// Bytes held for the frame at hand and of what waits.
    pub fn held(&self) -> usize {
        self.carry.len() + self.backlog_held()
    }

    fn backlog_held(&self) -> usize {
        self.waiting + self.backlog.len() * KEEP
    }

    fn fail<T>(&mut self, fault: Fault, now: Instant) -> Result<T, Fault> {
        self.leave(now);
        if fault == Fault::Flood || fault == Fault::Stalled {
            self.acks.clear();
        }
        Err(fault)
    }
}

fn cut(bytes: Bytes, path: usize, headers: usize) -> Frame {
    let path = 2..2 + path;
    let headers = path.end + 2..path.end + 2 + headers;
    let payload = headers.end + 4..bytes.len();
    Frame { bytes, path, headers, payload }
}
