//! The worker's end of a Dynamo request stream: a handshake out, then items in, and one word at the end.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;

use bytes::Bytes;

use crate::buf::closing::{Close, Closing};
use crate::buf::fifo::Fifo;
use crate::buf::gate::{BURST, Flow, Gate, low};
use crate::buf::hold::copy;
use crate::buf::pace::Pace;
use crate::buf::send_queue::SendQueue;
use crate::dynamo::cost::cost;
use crate::dynamo::frames::{Frames, of_item};
use crate::protocol::Fault;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::dynamo::control::{Handshake, StreamType};
use crate::wire::dynamo::two_part::{Shape, TwoPart, frame};
use crate::wire::dynamo::word::Word;
use crate::wire::parse::Limits;

/// What bounds the worker's end of a request stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The largest item, refused by its lengths alone. Default 32 MiB; Dynamo itself has no bound here.
    pub max_item: usize,
    /// Bytes of items that wait for their handler, each with 64 more for its keep, beyond which nothing more is received until
    /// half of them are left. Default 64 MiB. What had been received by then is taken all the same, up to 64 MiB of it.
    pub max_unread: usize,
    /// The longest silence between two items, none of which waits for its handler, before the call fails. Default 600 s.
    pub item_timeout: Duration,
    /// The longest an item may be under way without its end or 10 KiB more of it. Default 10 s.
    pub frame_timeout: Duration,
    /// The longest to wait for the caller to close after its last word. Default 10 s.
    pub fin_timeout: Duration,
    /// The longest that the close may take. Default 1 s.
    pub flush_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_item: 32 << 20,
            max_unread: 64 << 20,
            item_timeout: Duration::from_secs(600),
            frame_timeout: Duration::from_secs(10),
            fin_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(1),
        }
    }
}

/// Where the connection stands.
///
/// ```text
///  Reading ──sentinel, stop, kill, leave()──▶ Ended ──FIN, reset or 10 s──▶ Closing
///     └──FIN, what a caller may not say, silence, too much unread for all pausing──▶ Closing
/// ```
/// The socket may come up at any point. Items that are here can be read in every state, unless the call is over.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Items come in.
    Reading,
    /// Nothing more counts; the caller closes first, so that its end of the port pair keeps the memory of it.
    Ended,
    /// The socket is to be closed.
    Closing,
}

/// What the caller makes happen.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An item, or the end, can be read.
    Readable,
    /// The caller wants no more.
    Stop,
    /// The caller has left, closed before the end, or broke the protocol.
    Kill,
    /// An item is larger than may be.
    TooLarge,
    /// The caller has been silent for too long.
    Silent,
    /// More lies unread than a driver that pauses can have brought.
    Overrun,
    /// There is no memory for the item that comes.
    NoMemory,
}

/// The worker's end of one call's request stream.
///
/// # Run recipe
/// One `handle_*` call or command; then [`poll_event`](Self::poll_event) until `None`,
/// [`poll_transmit`](Self::poll_transmit), [`poll_flow`](Self::poll_flow), [`poll_close`](Self::poll_close), and a timer for
/// [`poll_timeout`](Self::poll_timeout).
///
/// # Deadlines
/// `ItemGap` while items come in, `RequestFrame` inside one, `CallHomeFin` once the last word is said, `Drain` while closing. The dial is bounded by the
/// owner.
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    state: State,
    up: bool,
    /// The handshake, until it is handed out; nothing follows it.
    greeting: Vec<u8>,
    frames: Frames,
    pace: Pace,
    /// Frames read, to tell them apart.
    read: u32,
    items: Fifo<Bytes>,
    /// What `items` cost.
    unread: usize,
    gate: Gate,
    /// The caller was held back, so that its silence was ours.
    held_back: bool,
    /// All items are here.
    complete: bool,
    /// The caller has closed its direction.
    eof: bool,
    events: VecDeque<Event>,
    /// When the state last moved, or bytes last came.
    since: Instant,
    close: Close,
}

/// The longest header of a frame a caller may send here.
const MAX_WORD: usize = 64;

