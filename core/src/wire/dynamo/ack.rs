//! The frame a Dynamo worker answers a request frame with: accepted, or a text that says why not.

use crate::wire::class::Class;
use crate::wire::dynamo::failure_key::Key;
use crate::wire::mux::message::RejectCode;
use crate::wire::parse::{Error, Format, Limits, Parse, Reader, Writer, narrow, within};

/// How every word about a worker without room begins.
pub const OVERLOAD: &str = "Server overloaded:";
/// What a Dynamo worker says when pool and queue are full.
pub const OVERLOADED: &str = "Server overloaded: worker at capacity";
/// How every word about a worker that does not take requests begins.
pub const UNAVAILABLE: &str = "Server unavailable:";
/// What a Dynamo worker says about a path nobody serves; the path follows.
pub const UNKNOWN_ENDPOINT: &str = "Server unavailable: unknown endpoint ";
/// What a Dynamo worker says while it shuts down.
pub const SHUTTING_DOWN: &str = "Server unavailable: worker pool channel closed";

/// How the texts of refusals begin, the longer ones first: those of Dynamo 1.6, of 1.0, and ours.
const KNOWN: [(&str, RejectCode); 7] = [
    // What comes over HTTP has no path behind it, and no blank.
    (UNKNOWN_ENDPOINT.trim_ascii_end(), RejectCode::UnknownEndpoint),
    ("Unknown endpoint:", RejectCode::UnknownEndpoint),
    ("Invalid endpoint path", RejectCode::UnknownEndpoint),
    (SHUTTING_DOWN, RejectCode::Draining),
    ("Server unavailable: message too large", RejectCode::TooLarge),
    ("Read error: message too large", RejectCode::TooLarge),
    ("Read error:", RejectCode::Other),
];

const LENGTH: usize = 4;

