//! What the header of a frame says, kind by kind, and a frame as a whole.

use zerocopy::IntoBytes;
use zerocopy::big_endian::U32;

use crate::id::StreamId;
use crate::wire::checksum::Crc32c;
use crate::wire::class::Class;
use crate::wire::mux::frame::{HEAD_LEN, Head, Kind, RawHead};
use crate::wire::mux::load::Load;
use crate::wire::parse::{Error, ErrorKind, Format, Limits, Parse, Reader, Writer, narrow};

/// A whole frame over borrowed bytes, checksums verified: what `decode`, tests and fuzz targets look at. Connections read
/// frames piecewise through `buf::deframer` instead.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The head.
    pub head: Head,
    /// The header's bytes.
    pub header: &'a [u8],
    /// The body's bytes; only items have any.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// What the header says.
    ///
    /// # Errors
    /// An [`Error`] whose offset counts from the start of the header.
    pub fn meaning(&self) -> Result<Meaning<'a>, Error> {
        Meaning::parse(&self.head, self.header)
    }
}

impl<'a> Format<'a> for Frame<'a> {
    const NAME: &'static str = "mux frame";

    fn parse(input: &'a [u8], limits: &Limits) -> Result<Parse<Self>, Error> {
        let crc = Crc32c::PORTABLE;
        let head = match Head::parse(input, limits, crc)? {
            Parse::Complete { value, .. } => value,
            Parse::Incomplete { needed } => return Ok(Parse::Incomplete { needed }),
        };
        let used = HEAD_LEN + head.header_len + head.body_len;
        let Some(payload) = input.get(HEAD_LEN..used) else {
            return Ok(Parse::Incomplete { needed: used - input.len() });
        };
        if crc.of(payload) != head.payload_crc {
            return Err(Error::new(ErrorKind::Checksum, 12));
        }
        let (header, body) = payload.split_at_checked(head.header_len).unwrap_or_default();
        Ok(Parse::Complete { value: Self { head, header, body }, used })
    }

    fn emitted_len(&self) -> usize {
        HEAD_LEN + self.header.len() + self.body.len()
    }

    fn emit(&self, out: &mut [u8]) -> Result<usize, Error> {
        let head = &self.head;
        let raw = RawHead {
            kind: head.kind,
            flags: head.flags,
            header_len: narrow::<u16>(self.header.len(), u16::MAX.into(), 2)?.into(),
            stream: head.stream.0.into(),
            body_len: narrow::<u32>(self.body.len(), u32::MAX.into(), 8)?.into(),
            payload_crc: Crc32c::PORTABLE.append(Crc32c::PORTABLE.of(self.header), self.body).into(),
            head_crc: U32::ZERO,
        };
        let mut writer = Writer::new(out);
        let covered = raw.as_bytes().get(..16).unwrap_or_default();
        writer.bytes(covered)?;
        writer.bytes(&Crc32c::PORTABLE.of(covered).to_be_bytes())?;
        writer.bytes(self.header)?;
        writer.bytes(self.body)?;
        Ok(writer.written())
    }
}

/// What a frame's header says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Meaning<'a> {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Open`].
    Open(Open<'a>),
    /// An item; `total` is the whole item's length in bytes, told by the first of several parts.
    Item {
        /// Length of the whole item, if this is the first of several frames.
        total: Option<u64>,
    },
    /// See [`End`].
    End(End<'a>),
    /// How hard to cancel.
    Cancel(CancelMode),
    /// Bytes of credit granted.
    Credit(u32),
    /// See [`Status`].
    Status(Status),
    /// See [`Reject`].
    Reject(Reject<'a>),
    /// A token to send back.
    Ping(u64),
    /// The token sent back.
    Pong(u64),
    /// See [`GoAway`].
    GoAway(GoAway<'a>),
    /// See [`Load`].
    Load(Load<'a>),
    /// A kind this build does not know and may skip.
    Unknown,
}

impl<'a> Meaning<'a> {
    /// Reads the header of a frame with this head. Bytes after the known fields are ignored, so that later versions may
    /// append fields.
    ///
    /// # Errors
    /// An [`Error`] whose offset counts from the start of the header.
    pub fn parse(head: &Head, header: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(header);
        let reader = &mut reader;
        Ok(match head.kind() {
            None => Self::Unknown,
            Some(Kind::Hello) => Self::Hello(Hello::read(reader)?),
            Some(Kind::Open) => Self::Open(Open::read(reader)?),
            Some(Kind::Item) if header.is_empty() => Self::Item { total: None },
            Some(Kind::Item) => Self::Item { total: Some(reader.u64()?) },
            Some(Kind::End) => Self::End(End::read(reader)?),
            Some(Kind::Cancel) => Self::Cancel(CancelMode::read(reader)?),
            Some(Kind::Credit) => Self::Credit(reader.u32()?),
            Some(Kind::Status) => Self::Status(Status::read(reader)?),
            Some(Kind::Reject) => Self::Reject(Reject::read(reader)?),
            Some(Kind::Ping) => Self::Ping(reader.u64()?),
            Some(Kind::Pong) => Self::Pong(reader.u64()?),
            Some(Kind::GoAway) => Self::GoAway(GoAway::read(reader)?),
            Some(Kind::Load) => Self::Load(Load::read(reader)?),
        })
    }
}

/// The sender's limits. Written as four fixed fields.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Credit each stream starts with, towards the sender of this frame, in bytes.
    pub stream_window: u32,
    /// Credit the connection starts with, towards the sender of this frame, in bytes.
    pub connection_window: u32,
    /// The largest item the sender takes, in bytes.
    pub max_item: u64,
    /// How many streams the peer may have open at once.
    pub max_streams: u32,
}

impl Hello {
    /// Bytes of the header.
    pub const LEN: usize = 20;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            stream_window: reader.u32()?,
            connection_window: reader.u32()?,
            max_item: reader.u64()?,
            max_streams: reader.u32()?,
        })
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let mut writer = Writer::new(&mut out);
        let fields: [&[u8]; 4] = [
            &self.stream_window.to_be_bytes(),
            &self.connection_window.to_be_bytes(),
            &self.max_item.to_be_bytes(),
            &self.max_streams.to_be_bytes(),
        ];
        for field in fields {
            writer.bytes(field).expect("the four fields are exactly Hello::LEN bytes");
        }
        out
    }
}

