//! The frame a Dynamo frontend sends on a request connection: path, headers, payload.

use crate::wire::parse::{Error, ErrorKind, Format, Limits, Parse, Reader, Writer, narrow, within};

/// Bytes of the three length fields together; the shortest frame.
pub const LENGTHS: usize = 8;

/// One request frame.
///
/// ```text
/// u16 path length, path, u16 headers length, headers, u32 payload length, payload      (big-endian)
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// The routing key, as received: `instance-hex/namespace/component/endpoint`. Need not be UTF-8.
    pub path: &'a [u8],
    /// A JSON object of strings, or nothing; read it with `wire::headers`.
    pub headers: &'a [u8],
    /// One two-part frame; read it with `wire::two_part`.
    pub payload: &'a [u8],
}

impl<'a> Request<'a> {
    /// The path as text.
    ///
    /// # Errors
    /// [`ErrorKind::NotUtf8`] at the path's place in the frame. Dynamo answers such a frame and keeps the connection.
    pub fn path_str(&self) -> Result<&'a str, Error> {
        core::str::from_utf8(self.path).map_err(|_| Error::new(ErrorKind::NotUtf8, 2))
    }
}

impl<'a> Format<'a> for Request<'a> {
    const NAME: &'static str = "request";

    /// The whole frame may have [`Limits::max_message`] bytes. Each length counts as soon as it is there, so a frame too
    /// large is refused before its payload arrives.
    fn parse(input: &'a [u8], limits: &Limits) -> Result<Parse<Self>, Error> {
        match parse_head(input, limits)? {
            Parse::Incomplete { needed } => Ok(Parse::Incomplete { needed }),
            Parse::Complete { value: head, used } => {
                let end = used + head.payload_len;
                Ok(match input.get(used..end) {
                    Some(payload) => {
                        Parse::Complete { value: Self { path: head.path, headers: head.headers, payload }, used: end }
                    }
                    None => Parse::Incomplete { needed: end - input.len() },
                })
            }
        }
    }

    fn emitted_len(&self) -> usize {
        LENGTHS + self.path.len() + self.headers.len() + self.payload.len()
    }

    fn emit(&self, out: &mut [u8]) -> Result<usize, Error> {
        let head = Head { path: self.path, headers: self.headers, payload_len: self.payload.len() };
        let at = head.emit(out)?;
        let mut writer = Writer::new(out.get_mut(at..).unwrap_or_default());
        writer.bytes(self.payload)?;
        Ok(at + writer.written())
    }
}

/// Everything of a request frame before the payload, so that the payload need not be in one piece with it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// See [`Request::path`].
    pub path: &'a [u8],
    /// See [`Request::headers`].
    pub headers: &'a [u8],
    /// Bytes of payload that follow.
    pub payload_len: usize,
}

impl<'a> Head<'a> {
    /// Looks at the start of `input`, which need not hold the payload; `used` does not count the payload.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] as [`Request::parse`](Format::parse).
    pub fn parse(input: &'a [u8], limits: &Limits) -> Result<Parse<Self>, Error> {
        parse_head(input, limits)
    }

    /// Bytes [`Head::emit`] writes.
    pub const fn emitted_len(&self) -> usize {
        LENGTHS + self.path.len() + self.headers.len()
    }

    /// Writes the frame up to where the payload starts and returns its length.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if a part does not fit its length field, [`ErrorKind::NoRoom`] if `out` is too small.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, Error> {
        let headers_at = 2 + self.path.len();
        let path_len: u16 = narrow(self.path.len(), u16::MAX.into(), 0)?;
        let headers_len: u16 = narrow(self.headers.len(), u16::MAX.into(), headers_at)?;
        let payload_len: u32 = narrow(self.payload_len, u32::MAX.into(), headers_at + 2 + self.headers.len())?;
        let mut writer = Writer::new(out);
        writer.bytes(&path_len.to_be_bytes())?;
        writer.bytes(self.path)?;
        writer.bytes(&headers_len.to_be_bytes())?;
        writer.bytes(self.headers)?;
        writer.bytes(&payload_len.to_be_bytes())?;
        Ok(writer.written())
    }
}

