//! The worker's end of a Dynamo call-home connection: handshake, prologue, items, the end; stop and kill the other way.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::buf::closing::{Close, Closing};
use crate::buf::outbox::SendError;
use crate::buf::progress::Progress;
use crate::buf::send_queue::SendQueue;
use crate::dynamo::queue::Queue;
use crate::protocol::Fault;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::codec::Codec;
use crate::wire::dynamo::annotated::Annotated;
use crate::wire::dynamo::control::{Handshake, Prologue, StreamType};
use crate::wire::dynamo::envelope::Envelope;
use crate::wire::dynamo::two_part::{HEAD, Head, Shape, TwoPart, append, frame};
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::dynamo::word::Word;
use crate::wire::parse::{Limits, Parse};

/// What bounds the worker's end of a call-home connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes of items queued before a writer has to wait, each counted with 64 more. Default 256 KiB; one larger item is
    /// always taken when the queue is empty.
    pub send_buffer: usize,
    /// The longest that bytes may fail to move, because the caller reads nothing. Default 60 s.
    pub send_timeout: Duration,
    /// The longest to wait for the caller to close after the end. Default 10 s.
    pub fin_timeout: Duration,
    /// The longest to wait for what was begun to be written once the call is cancelled. Default 1 s.
    pub flush_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            send_buffer: 256 << 10,
            send_timeout: Duration::from_secs(60),
            fin_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(1),
        }
    }
}

/// Where the connection stands.
///
/// ```text
///  Waiting ──start()──▶ Streaming ──finish(), all written──▶ Ended ──FIN, reset or 10 s──▶ Closing
///     │                     └──stop, kill, anything else the caller may not say──▶ Closing
///     └──fail(): an error prologue and the sentinel──▶ Ended
///  Waiting, Streaming ──cut()──▶ Closing, by way of Ended if the handshake is still to be written
/// ```
/// The socket may come up at any point; until then nothing is written. After a stop or a kill neither the final frame nor
/// the sentinel follows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The call has not started; no prologue is due.
    Waiting,
    /// Items go out.
    Streaming,
    /// All is said; the caller closes first, so that its end of the port pair keeps the memory of it.
    Ended,
    /// The socket is to be closed.
    Closing,
}

/// What the caller makes happen.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A writer that was turned away may try again.
    Writable,
    /// The caller wants no more.
    Stop,
    /// The caller has left, or broke the protocol.
    Kill,
}

/// The worker's end of one call's response stream.
///
/// # Run recipe
/// One `handle_*` call or command; then [`poll_event`](Self::poll_event) until `None`,
/// [`poll_transmit`](Self::poll_transmit) while there is room, [`poll_close`](Self::poll_close), and a timer for
/// [`poll_timeout`](Self::poll_timeout).
///
/// # Deadlines
/// `SendStall` while bytes wait, `CallHomeFin` once all is said, `Drain` while closing. The dial and the call itself are
/// bounded by the owner.
#[derive(Debug)]
pub struct Sender {
    config: Config,
    codec: Codec,
    state: State,
    up: bool,
    /// Whole control frames that go before the next item: handshake, prologue.
    front: Vec<u8>,
    items: Queue,
    /// Whole frames that go after the last item: failure, final, sentinel.
    back: Vec<u8>,
    /// The caller has closed its direction.
    eof: bool,
    /// The control frame at hand.
    carry: Vec<u8>,
    events: VecDeque<Event>,
    progress: Progress,
    /// When the last word was given, or a byte last left after it.
    ended: Instant,
    close: Close,
}

/// The longest header of a frame a caller may send here.
const MAX_WORD: usize = 64;

impl Sender {
    /// The response stream `subject` of a call whose socket is still being dialed.
    pub fn new(config: Config, codec: Codec, subject: &str, now: Instant) -> Self {
        let handshake = Handshake { subject: subject.into(), stream_type: StreamType::Response };
        Self {
            config,
            codec,
            state: State::Waiting,
            up: false,
            front: frame(&handshake.write().unwrap_or_default(), &[]),
            items: Queue::default(),
            back: Vec::new(),
            eof: false,
            carry: Vec::new(),
            events: VecDeque::new(),
            progress: Progress::new(now),
            ended: now,
            close: Close::new(),
        }
    }

    /// The handler runs: the stream is there, so say so.
    pub fn start(&mut self) {
        if self.state == State::Waiting {
            self.state = State::Streaming;
            append(&mut self.front, &Prologue::default().write().unwrap_or_default(), &[]);
        }
    }

    /// Queues an item.
    ///
    /// # Errors
    /// [`SendError::Blocked`], with an [`Event::Writable`] to come, and [`SendError::Closed`].
    pub fn send(&mut self, item: Bytes) -> Result<(), SendError> {
        self.offer(item, true)
    }

