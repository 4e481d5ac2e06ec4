//! Which dialect a recorded stream is in, by its bytes alone: for `decode`, where nobody says.

use core::fmt::{self, Write};

use crate::wire::dynamo::ack::Ack;
use crate::wire::parse::{Format, Limits, Parse};
use crate::wire::pretty::{Stream, dynamo_stream, mux_stream};

/// What one direction of a connection carries.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// Our own frames behind their preface.
    Mux,
    /// One of Dynamo's streams.
    Dynamo(Stream),
}

/// The longest refusal a guess believes in, in bytes.
const MAX_REFUSAL: usize = 64 << 10;

/// The dialect of a stream that is there from its first byte; `None` if there are fewer than two.
///
/// `FF FF` opens the mux preface and is certain. The rest is a guess, in this order:
/// 1. Any other two bytes that are not both zero are the length of a request's path. Certain as well: no Dynamo peer sends
///    the other two kinds with such lengths.
/// 2. Acks, if everything reads as acks: texts of at most 64 KiB, UTF-8 without NUL. A short beginning may end inside a
///    text.
/// 3. Call-home frames. Their lengths and their usually absent checksum put NULs where an ack would have text.
///
/// Fewer than 24 bytes of a call-home stream may be taken for acks.
pub fn dialect(bytes: &[u8]) -> Option<Dialect> {
    let first = bytes.first_chunk::<2>()?;
    Some(match first {
        [0xFF, 0xFF] => Dialect::Mux,
        [0, 0] if are_acks(bytes) => Dialect::Dynamo(Stream::Acks),
        [0, 0] => Dialect::Dynamo(Stream::CallHome),
        _ => Dialect::Dynamo(Stream::Requests),
    })
}

/// Prints a whole direction of a connection in `dialect`, one line per frame.
///
/// # Errors
/// Those of `out`.
pub fn print(bytes: &[u8], dialect: Dialect, limits: &Limits, out: &mut impl Write) -> fmt::Result {
    match dialect {
        Dialect::Mux => mux_stream(bytes, limits, out),
        Dialect::Dynamo(stream) => dynamo_stream(bytes, stream, limits, out),
    }
}

fn are_acks(bytes: &[u8]) -> bool {
    let limits = Limits { max_message: MAX_REFUSAL, ..Limits::default() };
    let mut rest = bytes;
    while !rest.is_empty() {
        match Ack::parse(rest, &limits) {
            Ok(Parse::Complete { value, used }) => {
                let text = value.text();
                if core::str::from_utf8(text).is_err() || text.contains(&0) {
                    return false;
                }
                rest = rest.get(used..).unwrap_or_default();
            }
            Ok(Parse::Incomplete { .. }) => return !rest.get(4..).unwrap_or_default().contains(&0),
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::wire::dynamo::request::Request;
    use crate::wire::dynamo::two_part::TwoPart;
    use crate::wire::mux::frame::Preface;

    fn bytes<'a>(frame: &impl Format<'a>) -> Vec<u8> {
        let mut out = vec![0; frame.emitted_len()];
        frame.emit(&mut out).unwrap();
        out
    }

    #[test]
    fn each_stream_is_recognised_whole_and_when_it_is_cut() {
        let acks = [bytes(&Ack::Accepted), bytes(&Ack::from_text(b"Server overloaded: full"))].concat();
        let word = bytes(&TwoPart::new(b"\"stop\"", b""));
        let items = [bytes(&TwoPart::new(b"", b"{}")), bytes(&TwoPart::with_checksum(b"", b"{\"a\":1}"))].concat();
        let request = bytes(&Request { path: b"a/b", headers: b"{}", payload: &word });
        let cases = [
            (Dialect::Mux, 2, Preface::OURS.to_bytes().to_vec()),
            (Dialect::Dynamo(Stream::Requests), 2, request),
            (Dialect::Dynamo(Stream::Acks), 2, acks),
            (Dialect::Dynamo(Stream::CallHome), 24, word),
            (Dialect::Dynamo(Stream::CallHome), 24, items),
        ];
        for (expected, from, bytes) in cases {
            for len in from..=bytes.len() {
                assert_eq!(dialect(&bytes[..len]), Some(expected), "{len} bytes of {bytes:02x?}");
            }
            let mut out = String::new();
            print(&bytes, expected, &Limits::default(), &mut out).unwrap();
            assert!(out.starts_with("@0 ") && !out.contains("error"), "{out}");
        }
        assert_eq!(dialect(&[0xFF]), None);
    }
}
