//! Batches as they come: the shell first, then each event alone, in either encoding.

use alloc::string::{String, ToString};
use core::fmt;

use crate::event::kv::event::{Event, Removed, Stored};
use crate::event::kv::fields::{
    CLEARED, REMOVED, REMOVED_FIELDS, STORED, STORED_FIELDS, STORED_IN_ARRAY, Values, read, tag,
};
use crate::event::kv::limits::Limits;
use crate::wire::msgpack::{self, Token};
use crate::wire::parse::{Error, ErrorKind, Reader, within};

/// The shell of a batch: `[ts, events, rank, …]`. Two elements are enough, as vLLM 0.9.0 wrote them, and what follows the third
/// is ignored.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// When it was put together, in seconds of Unix time.
    pub ts: f64,
    /// The data-parallel rank it speaks for, if it says so.
    pub rank: Option<u32>,
    events: Reader<'a>,
    left: usize,
    at: usize,
    limits: Limits,
}

/// An event that could not be read. The ones behind it can.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EventError {
    /// A tag this build has no meaning for: to be skipped.
    Unknown(String),
    /// It breaks the format; what its engine holds is no longer known exactly.
    Broken(Error),
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(tag) => write!(f, "event of the unknown type {tag:?}"),
            Self::Broken(_) => f.write_str("event that breaks the format"),
        }
    }
}

impl core::error::Error for EventError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Unknown(_) => None,
            Self::Broken(error) => Some(error),
        }
    }
}

impl<'a> Batch<'a> {
    /// Reads the shell, and walks over the events without looking into them.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond `limits`; [`ErrorKind::BadMsgpack`], [`ErrorKind::Truncated`] and [`ErrorKind::Missing`] if
    /// these bytes are no batch.
    pub fn read(payload: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        within(payload.len() as u64, limits.payload, 0)?;
        let mut reader = Reader::new(payload);
        let Token::Array(len) = msgpack::token(&mut reader)? else { return Err(Error::new(ErrorKind::BadMsgpack, 0)) };
        if len < 2 {
            return Err(Error::new(ErrorKind::Missing, reader.offset()));
        }
        let at = reader.offset();
        let ts = match msgpack::token(&mut reader)? {
            Token::Float(seconds) => seconds,
            Token::Uint(seconds) => seconds as f64,
            _ => return Err(Error::new(ErrorKind::BadMsgpack, at)),
        };
        let at = reader.offset();
        let Token::Array(events) = msgpack::token(&mut reader)? else {
            return Err(Error::new(ErrorKind::BadMsgpack, at));
        };
        let left = within(events.into(), limits.events, at)?;
        let (begin, first) = (reader.clone(), reader.offset());
        for _ in 0..left {
            msgpack::value(&mut reader)?;
        }
        // A rank of nil, and one that is none, are as good as no rank: its reader knows which socket it listens to.
        let rank = match len {
            2 => None,
            _ => match msgpack::token(&mut reader)? {
                Token::Uint(rank) => u32::try_from(rank).ok(),
                _ => None,
            },
        };
        Ok(Self { ts, rank, events: begin, left, at: first, limits: *limits })
    }

    /// Events not yet taken.
    pub const fn len(&self) -> usize {
        self.left
    }

    /// Whether there is no event left to take.
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for Batch<'_> {
    type Item = Result<Event, EventError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let at = self.events.offset();
        debug_assert!(at >= self.at, "events follow the shell");
        let Ok(bytes) = msgpack::value(&mut self.events) else {
            self.left = 0;
            return None;
        };
        Some(event(bytes, at, &self.limits))
    }
}

fn event(bytes: &[u8], at: usize, limits: &Limits) -> Result<Event, EventError> {
    let tag = tag(bytes, at).map_err(EventError::Broken)?;
    let known = [STORED, REMOVED, CLEARED].into_iter().find(|known| known.as_bytes() == tag);
    let event = match known {
        Some(STORED) => stored(bytes, at, limits).map(Event::Stored),
        Some(REMOVED) => removed(bytes, at, limits).map(Event::Removed),
        Some(_) => Ok(Event::Cleared),
        None => {
            let shown = tag.get(..tag.len().min(64)).unwrap_or_default();
            return Err(EventError::Unknown(String::from_utf8_lossy(shown).to_string()));
        }
    };
    event.map_err(EventError::Broken)
}

fn stored(bytes: &[u8], at: usize, limits: &Limits) -> Result<Stored, Error> {
    let values = Values::read(bytes, at, &STORED_FIELDS, STORED_IN_ARRAY)?;
    let text = |field| values.get(field).map(|value| read::text(value, limits)).transpose();
    let raw = |field| values.get(field).map(|value| read::raw(value, limits)).transpose();
    let number = |field| values.get(field).map(read::u32).transpose();
    let mut stored = Stored {
        block_hashes: read::hashes(values.required(1)?, limits)?,
        parent_block_hash: values.get(2).map(read::hash).transpose()?,
        token_ids: read::tokens(values.required(3)?, limits)?,
        block_size: read::u32(values.required(4)?)?,
        lora_id: values.get(5).map(read::i64).transpose()?,
        medium: text(6)?,
        lora_name: None,
        extra_keys: raw(8)?,
        group_idx: number(9)?,
        kv_cache_spec_kind: text(10)?,
        kv_cache_spec_sliding_window: number(11)?,
        locality: text(12)?,
        ownership: text(13)?,
        cache_salt: text(14)?,
        session_id: text(15)?,
        lookahead_token_ids: raw(16)?,
        mm_keys: raw(17)?,
    };
    match values.get(7) {
        // SGLang 0.5.18 and 0.5.19 put a map with the salt where vLLM has the adapter's name.
        Some((map @ [0x80..=0x8F | 0xDE | 0xDF, ..], at)) => {
            let extra = Values::read(map, at, &["cache_salt"], 0)?;
            stored.cache_salt = extra.get(0).map(|value| read::text(value, limits)).transpose()?;
        }
        name => stored.lora_name = name.map(|name| read::text(name, limits)).transpose()?,
    }
    Ok(stored)
}

fn removed(bytes: &[u8], at: usize, limits: &Limits) -> Result<Removed, Error> {
    let values = Values::read(bytes, at, &REMOVED_FIELDS, REMOVED_FIELDS.len())?;
    let text = |field| values.get(field).map(|value| read::text(value, limits)).transpose();
    Ok(Removed {
        block_hashes: read::hashes(values.required(1)?, limits)?,
        medium: text(2)?,
        group_idx: values.get(3).map(read::u32).transpose()?,
        locality: text(4)?,
        ownership: text(5)?,
    })
}