impl Receiver {
    /// The request stream `subject` of a call whose socket is still being dialed.
    pub fn new(config: Config, subject: &str, now: Instant) -> Self {
        let handshake = Handshake { subject: subject.into(), stream_type: StreamType::Request };
        let greeting = frame(&handshake.write().unwrap_or_default(), &[]);
        Self {
            config,
            state: State::Reading,
            up: false,
            greeting,
            frames: Frames::new(),
            pace: Pace::new(),
            read: 0,
            items: Fifo::default(),
            unread: 0,
            gate: Gate::new(),
            held_back: false,
            complete: false,
            eof: false,
            events: VecDeque::new(),
            since: now,
            close: Close::new(),
        }
    }

    /// The next item; `None` once all have been read.
    pub fn recv(&mut self) -> Poll<Option<Bytes>> {
        match self.items.pop_front() {
            Some(item) => {
                let (before, low) = (self.unread, low(self.config.max_unread));
                self.unread -= cost(&item);
                if before > low && self.unread <= low {
                    self.weigh();
                }
                Poll::Ready(Some(item))
            }
            None if self.complete => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// The items that wait, if all have come: they outlive the connection.
    pub(crate) fn into_rest(self) -> Option<Fifo<Bytes>> {
        self.complete.then_some(self.items)
    }

    /// The call is over: what still comes is dropped.
    pub fn leave(&mut self, now: Instant) {
        self.items = Fifo::default();
        self.unread = 0;
        self.end(now);
        if !self.up || self.eof {
            self.close(now);
        }
    }

    /// The socket is of no more use.
    pub fn close(&mut self, now: Instant) {
        if self.state != State::Closing {
            self.state = State::Closing;
            self.close.begin(now);
            self.frames.clear();
            self.greeting = Vec::new();
        }
    }

    /// The socket is up.
    pub const fn handle_open(&mut self, now: Instant) {
        self.up = true;
        self.since = now;
    }

    /// Bytes from the caller.
    ///
    /// # Errors
    /// [`Fault::State`] or [`Fault::Wire`] for what is neither an item nor a word; the call counts as killed.
    /// [`Fault::ItemTooLarge`] for an item that is not taken, [`Fault::NoMemory`] for one that cannot be held.
    pub fn handle_recv(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let (len, max_body) = (bytes.len(), self.config.max_item);
        let limits = Limits { max_message: usize::MAX, max_header: MAX_WORD, max_body, ..Limits::default() };
        while self.state == State::Reading {
            self.since = now;
            match self.frames.next(&mut bytes, &limits, read) {
                Ok(Some(frame)) => {
                    self.read = self.read.wrapping_add(1);
                    self.on_frame(frame, now);
                }
                Ok(None) => {
                    self.weigh();
                    self.watch(len, now);
                    return Ok(());
                }
                Err(fault) => {
                    let fault = of_item(fault, max_body);
                    let event = match fault {
                        Fault::ItemTooLarge { .. } => Event::TooLarge,
                        Fault::NoMemory => Event::NoMemory,
                        _ => Event::Kill,
                    };
                    self.fail(event, now);
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: Frame, now: Instant) {
        match frame {
            Frame::Item(_) if self.unread > self.config.max_unread.saturating_add(BURST) => {
                self.fail(Event::Overrun, now);
            }
            Frame::Item(item) => {
                if self.items.is_empty() {
                    self.events.push_back(Event::Readable);
                }
                self.unread += cost(&item);
                self.items.push_back(item);
            }
            Frame::Word(Word::Sentinel) => {
                self.complete = true;
                self.events.push_back(Event::Readable);
                self.end(now);
            }
            Frame::Word(Word::Stop) => {
                self.events.push_back(Event::Stop);
                self.end(now);
            }
            Frame::Word(Word::Kill) => {
                self.events.push_back(Event::Kill);
                self.end(now);
            }
        }
    }

    /// The caller has closed its direction: after its last word that is the end, before it the call is broken off.
    pub fn handle_eof(&mut self, now: Instant) {
        self.eof = true;
        match self.state {
            State::Reading => self.fail(Event::Kill, now),
            State::Ended | State::Closing => self.close(now),
        }
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`Fault::Silent`] if the caller has said nothing for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        match self.poll_timeout() {
            Some(Deadline { at, why: Reason::ItemGap }) if at <= now && (self.held_back || !self.items.is_empty()) => {
                self.held_back = self.gate.is_shut();
                // The handler is slow, not the caller.
                self.since = now;
                Ok(())
            }
            Some(Deadline { at, why: Reason::ItemGap }) if at <= now => {
                self.fail(Event::Silent, now);
                Err(Fault::Silent)
            }
            Some(Deadline { at, why: Reason::RequestFrame }) if at <= now => {
                self.fail(Event::Silent, now);
                Err(Fault::Silent)
            }
            Some(Deadline { at, why: Reason::CallHomeFin }) if at <= now => {
                self.close(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the handshake is due and the socket is up.
    pub const fn wants_transmit(&self) -> bool {
        self.up && !self.greeting.is_empty()
    }

    /// Appends the handshake, once; whether it did.
    pub fn poll_transmit(&mut self, out: &mut SendQueue) -> bool {
        if !self.wants_transmit() || out.is_full() {
            return false;
        }
        out.push(&core::mem::take(&mut self.greeting));
        true
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether receiving is to pause or to go on; each answer once.
    pub const fn poll_flow(&mut self) -> Option<Flow> {
        match self.state {
            State::Closing => None,
            _ => self.gate.poll(),
        }
    }

    /// How the socket should be closed now, if it should; each answer once.
    pub fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        let how = if self.up { Closing::Flush } else { Closing::Abort };
        self.close.poll(Some(how), self.config.flush_timeout, now)
    }

    /// When to wake this machine, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let (bound, why) = match self.state {
            State::Closing => return self.close.deadline(self.config.flush_timeout),
            _ if !self.up => return None,
            State::Reading => {
                let gap = Deadline { at: self.since + self.config.item_timeout, why: Reason::ItemGap };
                let frame = Deadline { at: self.pace.until(), why: Reason::RequestFrame };
                return Some(if frame.at < gap.at { frame } else { gap });
            }
            State::Ended => (self.config.fin_timeout, Reason::CallHomeFin),
        };
        Some(Deadline { at: self.since + bound, why })
    }

    /// Where the connection stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the socket has come up.
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Bytes that would complete the frame at hand, as far as is known.
    pub const fn wanted(&self) -> usize {
        self.frames.missing()
    }

    /// Bytes held: items that wait, and the frame at hand.
    pub const fn held(&self) -> usize {
        self.unread + self.frames.held()
    }

    /// `len` bytes have been read; whether an item is under way behind them.
    fn watch(&mut self, len: usize, now: Instant) {
        // A caller that is held back cannot go on with its item.
        if self.frames.held() == 0 || self.gate.is_shut() {
            self.pace.rest();
        } else {
            self.pace.grow(self.read, len, self.config.frame_timeout, now);
        }
    }

    /// Nothing more counts.
    fn end(&mut self, now: Instant) {
        if self.state == State::Reading {
            self.state = State::Ended;
            self.since = now;
            self.frames.clear();
            self.gate.open();
        }
    }

    /// Looks whether the caller is to be held back. Once nothing more counts, it is not.
    fn weigh(&mut self) {
        if self.state == State::Reading {
            self.gate.weigh(self.unread, self.config.max_unread);
            self.held_back |= self.gate.is_shut();
        }
    }

    fn fail(&mut self, event: Event, now: Instant) {
        self.events.push_back(event);
        self.close(now);
    }
}

/// What a caller may say.
enum Frame {
    Item(Bytes),
    Word(Word),
}

fn read(frame: &TwoPart<'_>) -> Result<Frame, Fault> {
    match frame.shape() {
        Shape::DataOnly => Ok(Frame::Item(copy(frame.body)?)),
        Shape::HeaderOnly => Ok(Frame::Word(Word::read(frame.header)?)),
        // A value of no bytes is none in either codec.
        Shape::Both | Shape::Empty => Err(Fault::State),
    }
}
