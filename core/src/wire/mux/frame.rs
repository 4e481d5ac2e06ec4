//! What every frame begins with: the preface of a connection, the kinds of frames, and their heads.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::id::StreamId;
use crate::wire::checksum::Crc32c;
use crate::wire::parse::{Error, ErrorKind, Format, Limits, Parse, Writer, narrow, within};

/// Bytes of a frame's head.
pub const HEAD_LEN: usize = 20;
/// Bytes of a connection preface.
pub const PREFACE_LEN: usize = 8;
/// The largest body of one frame; longer items travel as several frames.
pub const MAX_FRAGMENT: usize = 64 << 10;
/// What an item costs besides its bytes, so that empty items are not free: credit is counted in `length + ITEM_COST`.
pub const ITEM_COST: u32 = 32;
/// The version this build speaks.
pub const VERSION: u8 = 1;
/// The oldest version this build still speaks.
pub const OLDEST_VERSION: u8 = 1;

const MAGIC: [u8; 6] = [0xFF, 0xFF, b'r', b'p', b'm', b'x'];

/// The first bytes of a connection in each direction: `FF FF r p m x`, the newest and the oldest version spoken. To a
/// Dynamo worker the first two bytes are an absurd path length, which is how a listener tells the dialects apart.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Preface {
    /// The newest version the sender speaks.
    pub newest: u8,
    /// The oldest version the sender speaks.
    pub oldest: u8,
}

impl Preface {
    /// What this build offers.
    pub const OURS: Self = Self { newest: VERSION, oldest: OLDEST_VERSION };

    /// The newest version both sides speak.
    pub fn common(self) -> Option<u8> {
        let version = self.newest.min(VERSION);
        (version >= self.oldest.max(OLDEST_VERSION)).then_some(version)
    }

    /// The preface's bytes.
    pub const fn to_bytes(self) -> [u8; PREFACE_LEN] {
        let [a, b, c, d, e, f] = MAGIC;
        [a, b, c, d, e, f, self.newest, self.oldest]
    }
}

impl<'a> Format<'a> for Preface {
    const NAME: &'static str = "mux preface";

    fn parse(input: &'a [u8], _: &Limits) -> Result<Parse<Self>, Error> {
        if let Some(at) = input.iter().zip(MAGIC).position(|(got, want)| *got != want) {
            return Err(Error::new(ErrorKind::BadMagic, at));
        }
        let Some(&[.., newest, oldest]) = input.first_chunk::<PREFACE_LEN>() else {
            return Ok(Parse::Incomplete { needed: PREFACE_LEN - input.len() });
        };
        if newest < oldest || oldest == 0 {
            return Err(Error::new(ErrorKind::Invalid, MAGIC.len()));
        }
        Ok(Parse::Complete { value: Self { newest, oldest }, used: PREFACE_LEN })
    }

    fn emitted_len(&self) -> usize {
        PREFACE_LEN
    }

    fn emit(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.bytes(&self.to_bytes())?;
        Ok(writer.written())
    }
}

/// What a frame is.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The sender's limits; first frame in each direction.
    Hello = 1,
    /// A new stream: whom to call and how.
    Open = 2,
    /// An item, or a part of one.
    Item = 3,
    /// The sender's direction is over, with an outcome.
    End = 4,
    /// The opener wants the stream stopped or killed.
    Cancel = 5,
    /// The sender may receive more.
    Credit = 6,
    /// The stream is alive: queued or running.
    Status = 7,
    /// The stream is refused and never ran.
    Reject = 8,
    /// Are you there?
    Ping = 9,
    /// Yes.
    Pong = 10,
    /// No new streams; or: you broke the protocol.
    GoAway = 11,
    /// How much the sender has to do. Sent with [`flags::OPTIONAL`].
    Load = 12,
}

impl Kind {
    /// Every kind once.
    pub const ALL: [Self; 12] = [
        Self::Hello,
        Self::Open,
        Self::Item,
        Self::End,
        Self::Cancel,
        Self::Credit,
        Self::Status,
        Self::Reject,
        Self::Ping,
        Self::Pong,
        Self::GoAway,
        Self::Load,
    ];