/// One ack frame: u32 length (big-endian), text. Texts are UTF-8 from every known peer, which is not checked here.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ack<'a> {
    /// No text: running or queued.
    Accepted,
    /// The text starts with `Server overloaded:`; the request was dropped, another worker may have room.
    Overloaded(&'a [u8]),
    /// The text starts with `Server unavailable:`; the request was dropped.
    Unavailable(&'a [u8]),
    /// Any other text. A Dynamo frontend takes it for acceptance; [`Ack::refusal`] knows better.
    Other(&'a [u8]),
}

impl<'a> Ack<'a> {
    /// The ack that carries `text`.
    pub fn from_text(text: &'a [u8]) -> Self {
        if text.is_empty() {
            Self::Accepted
        } else if text.starts_with(OVERLOAD.as_bytes()) {
            Self::Overloaded(text)
        } else if text.starts_with(UNAVAILABLE.as_bytes()) {
            Self::Unavailable(text)
        } else {
            Self::Other(text)
        }
    }

    /// The text, empty if accepted.
    pub const fn text(&self) -> &'a [u8] {
        match self {
            Self::Accepted => &[],
            Self::Overloaded(text) | Self::Unavailable(text) | Self::Other(text) => text,
        }
    }

    /// Why the request was not taken, in the words of mux; `None` if it was, and for a text nobody knows. Texts with which a
    /// Dynamo worker drops a request although its own frontend does not recognise them count as refusals. What is said in
    /// words of its own is [`RejectCode::Other`].
    pub fn code(&self) -> Option<RejectCode> {
        let (text, unknown) = match self {
            Self::Accepted => return None,
            Self::Overloaded(_) => return Some(RejectCode::Overloaded),
            Self::Unavailable(text) => (text, Some(RejectCode::Other)),
            Self::Other(text) => (text, None),
        };
        let known = KNOWN.iter().find(|(prefix, _)| text.starts_with(prefix.as_bytes()));
        known.map(|(_, code)| *code).or(unknown)
    }

    /// The same as class and reason.
    pub fn refusal(&self) -> Option<(Class, Key)> {
        let key = match self.code()? {
            RejectCode::Overloaded => Key::WorkerOverloaded,
            RejectCode::TooLarge => Key::PayloadTooLarge,
            _ => Key::WorkerUnavailable,
        };
        Some((key.class(), key))
    }
}

impl<'a> Format<'a> for Ack<'a> {
    const NAME: &'static str = "ack";

    /// The whole frame may have [`Limits::max_message`] bytes.
    fn parse(input: &'a [u8], limits: &Limits) -> Result<Parse<Self>, Error> {
        let mut reader = Reader::new(input);
        let Ok(len) = reader.u32() else { return Ok(Parse::Incomplete { needed: LENGTH - input.len() }) };
        let end = within(LENGTH as u64 + u64::from(len), limits.max_message, 0)?;
        Ok(match input.get(LENGTH..end) {
            Some(text) => Parse::Complete { value: Self::from_text(text), used: end },
            None => Parse::Incomplete { needed: end - input.len() },
        })
    }

    fn emitted_len(&self) -> usize {
        LENGTH + self.text().len()
    }

    fn emit(&self, out: &mut [u8]) -> Result<usize, Error> {
        let len: u32 = narrow(self.text().len(), u32::MAX.into(), 0)?;
        let mut writer = Writer::new(out);
        writer.bytes(&len.to_be_bytes())?;
        writer.bytes(self.text())?;
        Ok(writer.written())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse::ErrorKind;

    const BYTES: &[u8] = b"\x00\x00\x00\x25Server overloaded: worker at capacity";

    #[test]
    fn a_frame_comes_apart_into_its_meaning() {
        let parsed = Ack::parse(BYTES, &Limits::default());
        assert_eq!(parsed, Ok(Parse::Complete { value: Ack::Overloaded(OVERLOADED.as_bytes()), used: 41 }));
        assert_eq!(Ack::parse(&[0; 4], &Limits::default()), Ok(Parse::Complete { value: Ack::Accepted, used: 4 }));
    }

    #[test]
    fn a_frame_is_built_from_its_meaning() {
        let mut out = [0; 64];
        let len = Ack::Overloaded(OVERLOADED.as_bytes()).emit(&mut out).unwrap();
        assert_eq!(&out[..len], BYTES);
        assert_eq!(Ack::Accepted.emit(&mut out), Ok(4));
        assert_eq!(Ack::Accepted.emit(&mut out[..3]), Err(Error::new(ErrorKind::NoRoom, 0)));
    }

    #[test]
    fn a_tls_alert_read_as_a_length_is_refused() {
        let error = Error::new(ErrorKind::TooLarge { declared: 352_518_916, limit: 32 << 20 }, 0);
        assert_eq!(Ack::parse(&[0x15, 3, 3, 0, 2], &Limits::default()), Err(error));
        let limits = Limits { max_message: BYTES.len(), ..Limits::default() };
        assert!(Ack::parse(BYTES, &limits).is_ok());
        assert!(Ack::parse(BYTES, &Limits { max_message: BYTES.len() - 1, ..limits }).is_err());
    }

    #[test]
    fn a_short_frame_says_how_many_bytes_are_missing() {
        assert_eq!(Ack::parse(&BYTES[..1], &Limits::default()), Ok(Parse::Incomplete { needed: 3 }));
        assert_eq!(Ack::parse(&BYTES[..6], &Limits::default()), Ok(Parse::Incomplete { needed: 35 }));
    }

    #[test]
    fn refusals_are_the_two_prefixes_and_the_texts_that_make_a_dynamo_frontend_hang() {
        let refusal =
            |text: &'static str| Ack::from_text(text.as_bytes()).refusal().map(|(class, key)| (class, key.name()));
        assert_eq!(refusal(""), None);
        assert_eq!(refusal("fine"), None);
        assert_eq!(refusal(OVERLOADED), Some((Class::CapacityExhausted, "capacity.worker_overloaded")));
        assert_eq!(refusal(SHUTTING_DOWN), Some((Class::Unavailable, "backend.worker_unavailable")));
        assert_eq!(refusal(UNKNOWN_ENDPOINT), Some((Class::Unavailable, "backend.worker_unavailable")));
        assert_eq!(refusal("Invalid endpoint path"), Some((Class::Unavailable, "backend.worker_unavailable")));
        assert_eq!(refusal("Read error: gone"), Some((Class::Unavailable, "backend.worker_unavailable")));
        let large = refusal("Read error: message too large: 33554443 bytes (max: 33554432 bytes)");
        assert_eq!(large, Some((Class::PayloadTooLarge, "request.payload_too_large")));
    }

    #[test]
    fn a_refusal_is_known_by_its_text_and_only_a_worker_that_leaves_is_draining() {
        for (text, code) in [
            ("", None),
            ("hello", None),
            (OVERLOADED, Some(RejectCode::Overloaded)),
            ("Server overloaded: too many half-sent requests", Some(RejectCode::Overloaded)),
            (SHUTTING_DOWN, Some(RejectCode::Draining)),
            ("Server unavailable: unknown endpoint 2a/ns/c/e", Some(RejectCode::UnknownEndpoint)),
            ("Server unavailable: unknown endpoint", Some(RejectCode::UnknownEndpoint)),
            ("Unknown endpoint: generate", Some(RejectCode::UnknownEndpoint)),
            ("Invalid endpoint path", Some(RejectCode::UnknownEndpoint)),
            ("Server unavailable: message too large: 65 bytes (max: 64 bytes)", Some(RejectCode::TooLarge)),
            ("Read error: message too large: 65 bytes (max: 64 bytes)", Some(RejectCode::TooLarge)),
            ("Read error: gone", Some(RejectCode::Other)),
            ("Server unavailable: the call-home address is not the requester's", Some(RejectCode::Other)),
            ("Server unavailable: response transport velo_response not supported", Some(RejectCode::Other)),
        ] {
            assert_eq!(Ack::from_text(text.as_bytes()).code(), code, "{text}");
        }
    }
}
