//! One connection of a ZeroMQ socket: handshake, messages, signs of life.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::time::{Deadline, Instant, Reason};
use crate::wire::parse::{Error, ErrorKind, within};
use crate::wire::zmtp::{self, Command, Frame, GREETING, GREETING_LEN, SocketType};

/// What a connection is for, and its bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// What we are.
    pub socket: SocketType,
    /// The name a ROUTER is to call us by. Default none: it finds one.
    pub identity: Bytes,
    /// Bytes of a message, all frames together. Default 32 MiB.
    pub max_message: usize,
    /// Frames of a message. Default 64.
    pub max_frames: usize,
    /// Time until the peer has greeted and introduced itself. Default 5 s.
    pub hello_timeout: Duration,
    /// A peer that has been quiet for so long gets a ping. Default 5 s. Peers that speak ZMTP 3.0 know no pings.
    pub ping_interval: Duration,
    /// Time after a ping in which something has to come. Default 10 s.
    pub ping_timeout: Duration,
}

impl Config {
    /// The defaults of a socket.
    pub const fn new(socket: SocketType) -> Self {
        Self {
            socket,
            identity: Bytes::new(),
            max_message: 32 << 20,
            max_frames: 64,
            hello_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

/// Something the peer has said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It has introduced itself; from now on messages may be sent.
    Ready {
        /// The name it wants to be called by; empty if it has none.
        identity: Bytes,
    },
    /// A message.
    Message(Vec<Bytes>),
    /// It wants what begins with this.
    Subscribe(Bytes),
    /// It does not want what begins with this any more.
    Cancel(Bytes),
    /// It has taken in everything that was sent before a ping.
    Pong,
}

/// Why a connection has to end.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that are no ZMTP, or more of it than allowed.
    Malformed(Error),
    /// The peer's socket is of a kind that does not understand ours.
    Incompatible(Option<SocketType>),
    /// The peer refused.
    Refused,
    /// The peer did not introduce itself in time.
    NoHello,
    /// The peer has gone silent.
    Silent,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(_) => f.write_str("the peer does not keep to ZMTP 3"),
            Self::Incompatible(Some(socket)) => write!(f, "a {} socket does not understand ours", socket.name()),
            Self::Incompatible(None) => f.write_str("the peer's socket does not understand ours"),
            Self::Refused => f.write_str("the peer refused the connection"),
            Self::NoHello => f.write_str("the peer did not introduce itself in time"),
            Self::Silent => f.write_str("the peer has gone silent"),
        }
    }
}

impl core::error::Error for Fault {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        if let Self::Malformed(error) = self { Some(error) } else { None }
    }
}

/// ```text
///   Greeting ──64 bytes──▶ Introduction ──READY──▶ Open
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Greeting,
    Introduction { minor: u8 },
    Open { minor: u8 },
}

/// A connection without its socket. Run: send [`Connection::poll_transmit`], hand in what comes by [`Connection::handle_recv`], take
/// [`Connection::poll_event`]; messages are written with [`zmtp::put_message`] once it is [`Event::Ready`].
///
/// Deadlines: [`Reason::Hello`] ends a handshake that takes too long; [`Reason::Ping`] asks a quiet peer for a sign of life,
/// [`Reason::Pong`] ends the connection if none comes.
#[derive(Clone, Debug)]
pub struct Connection {
    config: Config,
    state: State,
    out: BytesMut,
    parts: Vec<Bytes>,
    parts_bytes: usize,
    events: VecDeque<Event>,
    began: Instant,
    heard: Instant,
    pinged: Option<Instant>,
}

impl Connection {
    /// A connection that has just been made.
    pub fn new(config: Config, now: Instant) -> Self {
        let mut out = BytesMut::new();
        out.put_slice(&GREETING);
        let ready = Command::Ready { socket: Some(config.socket), identity: config.identity.clone() };
        // A peer reads it after our greeting; nothing of its own has to come first.
        ready.put(&mut out);
        Self {
            config,
            state: State::Greeting,
            out,
            parts: Vec::new(),
            parts_bytes: 0,
            events: VecDeque::new(),
            began: now,
            heard: now,
            pinged: None,
        }
    }

