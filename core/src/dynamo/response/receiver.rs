//! The caller's end of a Dynamo call-home connection: handshake, prologue and items in; stop and kill out.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use memchr::memmem;

use crate::buf::closing::{Close, Closing};
use crate::buf::gate::{Flow, Gate};
use crate::buf::hold::copy;
use crate::buf::send_queue::SendQueue;
use crate::dynamo::frames::{Frames, of_item};
use crate::protocol::Fault;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::codec::Codec;
use crate::wire::dynamo::annotated::Annotated;
use crate::wire::dynamo::control::{Handshake, Prologue, StreamType};
use crate::wire::dynamo::envelope::Envelope;
use crate::wire::dynamo::two_part::{Shape, TwoPart, append};
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::dynamo::word::Word;
use crate::wire::parse::Limits;

/// What bounds the caller's end of a call-home connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The largest item; one that is larger ends the call with its size and this limit. Default 32 MiB; Dynamo itself has no
    /// bound here.
    pub max_item: usize,
    /// From accepting a connection to its handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// From the end of the stream to the worker's sentinel. Default 10 s.
    pub sentinel_timeout: Duration,
    /// The longest to wait for a stop or kill to be written before the socket closes anyway. Default 1 s.
    pub flush_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_item: 32 << 20,
            handshake_timeout: Duration::from_secs(10),
            sentinel_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(1),
        }
    }
}

/// Where the connection stands.
///
/// ```text
///  Handshake ──subject read, claim()──▶ Prologue ──no error──▶ Items ──final frame──▶ Final ──sentinel──▶ Closing
///     └──10 s, not a handshake──▶ Closing   └──error──▶ Closing    └──anything else──▶ Closing
///  any ──kill(), close()──▶ Closing
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Whose response it brings is not known.
    Handshake,
    /// Whether there is a stream is not known.
    Prologue,
    /// Items come in.
    Items,
    /// All items are here, or a failure is; only the sentinel is missing.
    Final,
    /// The socket is to be closed.
    Closing,
}

/// What the worker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// The subject it brings a response for, or has come to fetch request items for. Answer with [`Receiver::claim`],
    /// [`Receiver::close`], or another machine for what follows.
    Subject(String, StreamType),
    /// There is a stream.
    Started,
    /// There is no stream: the worker's text and its typed error.
    Refused(Option<Failure>, String),
    /// An item.
    Item(Bytes),
    /// The handler failed: an error item. Nothing after it counts.
    Failed(Failure),
    /// The stream is complete: all items came, and the sentinel behind them. A socket that ends without it, or
    /// [`Config::sentinel_timeout`], is an end as well: [`Receiver::is_complete`].
    End,
    /// The worker ended the stream without completing it.
    Cut,
}

/// The caller's end of one call's response stream.
///
/// # Run recipe
/// One call of [`next`](Self::next) per piece until `None`, and [`weigh`](Self::weigh) with what waits for its reader then; then
/// [`poll_transmit`](Self::poll_transmit), [`poll_flow`](Self::poll_flow), [`poll_close`](Self::poll_close) and a timer for [`poll_timeout`](Self::poll_timeout).
///
/// # Deadlines
/// `Hello` until the handshake, `CallHomeFin` from the end to the sentinel, `Drain` while closing. The call itself is bounded
/// by the owner.
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    codec: Codec,
    state: State,
    frames: Frames,
    /// The final frame has come: what follows is the sentinel, or a fault.
    complete: bool,
    out: Vec<u8>,
    gate: Gate,
    since: Instant,
    how: Closing,
    close: Close,
}

/// The longest header of a prologue or control frame, in bytes: what a Dynamo sender allows its own control messages.
const MAX_HEADER: usize = 128 << 10;
/// The longest header and body of a handshake, in bytes. A subject and a few words; anybody can make us keep that much.
const MAX_HANDSHAKE: usize = 4 << 10;