fn parse_head<'a>(input: &'a [u8], limits: &Limits) -> Result<Parse<Head<'a>>, Error> {
    let mut reader = Reader::new(input);
    let mut total = LENGTHS;
    let short = |total: usize| Ok(Parse::Incomplete { needed: total - input.len() });
    within(total as u64, limits.max_message, 0)?;

    let Ok(path_len) = reader.u16() else { return short(total) };
    total = within(total as u64 + u64::from(path_len), limits.max_message, 0)?;
    let Ok(path) = reader.bytes(path_len.into()) else { return short(total) };

    let headers_at = reader.offset();
    let Ok(headers_len) = reader.u16() else { return short(total) };
    total = within(total as u64 + u64::from(headers_len), limits.max_message, headers_at)?;
    let Ok(headers) = reader.bytes(headers_len.into()) else { return short(total) };

    let payload_at = reader.offset();
    let Ok(payload_len) = reader.u32() else { return short(total) };
    let end = within(total as u64 + u64::from(payload_len), limits.max_message, payload_at)?;
    Ok(Parse::Complete { value: Head { path, headers, payload_len: end - total }, used: reader.offset() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] = b"\x00\x03a/b\x00\x02{}\x00\x00\x00\x04body";
    const REQUEST: Request<'static> = Request { path: b"a/b", headers: b"{}", payload: b"body" };

    #[test]
    fn a_frame_comes_apart_into_its_three_parts() {
        let parsed = Request::parse(BYTES, &Limits::default());
        assert_eq!(parsed, Ok(Parse::Complete { value: REQUEST, used: BYTES.len() }));
        assert_eq!(REQUEST.path_str(), Ok("a/b"));
        assert_eq!(Request { path: &[0xFF], ..REQUEST }.path_str(), Err(Error::new(ErrorKind::NotUtf8, 2)));
    }

    #[test]
    fn a_frame_is_built_from_its_three_parts() {
        let mut out = [0; 64];
        let len = REQUEST.emit(&mut out).unwrap();
        assert_eq!(&out[..len], BYTES);
        assert_eq!(len, REQUEST.emitted_len());
    }

    #[test]
    fn a_frame_of_exactly_the_limit_passes_and_one_byte_more_is_refused_before_its_payload_is_there() {
        let limits = Limits { max_message: BYTES.len(), ..Limits::default() };
        assert!(Request::parse(BYTES, &limits).is_ok());
        let tight = Limits { max_message: BYTES.len() - 1, ..limits };
        let declared = BYTES.len() as u64;
        let error = Error::new(ErrorKind::TooLarge { declared, limit: declared - 1 }, 9);
        assert_eq!(Request::parse(&BYTES[..13], &tight), Err(error));
        assert!(matches!(Request::parse(&BYTES[..12], &tight), Ok(Parse::Incomplete { .. })));
    }

    #[test]
    fn a_long_path_or_headers_alone_can_exceed_the_limit() {
        let limits = Limits { max_message: 100, ..Limits::default() };
        let error = |declared, offset| Err(Error::new(ErrorKind::TooLarge { declared, limit: 100 }, offset));
        assert_eq!(Request::parse(&[0xFF, 0xFF], &limits), error(65_543, 0));
        assert_eq!(Request::parse(&[0, 1, b'x', 0, 92], &limits), error(101, 3));
    }

    #[test]
    fn a_short_frame_says_how_many_bytes_are_missing_at_least() {
        let needed = |len: usize| match Request::parse(&BYTES[..len], &Limits::default()) {
            Ok(Parse::Incomplete { needed }) => needed,
            other => panic!("{len}: {other:?}"),
        };
        assert_eq!((needed(0), needed(1)), (8, 7));
        assert_eq!((needed(2), needed(6)), (9, 5));
        assert_eq!((needed(7), needed(12)), (6, 1));
        assert_eq!((needed(13), needed(16)), (4, 1));
    }

    #[test]
    fn parts_that_do_not_fit_their_length_field_are_not_written() {
        let long = std::vec![b'x'; 65_536];
        let mut out = std::vec![0; 70_000];
        let error = Error::new(ErrorKind::TooLarge { declared: 65_536, limit: 65_535 }, 0);
        assert_eq!(Request { path: &long, ..REQUEST }.emit(&mut out), Err(error));
        assert!(Request { headers: &long, ..REQUEST }.emit(&mut out).is_err());
        assert!(matches!(REQUEST.emit(&mut out[..3]), Err(Error { kind: ErrorKind::NoRoom, .. })));
        assert!(matches!(REQUEST.emit(&mut out[..15]), Err(Error { kind: ErrorKind::NoRoom, .. })));
    }
}