/// Tags of the fields of an [`Open`] header. Unknown tags are skipped.
mod tag {
    pub(super) const PATH: u8 = 1;
    pub(super) const REQUEST_ID: u8 = 2;
    pub(super) const REMAINING: u8 = 3;
    pub(super) const TRACEPARENT: u8 = 4;
    pub(super) const TRACESTATE: u8 = 5;
    pub(super) const METADATA: u8 = 6;
    pub(super) const CODEC: u8 = 7;
    pub(super) const PRIORITY: u8 = 8;
    pub(super) const TENANT: u8 = 9;
    pub(super) const ATTEMPTS: u8 = 10;
    pub(super) const X_REQUEST_ID: u8 = 11;
}

/// A new stream. The header is a list of fields, each tag u8, length u16, value. The request's items follow as item
/// frames.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Open<'a> {
    /// The instance's path, as its record has it: `hex/namespace/component/endpoint`. Required.
    pub path: &'a str,
    /// The call's id; any text. Required.
    pub request_id: &'a str,
    /// Time left until the caller gives up, in microseconds at the moment of writing. Absent: no deadline.
    pub remaining_us: Option<u64>,
    /// W3C `traceparent`, verbatim.
    pub traceparent: Option<&'a str>,
    /// W3C `tracestate`, verbatim.
    pub tracestate: Option<&'a str>,
    /// Name of the payload's codec, as in Dynamo's control message.
    pub codec: Option<&'a str>,
    /// Among calls that wait the higher goes first; 0 where nothing is said.
    pub priority: i8,
    /// Whose call it is: tenants that wait are served in turn. Absent: the connection's.
    pub tenant: Option<&'a str>,
    /// Tries of the same request before this one. Absent: none.
    pub attempts: u32,
    /// The correlation id that a client of the caller's has sent, any text.
    pub x_request_id: Option<&'a str>,
    /// All fields as they came; [`Open::metadata`] reads them again. Not written.
    pub fields: &'a [u8],
}

impl<'a> Open<'a> {
    /// Reads the header of an open frame.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] without a path or an id, [`ErrorKind::Invalid`] and others for a field that is malformed; the
    /// offset counts from the start of the header.
    pub fn parse(header: &'a [u8]) -> Result<Self, Error> {
        Self::read(&mut Reader::new(header))
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let start = reader.clone();
        let mut open = Self::default();
        let (mut path, mut request_id) = (None, None);
        while reader.remaining() > 0 {
            let at = reader.offset();
            let (tag, len) = (reader.u8()?, reader.u16()?.into());
            match tag {
                tag::PATH => path = Some(reader.text(len)?),
                tag::REQUEST_ID => request_id = Some(reader.text(len)?),
                tag::REMAINING if len == 8 => open.remaining_us = Some(reader.u64()?),
                tag::REMAINING => return Err(Error::new(ErrorKind::Invalid, at)),
                tag::TRACEPARENT => open.traceparent = Some(reader.text(len)?),
                tag::TRACESTATE => open.tracestate = Some(reader.text(len)?),
                tag::CODEC => open.codec = Some(reader.text(len)?),
                tag::PRIORITY if len == 1 => open.priority = reader.u8()?.cast_signed(),
                tag::PRIORITY => return Err(Error::new(ErrorKind::Invalid, at)),
                tag::TENANT => open.tenant = Some(reader.text(len)?),
                tag::ATTEMPTS if len == 4 => open.attempts = reader.u32()?,
                tag::ATTEMPTS => return Err(Error::new(ErrorKind::Invalid, at)),
                tag::X_REQUEST_ID => open.x_request_id = Some(reader.text(len)?),
                tag::METADATA => drop(metadata_entry(reader.bytes(len)?, at)?),
                _ => drop(reader.bytes(len)?),
            }
        }
        open.path = path.ok_or_else(|| Error::new(ErrorKind::Missing, 0))?;
        open.request_id = request_id.ok_or_else(|| Error::new(ErrorKind::Missing, 0))?;
        open.fields = start.clone().bytes(start.remaining())?;
        Ok(open)
    }