impl Receiver {
    /// A connection that has just been accepted.
    pub const fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            codec: Codec::Json,
            state: State::Handshake,
            frames: Frames::new(),
            complete: false,
            out: Vec::new(),
            gate: Gate::new(),
            since: now,
            how: Closing::Flush,
            close: Close::new(),
        }
    }

    /// The subject is a call's that speaks `codec`.
    pub fn claim(&mut self, codec: Codec) {
        if self.state == State::Handshake {
            self.codec = codec;
            self.state = State::Prologue;
        }
    }

    /// Takes the next piece off the front of `input`; `None` once that is used up.
    ///
    /// # Errors
    /// [`Fault::State`] or [`Fault::Wire`] for what a worker may not say now, [`Fault::ItemTooLarge`] for what is not taken. The
    /// stream is killed.
    pub fn next(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<Piece>, Fault> {
        let outcome = self.step(input, now);
        if outcome.is_err() {
            self.kill(now);
        }
        outcome
    }

    fn step(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<Piece>, Fault> {
        while self.state != State::Closing {
            let (at, codec, limits) = ((self.state, self.complete), self.codec, self.limits());
            let read = self.frames.next(input, &limits, |frame| read(at, codec, frame));
            let brings_items = matches!(self.state, State::Items | State::Final);
            let read = read.map_err(|fault| if brings_items { of_item(fault, limits.max_body) } else { fault })?;
            let Some(read) = read else { return Ok(None) };
            if let Some(piece) = self.on_frame(read, now) {
                return Ok(Some(piece));
            }
        }
        *input = &[];
        Ok(None)
    }

    /// What a frame does to the state; what the owner hears of it.
    fn on_frame(&mut self, read: Read, now: Instant) -> Option<Piece> {
        match read {
            Read::Nothing => None,
            Read::Piece(piece) => {
                match &piece {
                    Piece::Started => self.state = State::Items,
                    Piece::Refused(..) => self.close(Closing::Abort, now),
                    Piece::Cut => self.close(Closing::Flush, now),
                    Piece::Failed(_) => {
                        self.state = State::Final;
                        self.since = now;
                    }
                    Piece::Subject(..) | Piece::Item(_) | Piece::End => {}
                }
                Some(piece)
            }
            Read::Final(item) => {
                self.state = State::Final;
                self.since = now;
                self.complete = true;
                item.map(Piece::Item)
            }
            Read::Sentinel => {
                self.close(Closing::Flush, now);
                self.complete.then_some(Piece::End)
            }
        }
    }

    const fn limits(&self) -> Limits {
        let (max_header, max_body) = match self.state {
            State::Handshake => (MAX_HANDSHAKE, MAX_HANDSHAKE),
            State::Prologue => (MAX_HEADER, MAX_HEADER),
            _ => (MAX_HEADER, self.config.max_item),
        };
        Limits { max_message: usize::MAX, max_header, max_body, max_fragment: 0, max_mux_header: 0 }
    }

    /// `unread` bytes of its items wait for their reader: beyond `mark` the worker is held back until half of it is left.
    pub const fn weigh(&mut self, unread: usize, mark: usize) {
        self.gate.weigh(unread, mark);
    }

    /// Nobody waits for its items any more: the worker is held back no longer.
    pub(crate) const fn resume(&mut self) {
        self.gate.open();
    }

    /// Asks the worker to stop.
    pub fn stop(&mut self) {
        self.say(Word::Stop);
    }

    /// Tells the worker that nobody reads any more, and closes.
    pub fn kill(&mut self, now: Instant) {
        self.say(Word::Kill);
        self.close(Closing::Flush, now);
    }

    fn say(&mut self, word: Word) {
        if matches!(self.state, State::Prologue | State::Items) {
            append(&mut self.out, word.header(), &[]);
        }
    }

    /// The socket is of no more use.
    pub fn close(&mut self, how: Closing, now: Instant) {
        if self.state != State::Closing {
            self.state = State::Closing;
            self.close.begin(now);
            self.how = how;
            self.frames.clear();
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state != State::Closing && self.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            self.close(Closing::Abort, now);
        }
    }

    /// Whether a word waits to be handed out.
    pub const fn wants_transmit(&self) -> bool {
        !self.out.is_empty()
    }

    /// Appends what is due; whether there was anything.
    pub fn poll_transmit(&mut self, out: &mut SendQueue) -> bool {
        if self.out.is_empty() {
            return false;
        }
        out.push(&self.out);
        self.out.clear();
        true
    }

    /// Whether receiving is to pause or to go on; each answer once.
    pub const fn poll_flow(&mut self) -> Option<Flow> {
        match self.state {
            State::Closing => None,
            _ => self.gate.poll(),
        }
    }

    /// How the socket should be closed now, if it should; each answer once. A word that waits goes first.
    pub fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        let how = self.out.is_empty().then_some(self.how);
        self.close.poll(how, self.config.flush_timeout, now)
    }

    /// When to wake this machine, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let (bound, why) = match self.state {
            State::Handshake => (self.config.handshake_timeout, Reason::Hello),
            State::Prologue | State::Items => return None,
            State::Final => (self.config.sentinel_timeout, Reason::CallHomeFin),
            State::Closing => return self.close.deadline(self.config.flush_timeout),
        };
        Some(Deadline { at: self.since + bound, why })
    }

    /// Whether the final frame has come: the stream is complete, however its connection ends, unless more items follow.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Where the connection stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Bytes that would complete the frame at hand, as far as is known.
    pub const fn wanted(&self) -> usize {
        self.frames.missing()
    }

    /// Bytes held for the frame at hand.
    pub const fn held(&self) -> usize {
        self.frames.held()
    }
}