    /// The kind with this byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Bits of a frame's flags byte.
pub mod flags {
    /// Item: the item continues in this stream's next item frame.
    pub const MORE: u8 = 0x01;
    /// Item: nothing follows in this direction; as good as an `End` with outcome ok.
    pub const LAST: u8 = 0x02;
    /// Item: its bytes are paid with reserved credit, not with the windows. Credit: reserves.
    pub const RESERVED: u8 = 0x04;
    /// Item: continues the item that this stream's previous item frame began.
    pub const CONT: u8 = 0x08;
    /// Any: a receiver that does not know the kind skips the frame instead of ending the connection.
    pub const OPTIONAL: u8 = 0x80;
}

/// A frame's head, checked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The kind's byte; see [`Head::kind`].
    pub kind: u8,
    /// See [`flags`].
    pub flags: u8,
    /// The stream, or 0 for the connection.
    pub stream: StreamId,
    /// Bytes of header.
    pub header_len: usize,
    /// Bytes of body.
    pub body_len: usize,
    /// CRC-32C of header and body.
    pub payload_crc: u32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawHead {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) header_len: U16,
    pub(super) stream: U32,
    pub(super) body_len: U32,
    pub(super) payload_crc: U32,
    pub(super) head_crc: U32,
}

impl Head {
    /// Reads and checks a head.
    ///
    /// # Errors
    /// [`ErrorKind::Checksum`], [`ErrorKind::Unknown`] kind without the optional flag, a body where there may be none, or
    /// lengths beyond `limits`.
    pub fn parse(input: &[u8], limits: &Limits, crc: Crc32c) -> Result<Parse<Self>, Error> {
        let Ok((raw, _)) = RawHead::ref_from_prefix(input) else {
            return Ok(Parse::Incomplete { needed: HEAD_LEN.saturating_sub(input.len()) });
        };
        let covered = input.get(..16).unwrap_or_default();
        if crc.of(covered) != raw.head_crc.get() {
            return Err(Error::new(ErrorKind::Checksum, 16));
        }
        let kind = Kind::from_byte(raw.kind);
        if kind.is_none() && raw.flags & flags::OPTIONAL == 0 {
            return Err(Error::new(ErrorKind::Unknown(raw.kind.into()), 0));
        }
        let header_len = within(raw.header_len.get().into(), limits.max_mux_header, 2)?;
        let body_len = within(raw.body_len.get().into(), limits.max_fragment, 8)?;
        if body_len > 0 && kind.is_some_and(|kind| kind != Kind::Item) {
            return Err(Error::new(ErrorKind::Unexpected, 8));
        }
        let head = Self {
            kind: raw.kind,
            flags: raw.flags,
            stream: StreamId(raw.stream.get()),
            header_len,
            body_len,
            payload_crc: raw.payload_crc.get(),
        };
        Ok(Parse::Complete { value: head, used: HEAD_LEN })
    }

    /// The kind, if this build knows it.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_byte(self.kind)
    }

    /// Whether `flag` of [`flags`] is set.
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The head's bytes for a frame with this header and body.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if a part does not fit its length field.
    pub fn seal(
        kind: Kind,
        flags: u8,
        stream: StreamId,
        header: &[u8],
        body: &[u8],
        crc: Crc32c,
    ) -> Result<[u8; HEAD_LEN], Error> {
        let payload_crc = crc.append(crc.of(header), body);
        let header_len: u16 = narrow(header.len(), u16::MAX.into(), 2)?;
        let body_len: u32 = narrow(body.len(), u32::MAX.into(), 8)?;
        let mut raw = RawHead {
            kind: kind as u8,
            flags,
            header_len: header_len.into(),
            stream: stream.0.into(),
            body_len: body_len.into(),
            payload_crc: payload_crc.into(),
            head_crc: U32::ZERO,
        };
        let covered = raw.as_bytes().get(..16).unwrap_or_default();
        raw.head_crc = crc.of(covered).into();
        Ok(zerocopy::transmute!(raw))
    }
}