    /// Queues an item, if the owner has room for it beside those of its other connections: `admitted`.
    pub(crate) fn offer(&mut self, item: Bytes, admitted: bool) -> Result<(), SendError> {
        if self.state != State::Streaming {
            return Err(SendError::Closed);
        }
        self.items.offer(item, self.config.send_buffer, admitted)
    }

    /// Keeps room for an item of `len` bytes, which is sent next; `false` if there is none: an event tells.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub(crate) fn reserve(&mut self, len: usize, admitted: bool) -> Result<bool, SendError> {
        if self.state != State::Streaming {
            return Err(SendError::Closed);
        }
        Ok(self.items.reserve(len, self.config.send_buffer, admitted))
    }

    /// The writer that was turned away does not try again. Others that share the stream do.
    pub(crate) fn forgo(&mut self) {
        if self.items.forgo() {
            self.events.push_back(Event::Writable);
        }
    }

    /// It is the turn of the writer that waits for room beside other connections.
    pub(crate) const fn grant(&mut self) {
        self.items.grant();
    }

    /// What that writer weighs.
    pub(crate) const fn awaited(&self) -> Option<usize> {
        self.items.awaited()
    }

    /// Bytes of memory that wait here to be written, with those kept for the writer whose turn it is.
    pub(crate) const fn outgoing(&self) -> usize {
        self.items.outgoing()
    }

    /// Ends the stream after the items queued: well, or with an error item.
    pub fn finish(&mut self, failure: Option<Failure>, now: Instant) {
        if self.state != State::Streaming {
            return;
        }
        if let Some(failure) = failure {
            let item = Annotated::failed(failure).write(self.codec).unwrap_or_default();
            put_item(&mut self.back, self.codec, &item);
        }
        put_body(&mut self.back, self.codec, Envelope::FINAL);
        self.end(now);
    }

    /// Ends the stream now: items still queued are dropped.
    pub fn abort(&mut self, failure: Failure, now: Instant) {
        self.items.clear();
        if self.state == State::Waiting { self.fail(failure, now) } else { self.finish(Some(failure), now) }
    }

    /// Says in place of a stream why the call has no stream.
    pub fn fail(&mut self, failure: Failure, now: Instant) {
        if self.state != State::Waiting {
            return;
        }
        let text = failure.diagnostic().unwrap_or(failure.class().name()).into();
        let prologue = Prologue { error: Some(text), typed_error: Some(failure) };
        append(&mut self.front, &prologue.write().unwrap_or_default(), &[]);
        self.end(now);
    }

    fn end(&mut self, now: Instant) {
        if self.front.is_empty() && self.items.is_empty() {
            // What is said now has not waited before.
            self.progress.begin(now);
        }
        append(&mut self.back, Word::Sentinel.header(), &[]);
        self.state = State::Ended;
        self.ended = now;
        self.items.close();
    }

    /// The socket is up.
    pub const fn handle_open(&mut self, now: Instant) {
        self.up = true;
        self.progress.begin(now);
        self.ended = now;
    }

    /// Bytes from the caller.
    ///
    /// # Errors
    /// [`Fault::State`] or [`Fault::Wire`] for anything but a stop or a kill; the call counts as killed.
    pub fn handle_recv(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let limits = Limits { max_header: MAX_WORD, max_body: 0, ..Limits::default() };
        while !bytes.is_empty() && self.state != State::Closing {
            // Whole frames here are at most 88 bytes: what is beyond one is left for the next round.
            let room = (HEAD + MAX_WORD).saturating_sub(self.carry.len());
            let (front, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.carry.extend_from_slice(front);
            bytes = rest;
            while let Some(word) = match self.word(&limits) {
                Ok(word) => word,
                Err(fault) => {
                    self.on_cancel(Event::Kill, now);
                    return Err(fault);
                }
            } {
                match word {
                    Word::Stop => self.on_cancel(Event::Stop, now),
                    Word::Kill => self.on_cancel(Event::Kill, now),
                    Word::Sentinel => {
                        self.on_cancel(Event::Kill, now);
                        return Err(Fault::State);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the next word off the carry.
    fn word(&mut self, limits: &Limits) -> Result<Option<Word>, Fault> {
        if self.carry.is_empty() {
            return Ok(None);
        }
        let (word, used) = match TwoPart::parse_unverified(&self.carry, limits)? {
            Parse::Incomplete { .. } => return Ok(None),
            Parse::Complete { value, used } => {
                value.verify()?;
                if value.shape() != Shape::HeaderOnly {
                    return Err(Fault::State);
                }
                (Word::read(value.header)?, used)
            }
        };
        self.carry.drain(..used);
        Ok(Some(word))
    }

    /// The caller has closed its direction. That is no cancellation while the stream runs.
    pub fn handle_eof(&mut self, now: Instant) {
        self.eof = true;
        self.close_if_done(now);
    }

    /// Bytes of what was handed out are written.
    pub fn handle_sent(&mut self, bytes: usize, now: Instant) {
        self.progress.on_sent(bytes, now);
        self.items.on_written(bytes);
        if self.state == State::Ended {
            self.ended = now;
        }
        self.close_if_done(now);
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`Fault::Stalled`] if the caller reads nothing.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        match self.poll_timeout() {
            Some(Deadline { at, why: Reason::SendStall }) if at <= now => {
                self.on_cancel(Event::Kill, now);
                Err(Fault::Stalled)
            }
            Some(Deadline { at, why: Reason::CallHomeFin }) if at <= now => {
                self.close(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Appends what is due, whole frames only; whether there was anything.
    pub fn poll_transmit(&mut self, out: &mut SendQueue, now: Instant) -> bool {
        if !self.wants_transmit() || out.is_full() {
            return false;
        }
        let before = out.len();
        self.progress.begin(now);
        out.push(&self.front);
        self.front.clear();
        while !out.is_full() {
            let Some(item) = self.items.pop() else { break };
            push_item(out, self.codec, &item);
        }
        if self.items.is_empty() && !self.back.is_empty() {
            out.push(&self.back);
            self.back = Vec::new();
        }
        if self.items.take_room(self.config.send_buffer) {
            self.events.push_back(Event::Writable);
        }
        self.items.on_handed_out(out.len() - before);
        self.progress.on_handed_out(out.len() - before);
        true
    }

    /// Whether anything is due and the socket is up.
    pub fn wants_transmit(&self) -> bool {
        self.up && self.state != State::Closing && self.has_more()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How the socket should be closed now, if it should; each answer once.
    pub fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        let how = if self.up { Closing::Flush } else { Closing::Abort };
        self.close.poll(Some(how), self.config.flush_timeout, now)
    }

    /// When to wake this machine, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.state == State::Closing {
            return self.close.deadline(self.config.flush_timeout);
        }
        if !self.up {
            return None;
        }
        if self.progress.in_flight() > 0 || self.wants_transmit() {
            return Some(self.progress.stall(self.config.send_timeout));
        }
        (self.state == State::Ended)
            .then(|| Deadline { at: self.ended + self.config.fin_timeout, why: Reason::CallHomeFin })
    }

    /// Where the connection stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the socket has come up.
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Bytes of items waiting.
    pub const fn held(&self) -> usize {
        self.items.held()
    }

    /// Whether anything has not been handed out.
    fn has_more(&self) -> bool {
        !(self.front.is_empty() && self.items.is_empty() && self.back.is_empty())
    }

    /// All is said, written, and the caller has closed its direction.
    fn close_if_done(&mut self, now: Instant) {
        let written = self.progress.in_flight() == 0 && !self.has_more();
        if self.eof && self.state == State::Ended && written {
            self.close(now);
        }
    }

    fn on_cancel(&mut self, event: Event, now: Instant) {
        // After the end a word is late, and no violation.
        if self.state != State::Ended {
            self.events.push_back(event);
        }
        self.close(now);
    }

    /// Ends the stream without its end, as a stop that came another way. What has not been said of handshake and prologue
    /// still is: the caller shall know which of its calls this was.
    pub fn cut(&mut self, now: Instant) {
        if self.front.is_empty() || matches!(self.state, State::Ended | State::Closing) {
            return self.close(now);
        }
        self.items.clear();
        self.state = State::Ended;
        self.ended = now;
        // The caller has nothing to wait for, so neither have we.
        self.eof = true;
    }

    /// Nothing more is written but what the driver already has; an item that waits is dropped.
    pub fn close(&mut self, now: Instant) {
        if self.state != State::Closing {
            self.state = State::Closing;
            self.close.begin(now);
            self.items.clear();
            self.front = Vec::new();
            self.back = Vec::new();
            self.carry = Vec::new();
        }
    }
}

fn put_body(out: &mut Vec<u8>, codec: Codec, envelope: Envelope<'_>) {
    let mut body = alloc::vec![0; envelope.emitted_len(codec)];
    let emitted = envelope.emit(codec, &mut body);
    debug_assert!(emitted.is_ok(), "an envelope has the room it asked for");
    append(out, &[], &body);
}

fn put_item(out: &mut Vec<u8>, codec: Codec, item: &[u8]) {
    put_body(out, codec, envelope(item));
}

/// An item of no bytes is no value in either codec, so its frame says that it has none.
const fn envelope(item: &[u8]) -> Envelope<'_> {
    Envelope { data: if item.is_empty() { None } else { Some(item) }, complete_final: false }
}

/// One item's frame, the item by reference if it is large.
fn push_item(out: &mut SendQueue, codec: Codec, item: &Bytes) {
    let envelope = envelope(item);
    let (before, after) = envelope.around(codec);
    let head = Head::new(0, envelope.emitted_len(codec));
    out.push(&head.to_bytes());
    out.push(before);
    out.push_payload(item, 0..item.len());
    out.push(after);
}