/// What a frame means.
enum Read {
    Nothing,
    Piece(Piece),
    /// The final frame, which may bring an item.
    Final(Option<Bytes>),
    Sentinel,
}

fn read((state, complete): (State, bool), codec: Codec, frame: &TwoPart<'_>) -> Result<Read, Fault> {
    match state {
        State::Handshake => {
            // A body is no offence here: Dynamo does not look at it either.
            let handshake = Handshake::read(frame.header)?;
            Ok(Read::Piece(Piece::Subject(handshake.subject, handshake.stream_type)))
        }
        State::Prologue if frame.shape() == Shape::HeaderOnly => {
            let prologue = Prologue::read(frame.header)?;
            Ok(Read::Piece(match prologue.error {
                None => Piece::Started,
                Some(text) => Piece::Refused(prologue.typed_error, text),
            }))
        }
        State::Items | State::Final => match frame.shape() {
            Shape::Empty => Ok(Read::Nothing),
            Shape::HeaderOnly if Word::read(frame.header)? == Word::Sentinel => {
                Ok(if state == State::Final { Read::Sentinel } else { Read::Piece(Piece::Cut) })
            }
            Shape::DataOnly if state == State::Items => item(codec, frame.body),
            // Behind a failure comes the final frame; it means nothing any more.
            Shape::DataOnly if !complete => Ok(Read::Nothing),
            _ => Err(Fault::State),
        },
        State::Prologue | State::Closing => Err(Fault::State),
    }
}

fn item(codec: Codec, body: &[u8]) -> Result<Read, Fault> {
    let envelope = Envelope::read(codec, body)?;
    match (envelope.data, envelope.complete_final) {
        (None, true) => Ok(Read::Final(None)),
        (None, false) => Err(Fault::State),
        (Some(data), last) => {
            if let Some(failure) = failure(codec, data) {
                return Ok(Read::Piece(Piece::Failed(failure)));
            }
            let item = copy(data)?;
            Ok(if last { Read::Final(Some(item)) } else { Read::Piece(Piece::Item(item)) })
        }
    }
}

/// The failure an item carries, if it is an error item: a map whose `event` is `error`.
fn failure(codec: Codec, data: &[u8]) -> Option<Failure> {
    memmem::find(data, b"event")?;
    Annotated::read(codec, data).ok()?.failure()
}
