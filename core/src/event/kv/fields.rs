//! The fields of events, in the order both encodings have, and one event's values by field.

use crate::event::kv::limits::Limits;
use crate::wire::msgpack::{self, Token};
use crate::wire::parse::{Error, ErrorKind, Reader};

/// The tags of the three events.
pub(super) const STORED: &str = "BlockStored";
pub(super) const REMOVED: &str = "BlockRemoved";
pub(super) const CLEARED: &str = "AllBlocksCleared";

/// Fields of `BlockStored`: their place in the array, and their key in the map. Those behind [`STORED_IN_ARRAY`] are in maps
/// only.
pub(super) const STORED_FIELDS: [&str; 18] = [
    "type",
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
    "locality",
    "ownership",
    "cache_salt",
    "session_id",
    "lookahead_token_ids",
    "mm_keys",
];
pub(super) const STORED_IN_ARRAY: usize = 14;
/// Fields from here on were never written into an array by vLLM: what stands there may be anything a later layout puts there,
/// and is theirs only if it is a text.
const SURE_IN_ARRAY: usize = 12;

/// Fields of `BlockRemoved`, as [`STORED_FIELDS`].
pub(super) const REMOVED_FIELDS: [&str; 6] = ["type", "block_hashes", "medium", "group_idx", "locality", "ownership"];

const MOST: usize = STORED_FIELDS.len();

/// The values of one event by field, each the bytes it has on the wire; nil counts as unset.
#[derive(Default)]
pub(super) struct Values<'a> {
    slots: [Option<(&'a [u8], usize)>; MOST],
    /// Where the event begins in its batch.
    at: usize,
}

/// The tag of an event, of either encoding. `at` is where `event` begins in its batch, for errors.
pub(super) fn tag<'a>(event: &'a [u8], at: usize) -> Result<&'a [u8], Error> {
    let mut reader = Reader::new(event);
    let text = |reader: &mut Reader<'a>| match msgpack::token(reader)? {
        Token::Str(text) => Ok(text),
        _ => Err(Error::new(ErrorKind::BadMsgpack, 0)),
    };
    let found = match msgpack::token(&mut reader)? {
        Token::Array(1..) => text(&mut reader),
        Token::Map(pairs) => {
            let mut found = Err(Error::new(ErrorKind::Missing, 0));
            for _ in 0..pairs {
                if msgpack::token(&mut reader.clone())? == Token::Str(b"type") {
                    msgpack::value(&mut reader)?;
                    found = text(&mut reader);
                    break;
                }
                msgpack::value(&mut reader)?;
                msgpack::value(&mut reader)?;
            }
            found
        }
        _ => Err(Error::new(ErrorKind::BadMsgpack, 0)),
    };
    found.map_err(|error| Error::new(error.kind, at + error.offset))
}

impl<'a> Values<'a> {
    /// Sorts the values of `event` by `names`; of an array the first `in_array`. What is beyond or unknown is ignored.
    pub(super) fn read(event: &'a [u8], at: usize, names: &[&str], in_array: usize) -> Result<Self, Error> {
        let mut values = Self { at, ..Self::default() };
        let mut reader = Reader::new(event);
        match msgpack::token(&mut reader)? {
            Token::Array(len) => {
                for field in 0..(len as usize).min(in_array) {
                    let text = matches!(msgpack::token(&mut reader.clone()), Ok(Token::Str(_)));
                    values.set(if field < SURE_IN_ARRAY || text { field } else { MOST }, &mut reader)?;
                }
            }
            Token::Map(pairs) => {
                for _ in 0..pairs {
                    let key = msgpack::token(&mut reader.clone())?;
                    msgpack::value(&mut reader)?;
                    let known = names.iter().position(|name| key == Token::Str(name.as_bytes()));
                    values.set(known.unwrap_or(MOST), &mut reader)?;
                }
            }
            _ => return Err(Error::new(ErrorKind::BadMsgpack, at)),
        }
        Ok(values)
    }

    fn set(&mut self, field: usize, reader: &mut Reader<'a>) -> Result<(), Error> {
        let at = self.at + reader.offset();
        let value = msgpack::value(reader).map_err(|error| Error::new(error.kind, self.at + error.offset))?;
        if let Some(slot) = self.slots.get_mut(field) {
            *slot = (value != [0xC0]).then_some((value, at));
        }
        Ok(())
    }

    /// The bytes of a field, and where they begin.
    pub(super) fn get(&self, field: usize) -> Option<(&'a [u8], usize)> {
        self.slots.get(field).copied().flatten()
    }

    /// A field that must be there.
    pub(super) fn required(&self, field: usize) -> Result<(&'a [u8], usize), Error> {
        self.get(field).ok_or(Error::new(ErrorKind::Missing, self.at))
    }
}

