//! What every format shares: outcomes of parsing, errors with their place, limits, a bounded reader and a writer.

use core::fmt;

/// The outcome of looking at the start of `input`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Parse<T> {
    /// A whole frame: its view, and how many bytes of the input it covers.
    Complete {
        /// The view.
        value: T,
        /// Bytes of input the frame covers.
        used: usize,
    },
    /// The input ends inside the frame.
    Incomplete {
        /// At least this many more bytes are missing; never 0. Exact once the frame's lengths are known.
        needed: usize,
    },
}

impl<T> Parse<T> {
    /// The same outcome with its value mapped.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Parse<U> {
        match self {
            Self::Complete { value, used } => Parse::Complete { value: f(value), used },
            Self::Incomplete { needed } => Parse::Incomplete { needed },
        }
    }
}

/// Bytes that break the format: how, and where.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Offset of the offending field from the start of the input, in bytes.
    pub offset: usize,
}

impl Error {
    /// An error of `kind` at `offset`.
    pub const fn new(kind: ErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.offset)
    }
}

impl core::error::Error for Error {}

/// The ways bytes can break a format.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A declared length exceeds the configured limit, or the address space.
    TooLarge {
        /// What was declared, in bytes.
        declared: u64,
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// A fixed value is not what the format demands.
    BadMagic,
    /// The peer speaks a version this build does not.
    BadVersion,
    /// An enumerated value this build does not know and may not ignore.
    Unknown(u64),
    /// The checksum does not match the bytes.
    Checksum,
    /// Text is not UTF-8.
    NotUtf8,
    /// Text is not JSON, or not the JSON this format demands.
    BadJson,
    /// Bytes are not MessagePack, or not the shape this format demands.
    BadMsgpack,
    /// A required field is missing.
    Missing,
    /// A field is present where the format forbids it, or twice.
    Unexpected,
    /// A field has the right shape and an illegal value.
    Invalid,
    /// Bytes follow where the value had to end.
    Trailing,
    /// The input ends inside a value whose length is already known to be present.
    Truncated,
    /// The output buffer is too small.
    NoRoom,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { declared, limit } => write!(f, "{declared} bytes declared, {limit} allowed"),
            Self::BadMagic => f.write_str("wrong magic"),
            Self::BadVersion => f.write_str("unsupported version"),
            Self::Unknown(value) => write!(f, "unknown value {value}"),
            Self::Checksum => f.write_str("checksum mismatch"),
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::BadJson => f.write_str("malformed JSON"),
            Self::BadMsgpack => f.write_str("malformed MessagePack"),
            Self::Missing => f.write_str("missing field"),
            Self::Unexpected => f.write_str("unexpected field"),
            Self::Invalid => f.write_str("invalid value"),
            Self::Trailing => f.write_str("trailing bytes"),
            Self::Truncated => f.write_str("truncated value"),
            Self::NoRoom => f.write_str("output buffer too small"),
        }
    }
}

/// Upper bounds on what a peer may declare, in bytes. Checked from the head alone, before anything is buffered.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Whole Dynamo request or ack frame, inclusive. Default 32 MiB, as `DYN_TCP_MAX_MESSAGE_SIZE`.
    pub max_message: usize,
    /// Header part of a Dynamo two-part frame. Default 128 KiB, what a Dynamo sender allows itself.
    pub max_header: usize,
    /// Body part of a Dynamo two-part frame. Default 32 MiB; Dynamo itself has no bound here.
    pub max_body: usize,
    /// Body of one mux frame. Default 64 KiB: larger items travel as several frames.
    pub max_fragment: usize,
    /// Header of one mux frame. Default 65 535 bytes, all the field can express.
    pub max_mux_header: usize,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        max_message: 32 << 20,
        max_header: 128 << 10,
        max_body: 32 << 20,
        max_fragment: 64 << 10,
        max_mux_header: 65_535,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A frame format: a view over borrowed bytes that can also be written out again.
