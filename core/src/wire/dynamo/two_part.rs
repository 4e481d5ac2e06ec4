//! The frame of every Dynamo payload and call-home stream: a header (control JSON) and a body (data).

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use crate::wire::checksum::xxh3;
use crate::wire::parse::{Error, ErrorKind, Format, Limits, Parse, Reader, Writer, within};

/// Bytes before the header.
pub const HEAD: usize = 24;

/// One two-part frame.
///
/// ```text
/// u64 header length, u64 body length, u64 checksum, header, body      (big-endian)
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct TwoPart<'a> {
    /// Control JSON, or nothing.
    pub header: &'a [u8],
    /// Data, or nothing.
    pub body: &'a [u8],
    /// XXH3-64 of header and body, or 0 for "not computed", which is what released Dynamo builds write.
    pub checksum: u64,
}

/// Which parts of a two-part frame are there.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Shape {
    /// Control: handshake, prologue, word, or the request of a call whose input is a stream.
    HeaderOnly,
    /// Data: one item.
    DataOnly,
    /// A request with its body.
    Both,
    /// Neither. Legal, and ignored where a response is read.
    Empty,
}

impl<'a> TwoPart<'a> {
    /// A frame without checksum, as released Dynamo builds write it.
    pub const fn new(header: &'a [u8], body: &'a [u8]) -> Self {
        Self { header, body, checksum: 0 }
    }

    /// A frame with its checksum.
    pub fn with_checksum(header: &'a [u8], body: &'a [u8]) -> Self {
        Self { header, body, checksum: xxh3(header, body) }
    }

    /// Looks at the start of `input` without comparing the checksum.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if a length exceeds its limit.
    pub fn parse_unverified(input: &'a [u8], limits: &Limits) -> Result<Parse<Self>, Error> {
        let (head, used) = match Head::parse(input, limits)? {
            Parse::Complete { value, used } => (value, used),
            Parse::Incomplete { needed } => return Ok(Parse::Incomplete { needed }),
        };
        let border = used + head.header_len;
        let end = head.frame_len();
        Ok(match (input.get(used..border), input.get(border..end)) {
            (Some(header), Some(body)) => {
                Parse::Complete { value: Self { header, body, checksum: head.checksum }, used: end }
            }
            _ => Parse::Incomplete { needed: end - input.len() },
        })
    }

    /// Which parts are there.
    pub const fn shape(&self) -> Shape {
        match (self.header.is_empty(), self.body.is_empty()) {
            (false, true) => Shape::HeaderOnly,
            (true, false) => Shape::DataOnly,
            (false, false) => Shape::Both,
            (true, true) => Shape::Empty,
        }
    }

    /// Compares the checksum, unless it was not computed.
    ///
    /// # Errors
    /// [`ErrorKind::Checksum`] if it does not match.
    pub fn verify(&self) -> Result<(), Error> {
        if self.checksum == 0 || self.checksum == xxh3(self.header, self.body) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Checksum, 16))
        }
    }

    /// The frame's first 24 bytes.
    pub const fn head(&self) -> Head {
        Head { header_len: self.header.len(), body_len: self.body.len(), checksum: self.checksum }
    }
}

impl<'a> Format<'a> for TwoPart<'a> {
    const NAME: &'static str = "two_part";

    /// A checksum other than 0 must match.
    fn parse(input: &'a [u8], limits: &Limits) -> Result<Parse<Self>, Error> {
        let parsed = Self::parse_unverified(input, limits)?;
        if let Parse::Complete { value, .. } = &parsed {
            value.verify()?;
        }
        Ok(parsed)
    }

    fn emitted_len(&self) -> usize {
        HEAD + self.header.len() + self.body.len()
    }

    fn emit(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.bytes(&self.head().to_bytes())?;
        writer.bytes(self.header)?;
        writer.bytes(self.body)?;
        Ok(writer.written())
    }
}

/// The first 24 bytes of a two-part frame, so that its parts need not be in one piece with them.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Bytes of header that follow.
    pub header_len: usize,
    /// Bytes of body after the header.
    pub body_len: usize,
    /// See [`TwoPart::checksum`].
    pub checksum: u64,
}

impl Head {
    /// Of a frame without checksum, as released Dynamo builds write it.
    pub const fn new(header_len: usize, body_len: usize) -> Self {
        Self { header_len, body_len, checksum: 0 }
    }

    /// Looks at the start of `input`. Lengths are refused as soon as they are there; `used` is 24.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if a length exceeds [`Limits::max_header`] or [`Limits::max_body`], or the frame would
    /// exceed the address space.
    pub fn parse(input: &[u8], limits: &Limits) -> Result<Parse<Self>, Error> {
        let short = Ok(Parse::Incomplete { needed: HEAD.saturating_sub(input.len()) });
        let mut reader = Reader::new(input);
        let Ok(header_len) = reader.u64() else { return short };
        let header_len = within(header_len, limits.max_header, 0)?;
        let Ok(body_len) = reader.u64() else { return short };
        let body_len = within(body_len, limits.max_body, 8)?;
        let room = usize::MAX - HEAD;
        if header_len.checked_add(body_len).is_none_or(|parts| parts > room) {
            return Err(Error::new(ErrorKind::TooLarge { declared: u64::MAX, limit: room as u64 }, 8));
        }
        let Ok(checksum) = reader.u64() else { return short };
        Ok(Parse::Complete { value: Self { header_len, body_len, checksum }, used: HEAD })
    }