    /// Metadata pairs in the order the caller wrote them.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut reader = Reader::new(self.fields);
        core::iter::from_fn(move || {
            while reader.remaining() > 0 {
                let (tag, len) = (reader.u8().ok()?, reader.u16().ok()?.into());
                let value = reader.bytes(len).ok()?;
                if tag == tag::METADATA {
                    return metadata_entry(value, 0).ok();
                }
            }
            None
        })
    }

    /// Writes the header for these fields and `metadata` through `put`, which takes the bytes in order.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if a field exceeds 65 535 bytes.
    pub fn write<'m>(
        &self,
        metadata: impl Iterator<Item = (&'m str, &'m str)>,
        mut put: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut field = |tag: u8, parts: [&[u8]; 3]| -> Result<(), Error> {
            let len = parts.iter().map(|part| part.len()).sum();
            put(&[tag]);
            put(&narrow::<u16>(len, u16::MAX.into(), 0)?.to_be_bytes());
            parts.into_iter().for_each(&mut put);
            Ok(())
        };
        field(tag::PATH, [self.path.as_bytes(), &[], &[]])?;
        field(tag::REQUEST_ID, [self.request_id.as_bytes(), &[], &[]])?;
        if let Some(remaining) = self.remaining_us {
            field(tag::REMAINING, [&remaining.to_be_bytes(), &[], &[]])?;
        }
        for (tag, text) in [
            (tag::TRACEPARENT, self.traceparent),
            (tag::TRACESTATE, self.tracestate),
            (tag::CODEC, self.codec),
            (tag::TENANT, self.tenant),
            (tag::X_REQUEST_ID, self.x_request_id),
        ] {
            if let Some(text) = text {
                field(tag, [text.as_bytes(), &[], &[]])?;
            }
        }
        if self.priority != 0 {
            field(tag::PRIORITY, [&self.priority.to_be_bytes(), &[], &[]])?;
        }
        if self.attempts > 0 {
            field(tag::ATTEMPTS, [&self.attempts.to_be_bytes(), &[], &[]])?;
        }
        for (key, value) in metadata {
            let key_len = narrow::<u16>(key.len(), u16::MAX.into(), 0)?.to_be_bytes();
            field(tag::METADATA, [&key_len, key.as_bytes(), value.as_bytes()])?;
        }
        Ok(())
    }
}

fn metadata_entry(value: &[u8], at: usize) -> Result<(&str, &str), Error> {
    let mut reader = Reader::new(value);
    let moved = |error: Error| Error::new(error.kind, at + error.offset);
    let key_len = reader.u16().map_err(moved)?.into();
    let key = reader.text(key_len).map_err(moved)?;
    let value = reader.text(reader.remaining()).map_err(moved)?;
    Ok((key, value))
}

/// How a direction ended. `class` absent means well.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct End<'a> {
    /// What went wrong, if anything.
    pub class: Option<Class>,
    /// The reason's catalogue key, as in Dynamo's typed error; may be empty.
    pub reason: &'a str,
    /// A message for people; may be empty.
    pub message: &'a str,
}

impl<'a> End<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let class = match reader.u8()? {
            0 => None,
            byte => Some(Class::from_byte(byte).unwrap_or(Class::Internal)),
        };
        Ok(Self { class, reason: text16(reader)?, message: text16(reader)? })
    }

    /// Writes the header through `put`; texts are cut at 4,096 bytes.
    pub fn write(&self, mut put: impl FnMut(&[u8])) {
        put(&[self.class.map_or(0, |class| class as u8)]);
        put_text16(self.reason, &mut put);
        put_text16(self.message, &mut put);
    }
}

/// How hard to cancel.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum CancelMode {
    /// Finish early: the handler is told and may still send what it has.
    Stop = 1,
    /// Leave now: nothing more will be read.
    Kill = 2,
}