pub trait Format<'a>: Sized {
    /// The format's name in diagnostics and fuzz targets.
    const NAME: &'static str;

    /// Looks at the start of `input`.
    ///
    /// # Errors
    /// An [`Error`] if no continuation of `input` could be a frame within `limits`.
    fn parse(input: &'a [u8], limits: &Limits) -> Result<Parse<Self>, Error>;

    /// Bytes [`Format::emit`] writes.
    fn emitted_len(&self) -> usize;

    /// Writes the frame to the start of `out` and returns its length.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`] if `out` is too small, [`ErrorKind::TooLarge`] if a part does not fit its length field.
    fn emit(&self, out: &mut [u8]) -> Result<usize, Error>;
}

/// A cursor over input that has been received whole. Every read is checked; running out is [`ErrorKind::Truncated`].
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `input`.
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Offset of the next byte.
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.input.len().saturating_sub(self.at)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if fewer remain.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(len).ok_or(Error::new(ErrorKind::Truncated, self.at))?;
        let taken = self.input.get(self.at..end).ok_or(Error::new(ErrorKind::Truncated, self.at))?;
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if fewer remain.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let at = self.at;
        self.bytes(N)?.try_into().map_err(|_| Error::new(ErrorKind::Truncated, at))
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next big-endian u16.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if fewer than two bytes remain.
    pub fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next big-endian u32.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if fewer than four bytes remain.
    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next big-endian u64.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if fewer than eight bytes remain.
    pub fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next `len` bytes as UTF-8.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] or [`ErrorKind::NotUtf8`].
    pub fn text(&mut self, len: usize) -> Result<&'a str, Error> {
        let at = self.at;
        core::str::from_utf8(self.bytes(len)?).map_err(|_| Error::new(ErrorKind::NotUtf8, at))
    }
}

/// A cursor over an output slice. Running out is [`ErrorKind::NoRoom`].
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// A writer at the start of `out`.
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Bytes written so far.
    pub const fn written(&self) -> usize {
        self.at
    }

    /// Writes `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`] if they do not fit.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let room = Error::new(ErrorKind::NoRoom, self.at);
        let end = self.at.checked_add(bytes.len()).ok_or(room)?;
        self.out.get_mut(self.at..end).ok_or(room)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }
}

/// `value` as the narrower integer of a length field.
///
/// # Errors
/// [`ErrorKind::TooLarge`] at `offset` if it does not fit.
pub fn narrow<T: TryFrom<usize>>(value: usize, limit: u64, offset: usize) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::new(ErrorKind::TooLarge { declared: value as u64, limit }, offset))
}

/// Checks a declared length against `limit` and the address space.
///
/// # Errors
/// [`ErrorKind::TooLarge`] at `offset`.
pub fn within(declared: u64, limit: usize, offset: usize) -> Result<usize, Error> {
    match usize::try_from(declared) {
        Ok(len) if len <= limit => Ok(len),
        _ => Err(Error::new(ErrorKind::TooLarge { declared, limit: limit as u64 }, offset)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_reports_truncation_where_it_ran_out() {
        let mut reader = Reader::new(&[0, 1, 2]);
        assert_eq!(reader.u16(), Ok(1));
        assert_eq!(reader.u32(), Err(Error::new(ErrorKind::Truncated, 2)));
        assert_eq!(reader.u8(), Ok(2));
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn writer_refuses_what_does_not_fit_and_keeps_its_place() {
        let mut out = [0; 3];
        let mut writer = Writer::new(&mut out);
        assert_eq!(writer.bytes(&[1, 2]), Ok(()));
        assert_eq!(writer.bytes(&[3, 4]), Err(Error::new(ErrorKind::NoRoom, 2)));
        assert_eq!(writer.written(), 2);
    }

    #[test]
    fn a_length_beyond_the_limit_names_both_numbers() {
        assert_eq!(within(9, 8, 4), Err(Error::new(ErrorKind::TooLarge { declared: 9, limit: 8 }, 4)));
        assert_eq!(within(8, 8, 4), Ok(8));
    }
}