    /// Bytes have come; what is used is taken from `input`, and what is left is the start of something.
    ///
    /// # Errors
    /// [`Fault`]: the connection has to end.
    pub fn handle_recv(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Fault> {
        (self.heard, self.pinged) = (now, None);
        if self.state == State::Greeting {
            let Some(greeting) = input.first_chunk::<GREETING_LEN>() else {
                let strange = input.first().is_some_and(|first| *first != 0xFF);
                return if strange { Err(malformed(ErrorKind::BadMagic)) } else { Ok(()) };
            };
            let minor = zmtp::read_greeting(greeting).map_err(Fault::Malformed)?;
            drop(input.split_to(GREETING_LEN));
            self.state = State::Introduction { minor };
        }
        while let Some(frame) = zmtp::take_frame(input, self.config.max_message).map_err(Fault::Malformed)? {
            match (self.state, frame) {
                (_, Frame::Command(body)) => {
                    let command = Command::read(&body).map_err(Fault::Malformed)?;
                    self.on_command(command)?;
                }
                (State::Open { .. }, Frame::Part { body, more }) => self.on_part(body, more)?,
                (_, Frame::Part { .. }) => return Err(malformed(ErrorKind::Unexpected)),
            }
        }
        Ok(())
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`Fault`]: the connection has to end.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(Deadline { at, why }) = self.next_deadline() else { return Ok(()) };
        if at > now {
            return Ok(());
        }
        match why {
            Reason::Hello => Err(Fault::NoHello),
            Reason::Ping => {
                Command::Ping(Bytes::new()).put(&mut self.out);
                self.pinged = Some(now);
                Ok(())
            }
            _ => Err(Fault::Silent),
        }
    }

    /// Asks the peer for a sign that it has taken in what was sent before: [`Event::Pong`]. Answers whether it knows that.
    pub fn ping(&mut self) -> bool {
        let knows = matches!(self.state, State::Open { minor: 1.. });
        if knows {
            Command::Ping(Bytes::new()).put(&mut self.out);
        }
        knows
    }

    /// What the peer has said next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes of our own to send, ahead of messages.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }

    /// What happens next by itself.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let (at, why) = match (self.state, self.pinged) {
            (State::Open { minor: 0 }, _) => return None,
            (State::Open { .. }, None) => (self.heard + self.config.ping_interval, Reason::Ping),
            (State::Open { .. }, Some(pinged)) => (pinged + self.config.ping_timeout, Reason::Pong),
            _ => (self.began + self.config.hello_timeout, Reason::Hello),
        };
        Some(Deadline { at, why })
    }

    /// Whether messages may be sent.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    fn on_command(&mut self, command: Command) -> Result<(), Fault> {
        match (self.state, command) {
            (State::Introduction { minor }, Command::Ready { socket, identity }) => {
                if !socket.is_some_and(|socket| self.config.socket.is_compatible(socket)) {
                    return Err(Fault::Incompatible(socket));
                }
                self.state = State::Open { minor };
                self.events.push_back(Event::Ready { identity });
            }
            (_, Command::Error(_)) => return Err(Fault::Refused),
            (State::Open { .. }, Command::Ping(context)) => Command::put_pong(&context, &mut self.out),
            (State::Open { .. }, Command::Subscribe(prefix)) => self.events.push_back(Event::Subscribe(prefix)),
            (State::Open { .. }, Command::Cancel(prefix)) => self.events.push_back(Event::Cancel(prefix)),
            (State::Open { .. }, Command::Pong) => self.events.push_back(Event::Pong),
            (State::Open { .. }, Command::Other) => {}
            _ => return Err(malformed(ErrorKind::Unexpected)),
        }
        Ok(())
    }

    fn on_part(&mut self, body: Bytes, more: bool) -> Result<(), Fault> {
        let Config { max_message, max_frames, socket, .. } = self.config;
        self.parts_bytes = self.parts_bytes.saturating_add(body.len());
        within(self.parts_bytes as u64, max_message, 0).map_err(Fault::Malformed)?;
        within(self.parts.len() as u64 + 1, max_frames, 0).map_err(Fault::Malformed)?;
        self.parts.push(body);
        if more {
            return Ok(());
        }
        self.parts_bytes = 0;
        let message = core::mem::take(&mut self.parts);
        // Before 3.1 a subscription was a message whose first byte says so.
        let publishes = matches!(socket, SocketType::Pub | SocketType::XPub);
        self.events.push_back(match message.as_slice() {
            [only] if publishes => match only.first() {
                Some(1) => Event::Subscribe(only.slice(1..)),
                Some(0) => Event::Cancel(only.slice(1..)),
                _ => return Ok(()),
            },
            _ if publishes => return Ok(()),
            _ => Event::Message(message),
        });
        Ok(())
    }
}