impl CancelMode {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let at = reader.offset();
        match reader.u8()? {
            1 => Ok(Self::Stop),
            2 => Ok(Self::Kill),
            other => Err(Error::new(ErrorKind::Unknown(other.into()), at)),
        }
    }
}

/// A sign of life before the first item.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// Accepted; this many calls are ahead of it.
    Queued(u32),
    /// A handler has it.
    Running,
}

impl Status {
    /// Bytes of the header.
    pub const LEN: usize = 5;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let at = reader.offset();
        match (reader.u8()?, reader.u32()?) {
            (1, ahead) => Ok(Self::Queued(ahead)),
            (2, _) => Ok(Self::Running),
            (other, _) => Err(Error::new(ErrorKind::Unknown(other.into()), at)),
        }
    }

    /// The header's bytes.
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        match self {
            Self::Queued(ahead) => {
                let [a, b, c, d] = ahead.to_be_bytes();
                [1, a, b, c, d]
            }
            Self::Running => [2, 0, 0, 0, 0],
        }
    }
}

/// Why a stream was refused.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RejectCode {
    /// No room; another worker may have some.
    Overloaded = 1,
    /// No such path here.
    UnknownEndpoint = 2,
    /// The worker is leaving.
    Draining = 3,
    /// The deadline passed before the call could run.
    Expired = 4,
    /// An item of the request is larger than allowed.
    TooLarge = 5,
    /// This side serves nothing.
    NotServing = 6,
    /// The caller cancelled before the call ran.
    Cancelled = 7,
    /// A code of a later version.
    Other = 255,
}

impl RejectCode {
    /// Every code this build sends, and [`RejectCode::Other`].
    pub const ALL: [Self; 8] = [
        Self::Overloaded,
        Self::UnknownEndpoint,
        Self::Draining,
        Self::Expired,
        Self::TooLarge,
        Self::NotServing,
        Self::Cancelled,
        Self::Other,
    ];

    fn from_byte(byte: u8) -> Self {
        Self::ALL.into_iter().find(|code| *code as u8 == byte).unwrap_or(Self::Other)
    }
}

/// A refusal: the stream never ran.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Reject<'a> {
    /// Why.
    pub code: RejectCode,
    /// Do not come back before this many milliseconds; 0 = no advice.
    pub retry_after_ms: u32,
    /// A message for people; may be empty.
    pub message: &'a str,
}

impl<'a> Reject<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let code = RejectCode::from_byte(reader.u8()?);
        Ok(Self { code, retry_after_ms: reader.u32()?, message: text16(reader)? })
    }

    /// Writes the header through `put`; the message is cut at 4,096 bytes.
    pub fn write(&self, mut put: impl FnMut(&[u8])) {
        put(&[self.code as u8]);
        put(&self.retry_after_ms.to_be_bytes());
        put_text16(self.message, &mut put);
    }
}

/// No new streams from now on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct GoAway<'a> {
    /// 0 = leaving in peace; otherwise the violation, see [`goaway`].
    pub code: u8,
    /// Streams with higher ids have not been looked at and never will be.
    pub last: StreamId,
    /// A message for people; may be empty.
    pub message: &'a str,
}

/// Codes of a [`GoAway`].
pub mod goaway {
    /// Leaving in peace.
    pub const DRAIN: u8 = 0;
    /// Bytes that are no frame.
    pub const MALFORMED: u8 = 1;
    /// A checksum did not match.
    pub const CHECKSUM: u8 = 2;
    /// A frame that is not allowed in its state.
    pub const STATE: u8 = 3;
    /// More bytes than credit.
    pub const CREDIT: u8 = 4;
    /// More streams than allowed.
    pub const STREAMS: u8 = 5;
    /// Too many control frames.
    pub const FLOOD: u8 = 6;
    /// A length beyond the limits.
    pub const TOO_LARGE: u8 = 7;
    /// No sign of life.
    pub const SILENT: u8 = 8;
    /// No version in common.
    pub const VERSION: u8 = 9;
}

impl<'a> GoAway<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { code: reader.u8()?, last: StreamId(reader.u32()?), message: text16(reader)? })
    }

    /// Writes the header through `put`; the message is cut at 4,096 bytes.
    pub fn write(&self, mut put: impl FnMut(&[u8])) {
        put(&[self.code]);
        put(&self.last.0.to_be_bytes());
        put_text16(self.message, &mut put);
    }
}

/// The longest text an outcome carries, in bytes; as Dynamo cuts its diagnostics.
pub const MAX_TEXT: usize = 4096;

fn text16<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Error> {
    let len = reader.u16()?.into();
    reader.text(len)
}

fn put_text16(text: &str, put: &mut impl FnMut(&[u8])) {
    let cut = text.floor_char_boundary(MAX_TEXT);
    let text = text.get(..cut).unwrap_or_default();
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    put(&len.to_be_bytes());
    put(text.as_bytes());
}
