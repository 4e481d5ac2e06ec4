//! Batches as they are written, in the forms that readers of this stream know.

use alloc::string::String;
use alloc::vec::Vec;

use crate::event::kv::event::{Event, Removed, Stored, Tokens};
use crate::event::kv::fields::{CLEARED, REMOVED, REMOVED_FIELDS, STORED, STORED_FIELDS};
use crate::wire::msgpack::{self, Sink as _, Token};
use crate::wire::parse::{Error, ErrorKind, Reader, narrow};

/// How events are encoded.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// As maps by field name: vLLM from 0.24, SGLang from 0.5.20. Default.
    #[default]
    Map,
    /// As arrays of fixed length, for readers before.
    Array(Layout),
}

/// The lengths of arrays, by the vLLM release that first had them. What a layout has no place for is left out.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// 0.9.1 to 0.10.1: no medium.
    V0_9,
    /// 0.10.2 to 0.13, with the medium.
    V0_10,
    /// 0.14 to 0.16, with the adapter's name.
    V0_14,
    /// 0.17 to 0.19, with extra keys.
    V0_17,
    /// 0.20 and 0.21, with the group.
    V0_20,
    /// 0.22 and 0.23, with the group's kind and window.
    V0_22,
}

/// How hashes are encoded.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Hashes {
    /// As unsigned integers. Default.
    #[default]
    Integers,
    /// As eight bytes, big end first. Dynamo up to 1.6 cannot read them.
    Bytes,
}

/// What is chosen for all batches of a publisher.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Style {
    /// How events are encoded.
    pub form: Form,
    /// How hashes are encoded.
    pub hashes: Hashes,
}

impl Layout {
    /// All of them, oldest first.
    pub const ALL: [Self; 6] = [Self::V0_9, Self::V0_10, Self::V0_14, Self::V0_17, Self::V0_20, Self::V0_22];

    /// Fields of a stored and of a removed event.
    const fn lengths(self) -> (usize, usize) {
        match self {
            Self::V0_9 => (6, 2),
            Self::V0_10 => (7, 3),
            Self::V0_14 => (8, 3),
            Self::V0_17 => (9, 3),
            Self::V0_20 => (10, 4),
            Self::V0_22 => (12, 4),
        }
    }
}

/// Writes `[ts, events, rank]` behind what is in `out`.
///
/// # Errors
/// [`ErrorKind::TooLarge`] if something exceeds what MessagePack has a length for; an error of [`msgpack::value`] or
/// [`ErrorKind::Trailing`] if a field that is written as it is, as extra keys are, is not one value of MessagePack.
pub fn batch(ts: f64, rank: u32, events: &[Event], style: Style, out: &mut Vec<u8>) -> Result<(), Error> {
    out.token(Token::Array(3))?;
    out.token(Token::Float(ts))?;
    list(events.len(), out)?;
    for event in events {
        match event {
            Event::Stored(event) => stored(event, style, out)?,
            Event::Removed(event) => removed(event, style, out)?,
            Event::Cleared => record(&[Some(Value::Text(CLEARED))], &["type"], 1, style, out)?,
        }
    }
    out.token(Token::Uint(rank.into()))
}

