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
    pub(crate) const fn let_come(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::class::Class;
    use crate::wire::dynamo::failure_key::Key;
    use crate::wire::dynamo::two_part::{Head, frame};
    use alloc::vec;

    const T0: Instant = Instant::ZERO;
    const HELLO: &[u8] = br#"{"subject":"e28a2fb1-ce9f-4c44-b324-4c357816aa2d","stream_type":"response"}"#;
    const OK: &[u8] = br#"{"error":null}"#;
    const LAST: &[u8] = br#"{"complete_final":true}"#;

    fn read_all(receiver: &mut Receiver, mut bytes: &[u8], seen: &mut Vec<Piece>) -> Result<(), Fault> {
        while let Some(piece) = receiver.next(&mut bytes, T0)? {
            if matches!(piece, Piece::Subject(..)) {
                receiver.claim(Codec::Json);
            }
            seen.push(piece);
        }
        Ok(())
    }

    fn started() -> Receiver {
        let mut receiver = Receiver::new(Config::default(), T0);
        read_all(&mut receiver, &[frame(HELLO, b""), frame(OK, b"")].concat(), &mut Vec::new()).unwrap();
        receiver
    }

    fn written(receiver: &mut Receiver) -> Vec<u8> {
        let mut queue = SendQueue::new(1 << 16);
        receiver.poll_transmit(&mut queue);
        let mut slices = [&[][..]; 8];
        let used = queue.slices(&mut slices);
        slices[..used].concat()
    }

    #[test]
    fn a_whole_stream_reads_the_same_however_the_bytes_are_cut() {
        let bytes = [
            frame(HELLO, b""),
            frame(OK, b""),
            frame(b"", br#"{"data":{"i":0},"complete_final":false}"#),
            frame(b"", b""),
            frame(b"", LAST),
            frame(br#""sentinel""#, b""),
        ]
        .concat();
        let subject = "e28a2fb1-ce9f-4c44-b324-4c357816aa2d".into();
        let item = Piece::Item(Bytes::from_static(br#"{"i":0}"#));
        let expected = vec![Piece::Subject(subject, StreamType::Response), Piece::Started, item, Piece::End];
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (mut receiver, mut seen) = (Receiver::new(Config::default(), T0), Vec::new());
                for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    read_all(&mut receiver, part, &mut seen).unwrap();
                }
                assert_eq!(seen, expected, "cut at {first} and {second}");
                assert_eq!(receiver.poll_close(T0), Some(Closing::Flush));
                assert_eq!((receiver.held(), receiver.wanted()), (0, 0));
            }
        }
    }

    #[test]
    fn every_frame_after_the_prologue_means_what_the_table_says() {
        let item = |text: &'static str| Piece::Item(Bytes::from_static(text.as_bytes()));
        type Row = (&'static [u8], &'static [u8], Result<Vec<Piece>, ()>);
        let rows: [Row; 12] = [
            (b"", br#"{"data":7,"complete_final":false}"#, Ok(vec![item("7")])),
            (b"", br#"{"data":7,"complete_final":true}"#, Ok(vec![item("7")])),
            (b"", LAST, Ok(vec![])),
            (b"", br#"{"complete_final":false}"#, Err(())),
            (b"", br#"{"data":7}"#, Err(())),
            (b"", b"no", Err(())),
            (b"", b"", Ok(vec![])),
            (br#""sentinel""#, b"", Ok(vec![Piece::Cut])),
            (br#""sentinel""#, b"x", Err(())),
            (br#""stop""#, b"", Err(())),
            (b"nonsense", b"", Err(())),
            (b"", br#"{"data":{"event":"error"},"complete_final":false}"#, Ok(vec![Piece::Failed(unknown())])),
        ];
        for (header, body, expected) in rows {
            let (mut receiver, mut seen) = (started(), Vec::new());
            let outcome = read_all(&mut receiver, &frame(header, body), &mut seen);
            assert_eq!(outcome.map(|()| seen).map_err(|_| ()), expected.clone(), "{header:?} {body:?}");
            if expected.is_err() {
                assert_eq!(written(&mut receiver), frame(br#""kill""#, b""));
                assert_eq!(receiver.poll_close(T0), Some(Closing::Flush));
            }
        }
    }

    /// What an error item means that says nothing.
    fn unknown() -> Failure {
        Annotated::read(Codec::Json, br#"{"event":"error"}"#).unwrap().failure().unwrap()
    }

    #[test]
    fn behind_the_final_frame_comes_the_sentinel_and_an_item_there_is_a_fault() {
        let sentinel = || frame(br#""sentinel""#, b"");
        let more = frame(b"", br#"{"data":8,"complete_final":false}"#);
        for last in [LAST, br#"{"data":7,"complete_final":true}"#] {
            let (mut receiver, mut seen) = (started(), Vec::new());
            read_all(&mut receiver, &frame(b"", last), &mut seen).unwrap();
            assert!(receiver.is_complete() && !seen.contains(&Piece::End), "not before the sentinel");
            read_all(&mut receiver, &[frame(b"", b""), sentinel()].concat(), &mut seen).unwrap();
            assert_eq!((seen.last(), receiver.poll_close(T0)), (Some(&Piece::End), Some(Closing::Flush)));

            for bad in [more.clone(), frame(b"", last), frame(b"junk", b"")] {
                let (mut receiver, mut seen) = (started(), Vec::new());
                let outcome = read_all(&mut receiver, &[frame(b"", last), bad, sentinel()].concat(), &mut seen);
                assert!(outcome.is_err() && !seen.contains(&Piece::End));
            }
        }
        let failed = frame(b"", br#"{"data":{"event":"error"},"complete_final":false}"#);
        let (mut receiver, mut seen) = (started(), Vec::new());
        read_all(&mut receiver, &[failed, frame(b"", LAST), sentinel()].concat(), &mut seen).unwrap();
        assert_eq!(seen, [Piece::Failed(unknown())], "what follows a failure is no fault and no end");
        assert!(!receiver.is_complete());
    }

    #[test]
    fn an_error_item_ends_the_stream_with_class_and_reason() {
        let failure = Failure::new(Key::BackendInvalidArgument, "no such mode");
        let item = Annotated::failed(failure.clone()).write(Codec::Json).unwrap();
        let body = [br#"{"data":"#.as_slice(), &item, br#","complete_final":false}"#].concat();
        let (mut receiver, mut seen) = (started(), Vec::new());
        read_all(&mut receiver, &frame(b"", &body), &mut seen).unwrap();
        let [Piece::Failed(seen)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((seen.class(), seen.key()), (Class::InvalidRequest, failure.key()));
    }

    #[test]
    fn an_error_prologue_says_why_and_the_socket_is_reset() {
        let (mut receiver, mut seen) = (Receiver::new(Config::default(), T0), Vec::new());
        let bytes = [frame(HELLO, b""), frame(br#"{"error":"boom"}"#, b""), frame(br#""sentinel""#, b"")].concat();
        read_all(&mut receiver, &bytes, &mut seen).unwrap();
        assert_eq!(seen.last(), Some(&Piece::Refused(None, "boom".into())));
        assert_eq!(receiver.poll_close(T0), Some(Closing::Abort));
    }

    #[test]
    fn what_is_no_handshake_or_no_prologue_is_refused() {
        let neither = br#"{"subject":"x","stream_type":"both"}"#;
        for bytes in [frame(b"", b"data"), frame(b"junk", b""), frame(neither, b""), vec![0xff; 24]] {
            let mut receiver = Receiver::new(Config::default(), T0);
            assert!(read_all(&mut receiver, &bytes, &mut Vec::new()).is_err());
            assert_eq!(written(&mut receiver), b"", "nobody is told anything before the handshake");
        }
        for bytes in [frame(b"", LAST), frame(b"junk", b""), frame(OK, b"body")] {
            let mut receiver = Receiver::new(Config::default(), T0);
            assert!(read_all(&mut receiver, &[frame(HELLO, b""), bytes].concat(), &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn an_item_too_large_is_refused_by_its_lengths_alone() {
        let mut receiver = started();
        let head = Head::new(0, (32 << 20) + 1);
        let (declared, limit) = ((32 << 20) + 1, 32 << 20);
        let outcome = read_all(&mut receiver, &head.to_bytes(), &mut Vec::new());
        assert_eq!(outcome, Err(Fault::ItemTooLarge { declared, limit }));
        assert_eq!(receiver.held(), 0);
    }

    #[test]
    fn a_handshake_is_short_or_refused_by_its_lengths_alone() {
        for (header_len, body_len) in [(4097, 0), (75, 4097), (1 << 40, 0), (1 << 62, 1 << 62)] {
            let mut receiver = Receiver::new(Config::default(), T0);
            let head = Head::new(header_len, body_len);
            assert!(read_all(&mut receiver, &head.to_bytes(), &mut Vec::new()).is_err(), "{header_len} {body_len}");
            assert_eq!(receiver.held(), 0);
        }
        let long = [HELLO.strip_suffix(b"}").unwrap(), br#","more":""#, &[b'x'; 4000], br#""}"#].concat();
        let mut receiver = Receiver::new(Config::default(), T0);
        let mut seen = Vec::new();
        read_all(&mut receiver, &frame(&long, &[0; 4096]), &mut seen).unwrap();
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn a_connection_that_says_nothing_is_reset_and_so_is_one_without_its_sentinel() {
        let mut receiver = Receiver::new(Config::default(), T0);
        let deadline = receiver.poll_timeout().unwrap();
        assert_eq!(deadline.why, Reason::Hello);
        receiver.handle_timeout(deadline.at);
        assert_eq!(receiver.poll_close(deadline.at), Some(Closing::Abort));
        let mut receiver = started();
        assert_eq!(receiver.poll_timeout(), None);
        read_all(&mut receiver, &frame(b"", LAST), &mut Vec::new()).unwrap();
        assert_eq!(receiver.poll_timeout().unwrap().why, Reason::CallHomeFin);
    }

    #[test]
    fn stop_is_said_and_the_stream_goes_on_while_kill_closes_behind_itself() {
        let mut receiver = started();
        receiver.stop();
        assert_eq!(written(&mut receiver), frame(br#""stop""#, b""));
        assert_eq!(receiver.poll_close(T0), None);
        receiver.kill(T0);
        assert_eq!(receiver.poll_close(T0), None, "the word goes first");
        assert_eq!(written(&mut receiver), frame(br#""kill""#, b""));
        assert_eq!(receiver.poll_close(T0), Some(Closing::Flush));
    }
}
