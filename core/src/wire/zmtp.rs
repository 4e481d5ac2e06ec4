//! ZMTP 3.1, what ZeroMQ's sockets speak: greeting, frames and commands, with the mechanism NULL.
//!
//! Source: ZeroMQ RFCs 23 (ZMTP 3.0) and 37 (3.1). A connection begins with a greeting of 64 bytes from each side, then a command
//! READY with the socket's type; then messages of one or more frames, and commands.

use alloc::vec::Vec;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::wire::parse::{Error, ErrorKind, Reader, within};

/// Bytes of a greeting.
pub const GREETING_LEN: usize = 64;

/// What each side sends first: signature, version 3.1, mechanism NULL.
pub const GREETING: [u8; GREETING_LEN] = {
    let mut bytes = [0; GREETING_LEN];
    (bytes[0], bytes[8], bytes[9], bytes[10], bytes[11]) = (0xFF, 1, 0x7F, 3, 1);
    (bytes[12], bytes[13], bytes[14], bytes[15]) = (b'N', b'U', b'L', b'L');
    bytes
};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// The kinds of sockets there are here.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum SocketType {
    /// Publishes.
    Pub,
    /// Subscribes.
    Sub,
    /// Publishes, and tells its owner of subscriptions.
    XPub,
    /// Subscribes to what its owner says, at any time.
    XSub,
    /// Asks, and is answered by many messages.
    Dealer,
    /// Answers those that ask, by name.
    Router,
    /// Asks, and is answered by one message.
    Req,
    /// Answers one after the other.
    Rep,
}

impl SocketType {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Pub, "PUB"),
        (Self::Sub, "SUB"),
        (Self::XPub, "XPUB"),
        (Self::XSub, "XSUB"),
        (Self::Dealer, "DEALER"),
        (Self::Router, "ROUTER"),
        (Self::Req, "REQ"),
        (Self::Rep, "REP"),
    ];

    /// The name in a READY.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// The socket with this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| known.as_bytes() == name).map(|(kind, _)| *kind)
    }

    /// Whether two sockets understand each other.
    pub const fn is_compatible(self, other: Self) -> bool {
        match self {
            Self::Pub | Self::XPub => matches!(other, Self::Sub | Self::XSub),
            Self::Sub | Self::XSub => matches!(other, Self::Pub | Self::XPub),
            Self::Dealer => matches!(other, Self::Dealer | Self::Router | Self::Rep),
            Self::Router => matches!(other, Self::Dealer | Self::Router | Self::Req),
            Self::Req => matches!(other, Self::Router | Self::Rep),
            Self::Rep => matches!(other, Self::Dealer | Self::Req),
        }
    }
}

/// A greeting that can be used: the minor version of the peer.
///
/// # Errors
/// [`ErrorKind::BadMagic`] if it is no greeting, [`ErrorKind::BadVersion`] before ZMTP 3, [`ErrorKind::Unknown`] with the first
/// byte of a mechanism other than NULL.
pub fn read_greeting(bytes: &[u8; GREETING_LEN]) -> Result<u8, Error> {
    let [0xFF, _, _, _, _, _, _, _, _, last, major, minor, mechanism @ ..] = bytes else {
        return Err(Error::new(ErrorKind::BadMagic, 0));
    };
    if last & 1 == 0 {
        return Err(Error::new(ErrorKind::BadMagic, 9));
    }
    if *major < 3 {
        return Err(Error::new(ErrorKind::BadVersion, 10));
    }
    if !mechanism.starts_with(b"NULL\0") {
        return Err(Error::new(ErrorKind::Unknown(mechanism.first().copied().unwrap_or(0).into()), 12));
    }
    Ok(*minor)
}

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A part of a message.
    Part {
        /// The part.
        body: Bytes,
        /// Whether another one follows.
        more: bool,
    },
    /// A command.
    Command(Bytes),
}

/// Takes one frame from the start of `input`; `None` if it is not whole. A length is checked before anything waits for it.
///
/// # Errors
/// [`ErrorKind::TooLarge`] beyond `limit` bytes, [`ErrorKind::Invalid`] for flags there are none.
pub fn take_frame(input: &mut BytesMut, limit: usize) -> Result<Option<Frame>, Error> {
    let Some(flags) = input.first().copied() else { return Ok(None) };
    if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
        return Err(Error::new(ErrorKind::Invalid, 0));
    }
    let (head, len) = if flags & LONG != 0 {
        let Some(len) = input.get(1..9).and_then(|bytes| bytes.try_into().ok()) else { return Ok(None) };
        (9, u64::from_be_bytes(len))
    } else {
        let Some(len) = input.get(1) else { return Ok(None) };
        (2, u64::from(*len))
    };
    let len = within(len, limit, 1)?;
    if input.len() - head < len {
        return Ok(None);
    }
    input.advance(head);
    let body = input.split_to(len).freeze();
    Ok(Some(if flags & COMMAND != 0 { Frame::Command(body) } else { Frame::Part { body, more: flags & MORE != 0 } }))
}

