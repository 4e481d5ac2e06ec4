//! Cuts a byte stream into mux frames: in place where a frame lies whole in one chunk, through a small carry where its
//! head or header straddles two. Bodies are never carried: they pass through piece by piece, checksummed while warm.

use alloc::vec::Vec;

use crate::wire::checksum::Crc32c;
use crate::wire::mux::frame::{HEAD_LEN, Head, Kind, PREFACE_LEN, Preface, flags};
use crate::wire::parse::{Error, ErrorKind, Format, Limits, Parse};

/// The next thing in the stream.
#[derive(PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// The first bytes of the connection.
    Preface(Preface),
    /// A frame without a body, checksum verified.
    Frame {
        /// Its head.
        head: Head,
        /// Its header.
        header: &'a [u8],
    },
    /// A whole item in one frame, with an empty header, checksum verified.
    Whole {
        /// Its head.
        head: Head,
        /// The item.
        body: &'a [u8],
    },
    /// An item frame begins that is no [`Piece::Whole`]. Head verified; the header is covered by the checksum at the [`Piece::ItemEnd`].
    Item {
        /// Its head.
        head: Head,
        /// Its header.
        header: &'a [u8],
    },
    /// The next bytes of the item frame's body.
    Body(&'a [u8]),
    /// The item frame is complete and its checksum matches.
    ItemEnd,
}

/// Where the stream stands.
///
/// ```text
///  Preface ──▶ Head ──▶ Header ──▶ Head            (frames without a body)
///               ▲          └─────▶ Body ──┐        (items)
///               └─────────────────────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Preface,
    Head,
    Header(Head),
    Body { left: usize, crc: u32, expected: u32 },
}

/// The machine. After an error it is finished; the connection has to end.
#[derive(Debug)]
pub struct Deframer {
    state: State,
    carry: Vec<u8>,
    /// The carry's bytes were handed out by the previous call.
    spent: bool,
    /// Shared, since every idle connection has a deframer.
    limits: &'static Limits,
    crc: Crc32c,
}

/// Carry memory kept between frames, in bytes.
const KEEP: usize = 256;

impl Deframer {
    /// A deframer at the start of a connection.
    pub const fn new(limits: &'static Limits, crc: Crc32c) -> Self {
        Self { state: State::Preface, carry: Vec::new(), spent: false, limits, crc }
    }

    /// Takes the next piece from the front of `input`; `None` once `input` is used up.
    ///
    /// # Errors
    /// An [`Error`] at the first byte sequence that is no frame; its offset counts from the start of the frame.
    pub fn next<'d, 'i: 'd>(&'d mut self, input: &mut &'i [u8]) -> Result<Option<Piece<'d>>, Error> {
        if self.spent {
            self.carry.clear();
            self.carry.shrink_to(KEEP);
            self.spent = false;
        }
        if self.state == State::Preface {
            return self.preface(input);
        }
        if self.state == State::Head && !self.head(input)? {
            return Ok(None);
        }
        match self.state {
            State::Header(head) => self.header(head, input),
            State::Body { left, crc, expected } => self.body(left, crc, expected, input),
            State::Preface | State::Head => Ok(None),
        }
    }

    /// Bytes that would complete the frame at hand; 0 between frames.
    pub fn wanted(&self) -> usize {
        let carried = if self.spent { 0 } else { self.carry.len() };
        match self.state {
            State::Preface => PREFACE_LEN.saturating_sub(carried),
            State::Head if carried == 0 => 0,
            State::Head => HEAD_LEN.saturating_sub(carried),
            State::Header(head) => (head.header_len + head.body_len).saturating_sub(carried),
            State::Body { left, .. } => left,
        }
    }

    /// Whether nothing has been read yet.
    pub const fn is_fresh(&self) -> bool {
        matches!(self.state, State::Preface) && self.carry.is_empty()
    }

    /// Heap bytes held.
    pub const fn memory(&self) -> usize {
        self.carry.capacity()
    }