/// What one value of an event can be read as. Errors say where in the batch.
pub(super) mod read {
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::{Error, ErrorKind, Limits, Reader, Token, msgpack};
    use crate::event::kv::event::Tokens;
    use crate::wire::parse::within;

    type Value<'a> = (&'a [u8], usize);

    fn wrong(at: usize) -> Error {
        Error::new(ErrorKind::BadMsgpack, at)
    }

    fn only(value: Value<'_>) -> Result<Token<'_>, Error> {
        msgpack::token(&mut Reader::new(value.0)).map_err(|error| Error::new(error.kind, value.1 + error.offset))
    }

    pub(in super::super) fn u32((bytes, at): Value<'_>) -> Result<u32, Error> {
        match only((bytes, at))? {
            Token::Uint(value) => u32::try_from(value).map_err(|_| Error::new(ErrorKind::Invalid, at)),
            _ => Err(wrong(at)),
        }
    }

    pub(in super::super) fn i64((bytes, at): Value<'_>) -> Result<i64, Error> {
        match only((bytes, at))? {
            Token::Uint(value) => i64::try_from(value).map_err(|_| Error::new(ErrorKind::Invalid, at)),
            Token::Int(value) => Ok(value),
            _ => Err(wrong(at)),
        }
    }

    pub(in super::super) fn text((bytes, at): Value<'_>, limits: &Limits) -> Result<String, Error> {
        let Token::Str(text) = only((bytes, at))? else { return Err(wrong(at)) };
        within(text.len() as u64, limits.text, at)?;
        core::str::from_utf8(text).map(ToString::to_string).map_err(|_| Error::new(ErrorKind::NotUtf8, at))
    }

    pub(in super::super) fn raw((bytes, at): Value<'_>, limits: &Limits) -> Result<Vec<u8>, Error> {
        within(bytes.len() as u64, limits.raw, at)?;
        Ok(bytes.to_vec())
    }

    /// A hash as 64 bits: an integer of either sign by its bits, bytes by their last eight.
    pub(in super::super) fn hash((bytes, at): Value<'_>) -> Result<u64, Error> {
        match only((bytes, at))? {
            Token::Uint(value) => Ok(value),
            Token::Int(value) => Ok(value.cast_unsigned()),
            Token::Bin(bytes) => {
                let last = bytes.get(bytes.len().saturating_sub(8)..).unwrap_or_default();
                Ok(last.iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
            }
            _ => Err(wrong(at)),
        }
    }

    /// The head of a list, checked against `limit` and against what is there: each item has a byte.
    fn list<'a>((bytes, at): Value<'a>, limit: usize) -> Result<(usize, Reader<'a>), Error> {
        let mut reader = Reader::new(bytes);
        let Token::Array(len) = msgpack::token(&mut reader)? else { return Err(wrong(at)) };
        let len = within(len.into(), limit, at)?;
        if len > reader.remaining() {
            return Err(Error::new(ErrorKind::Truncated, at));
        }
        Ok((len, reader))
    }

    pub(in super::super) fn hashes(value: Value<'_>, limits: &Limits) -> Result<Vec<u64>, Error> {
        let (len, mut reader) = list(value, limits.hashes)?;
        let mut hashes = Vec::with_capacity(len);
        for _ in 0..len {
            let at = value.1 + reader.offset();
            hashes.push(hash((msgpack::value(&mut reader)?, at))?);
        }
        Ok(hashes)
    }

    pub(in super::super) fn tokens(value: Value<'_>, limits: &Limits) -> Result<Tokens, Error> {
        let (len, reader) = list(value, limits.tokens)?;
        if let Some(plain) = plain(len, reader.clone()) {
            return Ok(Tokens::Plain(plain));
        }
        match pairs(len, reader) {
            Some(pairs) => Ok(Tokens::Pairs(pairs)),
            None => Ok(Tokens::Other { len, raw: value.0.to_vec() }),
        }
    }

    fn token(reader: &mut Reader<'_>) -> Option<u32> {
        match msgpack::token(reader) {
            Ok(Token::Uint(value)) => u32::try_from(value).ok(),
            _ => None,
        }
    }

    fn plain(len: usize, mut reader: Reader<'_>) -> Option<Vec<u32>> {
        let mut tokens = Vec::with_capacity(len);
        for _ in 0..len {
            tokens.push(token(&mut reader)?);
        }
        Some(tokens)
    }

    fn pairs(len: usize, mut reader: Reader<'_>) -> Option<Vec<[u32; 2]>> {
        let mut pairs = Vec::new();
        for _ in 0..len {
            if msgpack::token(&mut reader) != Ok(Token::Array(2)) {
                return None;
            }
            pairs.push([token(&mut reader)?, token(&mut reader)?]);
        }
        Some(pairs)
    }
}