fn put_head(flags: u8, len: usize, out: &mut BytesMut) {
    match u8::try_from(len) {
        Ok(len) => out.put_slice(&[flags, len]),
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(len as u64);
        }
    }
}

/// Writes a message of these parts behind what is in `out`.
pub fn put_message(parts: &[Bytes], out: &mut BytesMut) {
    for (at, part) in parts.iter().enumerate() {
        put_head(if at + 1 < parts.len() { MORE } else { 0 }, part.len(), out);
        out.put_slice(part);
    }
}

/// The bytes a message takes.
pub fn message_len(parts: &[Bytes]) -> usize {
    parts.iter().map(|part| part.len() + if part.len() > 255 { 9 } else { 2 }).sum()
}

/// A command and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Who the peer is, once at the beginning.
    Ready {
        /// Its socket; `None` for one there is none of here.
        socket: Option<SocketType>,
        /// The name it wants to be called by; empty if it has none.
        identity: Bytes,
    },
    /// The peer refuses.
    Error(Bytes),
    /// Asks for a pong with this context.
    Ping(Bytes),
    /// Answers a ping.
    Pong,
    /// The peer wants what begins with this.
    Subscribe(Bytes),
    /// The peer does not want what begins with this any more.
    Cancel(Bytes),
    /// Anything else.
    Other,
}

/// Bytes of a ping's context that come back; more is not allowed.
const MAX_CONTEXT: usize = 16;
const IDENTITY: &str = "Identity";
const SOCKET_TYPE: &str = "Socket-Type";