    fn preface(&mut self, input: &mut &[u8]) -> Result<Option<Piece<'static>>, Error> {
        if !self.fill(PREFACE_LEN, input) {
            Preface::parse(&self.carry, self.limits)?;
            return Ok(None);
        }
        match Preface::parse(&self.carry, self.limits)? {
            Parse::Complete { value, .. } => {
                self.state = State::Head;
                self.carry.clear();
                Ok(Some(Piece::Preface(value)))
            }
            Parse::Incomplete { .. } => Ok(None),
        }
    }

    /// Moves from `Head` to `Header` if a whole head is there.
    fn head(&mut self, input: &mut &[u8]) -> Result<bool, Error> {
        let parsed = if self.carry.is_empty() && input.len() >= HEAD_LEN {
            let parsed = Head::parse(input, self.limits, self.crc)?;
            take(input, HEAD_LEN);
            parsed
        } else {
            if !self.fill(HEAD_LEN, input) {
                return Ok(false);
            }
            let parsed = Head::parse(&self.carry, self.limits, self.crc)?;
            self.carry.clear();
            parsed
        };
        if let Parse::Complete { value, .. } = parsed {
            self.state = State::Header(value);
        }
        Ok(true)
    }

    fn header<'d, 'i: 'd>(&'d mut self, head: Head, input: &mut &'i [u8]) -> Result<Option<Piece<'d>>, Error> {
        if let Some(body) = self.whole(head, input) {
            self.state = State::Head;
            return Ok(Some(Piece::Whole { head, body }));
        }
        let header = if self.carry.is_empty() && input.len() >= head.header_len {
            take(input, head.header_len)
        } else {
            if !self.fill(head.header_len, input) {
                return Ok(None);
            }
            self.spent = true;
            &self.carry
        };
        let crc = self.crc.of(header);
        if head.kind() == Some(Kind::Item) {
            self.state = State::Body { left: head.body_len, crc, expected: head.payload_crc };
            return Ok(Some(Piece::Item { head, header }));
        }
        self.state = State::Head;
        verify(crc, head.payload_crc)?;
        Ok(Some(Piece::Frame { head, header }))
    }

    /// The usual item: small, in one frame, and here already. One that does not match its checksum is left to be read like
    /// any other, so that the pieces before an error do not depend on how the bytes arrive.
    fn whole<'i>(&self, head: Head, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let plain = head.kind() == Some(Kind::Item) && head.header_len == 0 && !head.has(flags::MORE | flags::CONT);
        let (body, rest) = input.split_at_checked(head.body_len).filter(|_| plain && self.carry.is_empty())?;
        (self.crc.of(body) == head.payload_crc).then(|| {
            *input = rest;
            body
        })
    }

    fn body<'a>(
        &mut self,
        left: usize,
        crc: u32,
        expected: u32,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, Error> {
        if left == 0 {
            self.state = State::Head;
            verify(crc, expected)?;
            return Ok(Some(Piece::ItemEnd));
        }
        if input.is_empty() {
            return Ok(None);
        }
        let piece = take(input, left.min(input.len()));
        let crc = self.crc.append(crc, piece);
        self.state = State::Body { left: left - piece.len(), crc, expected };
        Ok(Some(Piece::Body(piece)))
    }

    /// Moves bytes from `input` until the carry holds `len`; whether it does.
    fn fill(&mut self, len: usize, input: &mut &[u8]) -> bool {
        let missing = len.saturating_sub(self.carry.len());
        let taken = take(input, missing.min(input.len()));
        self.carry.extend_from_slice(taken);
        self.carry.len() >= len
    }
}

fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
    *input = rest;
    front
}

fn verify(crc: u32, expected: u32) -> Result<(), Error> {
    if crc == expected { Ok(()) } else { Err(Error::new(ErrorKind::Checksum, 12)) }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;
    use crate::id::StreamId;

    fn stream() -> Vec<u8> {
        let crc = Crc32c::PORTABLE;
        let mut bytes = Preface::OURS.to_bytes().to_vec();
        for (kind, header, body) in [
            (Kind::Ping, 7_u64.to_be_bytes().as_slice(), b"".as_slice()),
            (Kind::Item, &[], b"a body of some length"),
            (Kind::Item, &[], b""),
            (Kind::Item, &9_u64.to_be_bytes(), b""),
            (Kind::Cancel, &[1], b""),
        ] {
            let flags = if kind == Kind::Item && header.is_empty() { 0 } else { flags::MORE };
            let head = Head::seal(kind, flags, StreamId(3), header, body, crc).unwrap();
            bytes.extend(head);
            bytes.extend(header);
            bytes.extend(body);
        }
        bytes
    }

    /// The pieces as text, bodies joined, so that any way of cutting the input reads the same.
    fn read(chunks: &[&[u8]]) -> String {
        let mut deframer = Deframer::new(&Limits::DEFAULT, Crc32c::PORTABLE);
        let mut text = String::new();
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(piece) = deframer.next(&mut input).unwrap() {
                match piece {
                    Piece::Body(bytes) => bytes.iter().for_each(|byte| text.push(char::from(*byte))),
                    Piece::Whole { head, body } => {
                        text.push_str(&format!("<{:?}>", Piece::Item { head, header: &[] }));
                        body.iter().for_each(|byte| text.push(char::from(*byte)));
                        text.push_str(&format!("<{:?}>", Piece::ItemEnd));
                    }
                    other => text.push_str(&format!("<{other:?}>")),
                }
            }
            assert!(input.is_empty(), "input is used up");
        }
        assert_eq!(deframer.wanted(), 0);
        text
    }

    #[test]
    fn every_cut_in_two_and_single_bytes_read_like_the_whole() {
        let bytes = stream();
        let whole = read(&[&bytes]);
        assert!(whole.contains(">a body of some length<ItemEnd>"), "{whole}");
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn wanted_names_the_bytes_that_complete_the_frame() {
        let bytes = stream();
        let mut deframer = Deframer::new(&Limits::DEFAULT, Crc32c::PORTABLE);
        let mut input = &bytes[..PREFACE_LEN + HEAD_LEN + 3];
        while deframer.next(&mut input).unwrap().is_some() {}
        assert_eq!(deframer.wanted(), 5);
    }

    #[test]
    fn a_foreign_first_byte_ends_the_connection_at_once() {
        let mut deframer = Deframer::new(&Limits::DEFAULT, Crc32c::PORTABLE);
        let mut input = &b"\x00"[..];
        assert_eq!(deframer.next(&mut input), Err(Error::new(ErrorKind::BadMagic, 0)));
    }

    #[test]
    fn a_body_that_does_not_match_its_checksum_is_an_error_at_its_end() {
        let mut bytes = stream();
        let body = bytes.windows(6).position(|w| w == b"a body").unwrap();
        bytes[body] ^= 1;
        let mut deframer = Deframer::new(&Limits::DEFAULT, Crc32c::PORTABLE);
        let mut input = &bytes[..];
        let error = loop {
            match deframer.next(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::new(ErrorKind::Checksum, 12));
    }
}