/// One value of an event. An absent one that has a place is nil there.
#[derive(Copy, Clone)]
enum Value<'a> {
    Nil,
    Text(&'a str),
    Uint(u64),
    Int(i64),
    Hash(u64),
    Hashes(&'a [u64]),
    Tokens(&'a Tokens),
    Raw(&'a [u8]),
}

fn text(text: &Option<String>) -> Option<Value<'_>> {
    text.as_deref().map(Value::Text)
}

fn stored(event: &Stored, style: Style, out: &mut Vec<u8>) -> Result<(), Error> {
    let number = |value: Option<u32>| value.map(|value| Value::Uint(value.into()));
    let values = [
        Some(Value::Text(STORED)),
        Some(Value::Hashes(&event.block_hashes)),
        Some(event.parent_block_hash.map_or(Value::Nil, Value::Hash)),
        Some(Value::Tokens(&event.token_ids)),
        Some(Value::Uint(event.block_size.into())),
        Some(event.lora_id.map_or(Value::Nil, Value::Int)),
        Some(text(&event.medium).unwrap_or(Value::Nil)),
        Some(text(&event.lora_name).unwrap_or(Value::Nil)),
        event.extra_keys.as_deref().map(Value::Raw),
        number(event.group_idx),
        text(&event.kv_cache_spec_kind),
        number(event.kv_cache_spec_sliding_window),
        text(&event.locality),
        text(&event.ownership),
        text(&event.cache_salt),
        text(&event.session_id),
        event.lookahead_token_ids.as_deref().map(Value::Raw),
        event.mm_keys.as_deref().map(Value::Raw),
    ];
    let length = if let Form::Array(layout) = style.form { layout.lengths().0 } else { values.len() };
    record(&values, &STORED_FIELDS, length, style, out)
}

fn removed(event: &Removed, style: Style, out: &mut Vec<u8>) -> Result<(), Error> {
    let values = [
        Some(Value::Text(REMOVED)),
        Some(Value::Hashes(&event.block_hashes)),
        Some(text(&event.medium).unwrap_or(Value::Nil)),
        event.group_idx.map(|group| Value::Uint(group.into())),
        text(&event.locality),
        text(&event.ownership),
    ];
    let length = if let Form::Array(layout) = style.form { layout.lengths().1 } else { values.len() };
    record(&values, &REMOVED_FIELDS, length, style, out)
}

/// Writes the values of one event: the first `length` of them as an array, or those that are set as a map.
fn record(
    values: &[Option<Value<'_>>],
    names: &[&str],
    length: usize,
    style: Style,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match style.form {
        Form::Array(_) => {
            list(length, out)?;
            values.iter().take(length).try_for_each(|item| value(item.unwrap_or(Value::Nil), style, out))
        }
        Form::Map => {
            let set = || names.iter().zip(values).filter_map(|(name, item)| item.map(|item| (name, item)));
            out.token(Token::Map(narrow(set().count(), u32::MAX.into(), 0)?))?;
            for (name, item) in set() {
                out.token(Token::Str(name.as_bytes()))?;
                value(item, style, out)?;
            }
            Ok(())
        }
    }
}

fn value(value: Value<'_>, style: Style, out: &mut Vec<u8>) -> Result<(), Error> {
    match value {
        Value::Nil => out.token(Token::Nil),
        Value::Text(text) => out.token(Token::Str(text.as_bytes())),
        Value::Uint(number) => out.token(Token::Uint(number)),
        Value::Int(number) => out.token(Token::Int(number)),
        Value::Hash(one) => hash(one, style, out),
        Value::Hashes(hashes) => {
            list(hashes.len(), out)?;
            hashes.iter().try_for_each(|one| hash(*one, style, out))
        }
        Value::Tokens(Tokens::Plain(tokens)) => {
            list(tokens.len(), out)?;
            tokens.iter().try_for_each(|token| out.token(Token::Uint((*token).into())))
        }
        Value::Tokens(Tokens::Pairs(pairs)) => {
            list(pairs.len(), out)?;
            for pair in pairs {
                out.token(Token::Array(2))?;
                pair.iter().try_for_each(|token| out.token(Token::Uint((*token).into())))?;
            }
            Ok(())
        }
        Value::Tokens(Tokens::Other { raw: bytes, .. }) => raw(bytes, out),
        Value::Raw(bytes) => raw(bytes, out),
    }
}

/// Writes what is MessagePack already, if it is one value.
fn raw(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let mut reader = Reader::new(bytes);
    msgpack::value(&mut reader)?;
    match reader.remaining() {
        0 => out.put(bytes),
        _ => Err(Error::new(ErrorKind::Trailing, reader.offset())),
    }
}

fn hash(hash: u64, style: Style, out: &mut Vec<u8>) -> Result<(), Error> {
    match style.hashes {
        Hashes::Integers => out.token(Token::Uint(hash)),
        Hashes::Bytes => out.token(Token::Bin(&hash.to_be_bytes())),
    }
}

fn list(len: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    out.token(Token::Array(narrow(len, u32::MAX.into(), 0)?))
}