fn malformed(kind: ErrorKind) -> Fault {
    Fault::Malformed(Error::new(kind, 0))
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    const NOW: Instant = Instant::from_nanos(1);

    fn ours(socket: SocketType) -> Connection {
        Connection::new(Config::new(socket), NOW)
    }

    /// Hands everything from one side to the other until both are quiet.
    fn settle(a: &mut Connection, b: &mut Connection) {
        let (mut to_a, mut to_b) = (BytesMut::new(), BytesMut::new());
        while let Some((bytes, to_b_now)) =
            a.poll_transmit().map(|bytes| (bytes, true)).or_else(|| b.poll_transmit().map(|bytes| (bytes, false)))
        {
            let (input, side) = if to_b_now { (&mut to_b, &mut *b) } else { (&mut to_a, &mut *a) };
            for byte in bytes {
                input.put_u8(byte);
                side.handle_recv(input, NOW).unwrap();
            }
        }
    }

    #[test]
    fn two_sides_introduce_themselves_and_exchange_messages_byte_by_byte() {
        let (mut publisher, mut subscriber) = (ours(SocketType::Pub), ours(SocketType::Sub));
        settle(&mut publisher, &mut subscriber);
        let ready = Some(Event::Ready { identity: Bytes::new() });
        assert_eq!((publisher.poll_event(), subscriber.poll_event()), (ready.clone(), ready));
        let mut bytes = BytesMut::new();
        let message = vec![Bytes::from_static(b"t"), Bytes::from(vec![1; 700])];
        zmtp::put_message(&message, &mut bytes);
        subscriber.handle_recv(&mut bytes, NOW).unwrap();
        assert_eq!(subscriber.poll_event(), Some(Event::Message(message)));
        for (bytes, expected) in [
            (&b"\x00\x02\x01a"[..], Event::Subscribe(Bytes::from_static(b"a"))),
            (b"\x04\x0b\x09SUBSCRIBEb", Event::Subscribe(Bytes::from_static(b"b"))),
            (b"\x00\x02\x00a", Event::Cancel(Bytes::from_static(b"a"))),
        ] {
            publisher.handle_recv(&mut BytesMut::from(bytes), NOW).unwrap();
            assert_eq!(publisher.poll_event(), Some(expected), "both ways of saying it");
        }
    }

    #[test]
    fn a_quiet_peer_is_asked_and_one_that_says_nothing_is_given_up_within_15_s() {
        let (mut a, mut b) = (ours(SocketType::Pub), ours(SocketType::Sub));
        assert_eq!(a.next_deadline().unwrap().why, Reason::Hello);
        settle(&mut a, &mut b);
        let ping = a.next_deadline().unwrap();
        assert_eq!(ping.why, Reason::Ping);
        a.handle_timeout(ping.at).unwrap();
        let last = a.next_deadline().unwrap();
        assert!(last.why == Reason::Pong && last.at.since(NOW) <= Duration::from_secs(15));
        let mut dead = a.clone();
        assert_eq!(dead.handle_timeout(last.at), Err(Fault::Silent));
        a.poll_event().unwrap();
        settle(&mut a, &mut b);
        assert_eq!(a.next_deadline().unwrap().why, Reason::Ping, "it has answered");
        assert_eq!(a.poll_event(), Some(Event::Pong));
        assert!(a.ping());
        settle(&mut a, &mut b);
        assert_eq!(a.poll_event(), Some(Event::Pong), "asked for at any time");
    }

    #[test]
    fn a_peer_of_zmtp_3_0_gets_no_ping() {
        let mut a = ours(SocketType::Sub);
        let mut greeting = GREETING;
        greeting[11] = 0;
        let mut bytes = BytesMut::from(&greeting[..]);
        Command::Ready { socket: Some(SocketType::Pub), identity: Bytes::new() }.put(&mut bytes);
        a.handle_recv(&mut bytes, NOW).unwrap();
        assert!(a.is_open() && a.next_deadline().is_none() && !a.ping());
    }

    #[test]
    fn strangers_wrong_sockets_and_messages_beyond_the_bounds_end_the_connection() {
        let mut a = ours(SocketType::Sub);
        assert_eq!(a.handle_recv(&mut BytesMut::from("GET /"), NOW), Err(malformed(ErrorKind::BadMagic)));
        let (mut a, mut b) = (ours(SocketType::Sub), ours(SocketType::Router));
        let mut bytes = BytesMut::from(&b.poll_transmit().unwrap()[..]);
        assert_eq!(a.handle_recv(&mut bytes, NOW), Err(Fault::Incompatible(Some(SocketType::Router))));
        let small = Config { max_message: 10, max_frames: 2, ..Config::new(SocketType::Sub) };
        for bytes in [&b"\x00\x0b"[..], b"\x01\x08........\x00\x08........", b"\x01\x00\x01\x00\x00\x00"] {
            let (mut a, mut b) = (Connection::new(small.clone(), NOW), ours(SocketType::Pub));
            // The READY of a peer is longer than these bounds: they are for messages that follow.
            a.config.max_message = 1000;
            settle(&mut a, &mut b);
            a.config.max_message = 10;
            let fault = a.handle_recv(&mut BytesMut::from(bytes), NOW);
            assert!(
                matches!(fault, Err(Fault::Malformed(Error { kind: ErrorKind::TooLarge { .. }, .. }))),
                "{fault:?}"
            );
        }
        let fault = ours(SocketType::Sub).handle_timeout(NOW + Duration::from_secs(5));
        assert_eq!(fault, Err(Fault::NoHello));
    }
}