impl Command {
    /// Reads the body of a command.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if a length points beyond its end, [`ErrorKind::TooLarge`] for a context of a ping that is.
    pub fn read(body: &Bytes) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let len = reader.u8()?;
        let name = reader.bytes(len.into())?;
        let data = body.slice(reader.offset()..);
        Ok(match name {
            b"READY" => {
                let (mut socket, mut identity) = (None, Bytes::new());
                while reader.remaining() > 0 {
                    let len = reader.u8()?;
                    let property = reader.bytes(len.into())?;
                    let len = within(reader.u32()?.into(), body.len(), reader.offset())?;
                    let value = reader.bytes(len)?;
                    // Names of properties have no case.
                    if property.eq_ignore_ascii_case(SOCKET_TYPE.as_bytes()) {
                        socket = SocketType::from_name(value);
                    } else if property.eq_ignore_ascii_case(IDENTITY.as_bytes()) {
                        identity = Bytes::copy_from_slice(value);
                    }
                }
                Self::Ready { socket, identity }
            }
            b"ERROR" => Self::Error(data.slice(data.len().min(1)..)),
            b"PING" => {
                reader.u16()?;
                let context = body.slice(reader.offset()..);
                within(context.len() as u64, MAX_CONTEXT, reader.offset())?;
                Self::Ping(context)
            }
            b"PONG" => Self::Pong,
            b"SUBSCRIBE" => Self::Subscribe(data),
            b"CANCEL" => Self::Cancel(data),
            _ => Self::Other,
        })
    }

    /// Writes the command behind what is in `out`. [`Command::Other`] has no bytes.
    pub fn put(&self, out: &mut BytesMut) {
        let mut body = Vec::new();
        let mut named = |name: &str, data: &[&[u8]]| {
            body.push(name.len() as u8);
            body.extend_from_slice(name.as_bytes());
            data.iter().for_each(|part| body.extend_from_slice(part));
        };
        match self {
            Self::Ready { socket, identity } => {
                let socket = socket.map_or("", SocketType::name);
                let mut properties = Vec::new();
                for (name, value) in [(SOCKET_TYPE, socket.as_bytes()), (IDENTITY, identity)] {
                    properties.push(name.len() as u8);
                    properties.extend_from_slice(name.as_bytes());
                    properties.extend_from_slice(&(value.len() as u32).to_be_bytes());
                    properties.extend_from_slice(value);
                }
                named("READY", &[&properties]);
            }
            Self::Error(reason) => {
                let reason = reason.get(..reason.len().min(255)).unwrap_or_default();
                named("ERROR", &[&[reason.len() as u8], reason]);
            }
            Self::Ping(context) => named("PING", &[&[0, 0], context]),
            Self::Pong => named("PONG", &[]),
            Self::Subscribe(prefix) => named("SUBSCRIBE", &[prefix]),
            Self::Cancel(prefix) => named("CANCEL", &[prefix]),
            Self::Other => return,
        }
        put_head(COMMAND, body.len(), out);
        out.put_slice(&body);
    }

    /// Writes the answer to a ping of this context.
    pub fn put_pong(context: &[u8], out: &mut BytesMut) {
        put_head(COMMAND, 5 + context.len(), out);
        out.put_slice(b"\x04PONG");
        out.put_slice(context);
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn a_greeting_of_a_later_version_is_used_and_an_earlier_or_foreign_one_is_not() {
        assert_eq!(read_greeting(&GREETING), Ok(1));
        let with = |at: usize, byte: u8| {
            let mut bytes = GREETING;
            bytes[at] = byte;
            read_greeting(&bytes).map_err(|error| error.kind)
        };
        assert_eq!(with(10, 4), Ok(1));
        assert_eq!(with(11, 0), Ok(0));
        assert_eq!(with(10, 2), Err(ErrorKind::BadVersion));
        assert_eq!(with(0, b'G'), Err(ErrorKind::BadMagic));
        assert_eq!(with(12, b'P'), Err(ErrorKind::Unknown(b'P'.into())));
    }

    #[test]
    fn messages_come_apart_at_any_cut_and_lengths_are_checked_first() {
        let parts = [Bytes::from_static(b"topic"), Bytes::new(), Bytes::from(vec![7; 300])];
        let mut bytes = BytesMut::new();
        put_message(&parts, &mut bytes);
        assert_eq!(bytes.len(), message_len(&parts));
        for cut in 0..bytes.len() {
            let mut input = BytesMut::from(&bytes[..cut]);
            let mut seen = 0;
            while let Some(frame) = take_frame(&mut input, 300).unwrap() {
                assert_eq!(frame, Frame::Part { body: parts[seen].clone(), more: seen < 2 });
                seen += 1;
            }
            assert!(seen < 3, "{cut} of {}", bytes.len());
        }
        let error = take_frame(&mut bytes.split_off(9), 299).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge { declared: 300, limit: 299 });
        let huge = [2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert!(take_frame(&mut BytesMut::from(&huge[..]), 1 << 20).is_err());
        assert!(take_frame(&mut BytesMut::from(&[8, 0][..]), 9).is_err());
    }

    #[test]
    fn commands_read_as_they_were_written_and_strangers_are_left_alone() {
        let read = |bytes: &BytesMut| match take_frame(&mut bytes.clone(), 300).unwrap() {
            Some(Frame::Command(body)) => Command::read(&body),
            other => panic!("{other:?}"),
        };
        let name = Bytes::from_static(b"me");
        for command in [
            Command::Ready { socket: Some(SocketType::Dealer), identity: name.clone() },
            Command::Error(Bytes::from_static(b"no")),
            Command::Ping(Bytes::from_static(b"ctx")),
            Command::Pong,
            Command::Subscribe(name.clone()),
            Command::Cancel(name),
        ] {
            let mut out = BytesMut::new();
            command.put(&mut out);
            assert_eq!(read(&out), Ok(command));
        }
        assert_eq!(Command::read(&Bytes::from_static(b"\x03NEWx")), Ok(Command::Other));
        assert!(Command::read(&Bytes::from_static(b"\x09READY")).is_err());
        let mut pong = BytesMut::new();
        Command::put_pong(b"ctx", &mut pong);
        assert_eq!(&pong[..], b"\x04\x08\x04PONGctx");
    }

    #[test]
    fn sockets_find_those_they_understand() {
        for (kind, name) in SocketType::ALL {
            assert_eq!((kind.name(), SocketType::from_name(name.as_bytes())), (name, Some(kind)));
            for (other, _) in SocketType::ALL {
                assert_eq!(kind.is_compatible(other), other.is_compatible(kind), "{kind:?} {other:?}");
            }
        }
        assert!(SocketType::Pub.is_compatible(SocketType::Sub) && !SocketType::Pub.is_compatible(SocketType::Req));
        assert_eq!(SocketType::from_name(b"STREAM"), None);
    }
}