    /// Bytes of the whole frame, head included.
    pub const fn frame_len(&self) -> usize {
        HEAD.saturating_add(self.header_len).saturating_add(self.body_len)
    }

    /// The 24 bytes.
    pub fn to_bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let fields = [self.header_len as u64, self.body_len as u64, self.checksum];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }
}

/// A whole frame without checksum.
#[cfg(feature = "alloc")]
pub fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + header.len() + body.len());
    append(&mut out, header, body);
    out
}

/// The same behind what `out` holds.
#[cfg(feature = "alloc")]
pub fn append(out: &mut Vec<u8>, header: &[u8], body: &[u8]) {
    out.extend_from_slice(&Head::new(header.len(), body.len()).to_bytes());
    out.extend_from_slice(header);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const STOP: &[u8] = b"\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\"stop\"";

    fn head(header: u64, body: u64, checksum: u64) -> Vec<u8> {
        [header, body, checksum].into_iter().flat_map(u64::to_be_bytes).collect()
    }

    #[test]
    fn a_frame_comes_apart_into_header_and_body() {
        let parsed = TwoPart::parse(STOP, &Limits::default());
        assert_eq!(parsed, Ok(Parse::Complete { value: TwoPart::new(b"\"stop\"", b""), used: 30 }));
        assert_eq!(TwoPart::new(b"\"stop\"", b"").shape(), Shape::HeaderOnly);
        assert_eq!(TwoPart::new(b"", b"x").shape(), Shape::DataOnly);
        assert_eq!(TwoPart::new(b"x", b"x").shape(), Shape::Both);
        assert_eq!(TwoPart::new(b"", b"").shape(), Shape::Empty);
    }

    #[test]
    fn a_frame_is_built_from_header_and_body() {
        let mut out = [0; 64];
        let len = TwoPart::new(b"\"stop\"", b"").emit(&mut out).unwrap();
        assert_eq!(&out[..len], STOP);
        assert!(TwoPart::new(b"\"stop\"", b"").emit(&mut out[..29]).is_err());
    }

    #[test]
    fn impossible_lengths_are_refused_from_the_head_alone() {
        let limits = Limits::default();
        let header = Error::new(ErrorKind::TooLarge { declared: u64::MAX, limit: 128 << 10 }, 0);
        assert_eq!(TwoPart::parse(&head(u64::MAX, 0, 0)[..8], &limits), Err(header));
        let body = Error::new(ErrorKind::TooLarge { declared: 1 << 40, limit: 32 << 20 }, 8);
        assert_eq!(TwoPart::parse(&head(0, 1 << 40, 0)[..16], &limits), Err(body));
        let boundless = Limits { max_header: usize::MAX, max_body: usize::MAX, ..limits };
        let overflowing = head(u64::MAX - 30, 30, 0);
        let sum = TwoPart::parse(&overflowing, &boundless);
        assert!(
            matches!(sum, Err(Error { kind: ErrorKind::TooLarge { declared: u64::MAX, .. }, offset: 8 })),
            "{sum:?}"
        );
    }

    #[test]
    fn parts_of_exactly_the_limits_pass() {
        let limits = Limits { max_header: 6, max_body: 0, ..Limits::default() };
        assert!(TwoPart::parse(STOP, &limits).is_ok());
        assert!(TwoPart::parse(STOP, &Limits { max_header: 5, ..limits }).is_err());
    }

    #[test]
    fn a_short_frame_says_how_many_bytes_are_missing() {
        let limits = Limits::default();
        assert_eq!(TwoPart::parse(&STOP[..5], &limits), Ok(Parse::Incomplete { needed: 19 }));
        assert_eq!(TwoPart::parse(&STOP[..24], &limits), Ok(Parse::Incomplete { needed: 6 }));
        assert_eq!(TwoPart::parse(&STOP[..29], &limits), Ok(Parse::Incomplete { needed: 1 }));
    }

    #[test]
    fn a_checksum_of_zero_is_accepted_and_any_other_must_match() {
        let frame = TwoPart::with_checksum(b"\"stop\"", b"");
        assert_eq!(frame.checksum, 0x7319_77e5_b1d5_daae);
        assert_eq!(frame.verify(), Ok(()));
        assert_eq!(TwoPart { checksum: 0, ..frame }.verify(), Ok(()));
        let mut bytes = STOP.to_vec();
        bytes[23] = 1;
        assert_eq!(TwoPart::parse(&bytes, &Limits::default()), Err(Error::new(ErrorKind::Checksum, 16)));
        assert!(matches!(TwoPart::parse_unverified(&bytes, &Limits::default()), Ok(Parse::Complete { used: 30, .. })));
    }
}
