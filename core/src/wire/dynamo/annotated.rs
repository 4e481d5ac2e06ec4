//! What most Dynamo endpoints answer with: data, or an event with comments, or a typed failure.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::wire::codec::Codec;
use crate::wire::dynamo::failure_key::Key;
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::json;
use crate::wire::msgpack::{self, Sink as _, Token};
use crate::wire::parse::{Error, ErrorKind, Reader};

/// The event that makes an item a failure.
pub const ERROR: &str = "error";

/// An annotated item. Every field may be missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Annotated<'a> {
    /// The payload, still encoded in the call's codec.
    pub data: Option<&'a [u8]>,
    /// An id.
    pub id: Option<String>,
    /// What the item is; `error` or a name the endpoint chooses.
    pub event: Option<String>,
    /// Texts, for an annotation JSON.
    pub comment: Vec<String>,
    /// What went wrong, if [`Annotated::event`] is `error`.
    pub error: Option<Failure>,
}

impl<'a> Annotated<'a> {
    /// An item with a payload and nothing else.
    pub fn of(data: &'a [u8]) -> Self {
        Self { data: Some(data), ..Self::default() }
    }

    /// An item that reports a failure.
    pub fn failed(failure: Failure) -> Self {
        Self { event: Some(ERROR.into()), error: Some(failure), ..Self::default() }
    }

    /// Reads an item in `codec`.
    ///
    /// # Errors
    /// [`ErrorKind::BadJson`] or [`ErrorKind::BadMsgpack`] if it is no annotated item, [`ErrorKind::Trailing`] if something
    /// follows it, and as [`msgpack::value`].
    pub fn read(codec: Codec, item: &'a [u8]) -> Result<Self, Error> {
        match codec {
            Codec::Json => Ok(json::read::<Wire<'a>>(item)?.into()),
            Codec::Msgpack => read_msgpack(item),
        }
    }

    /// Writes the item in `codec`, empty fields left out.
    ///
    /// # Errors
    /// If [`Annotated::data`] is not exactly one value in `codec`: [`ErrorKind::BadJson`], or [`ErrorKind::Trailing`] and as
    /// [`msgpack::value`].
    pub fn write(&self, codec: Codec) -> Result<Vec<u8>, Error> {
        match codec {
            Codec::Json => json::write(&Wire::try_from(self)?, usize::MAX),
            Codec::Msgpack => self.write_msgpack(),
        }
    }

    /// The failure the item reports, if it is one: the typed one, else one made of the comments.
    pub fn failure(&self) -> Option<Failure> {
        (self.event.as_deref() == Some(ERROR)).then(|| match &self.error {
            Some(failure) => failure.clone(),
            None if self.comment.is_empty() => Failure::new(Key::Unclassified, "unknown error"),
            None => Failure::new(Key::Unclassified, &self.comment.join(", ")),
        })
    }

    fn write_msgpack(&self) -> Result<Vec<u8>, Error> {
        let present = [
            self.data.is_some(),
            self.id.is_some(),
            self.event.is_some(),
            !self.comment.is_empty(),
            self.error.is_some(),
        ];
        let mut out = Vec::new();
        out.token(Token::Map(present.iter().map(|present| u32::from(*present)).sum()))?;
        if let Some(data) = self.data {
            out.token(Token::Str(b"data"))?;
            out.put(only_value(data)?)?;
        }
        for (name, value) in [("id", &self.id), ("event", &self.event)] {
            if let Some(value) = value {
                out.token(Token::Str(name.as_bytes()))?;
                out.token(Token::Str(value.as_bytes()))?;
            }
        }
        if !self.comment.is_empty() {
            out.token(Token::Str(b"comment"))?;
            out.token(Token::Array(crate::wire::parse::narrow(self.comment.len(), u32::MAX.into(), out.len())?))?;
            self.comment.iter().try_for_each(|text| out.token(Token::Str(text.as_bytes())))?;
        }
        if let Some(failure) = &self.error {
            out.token(Token::Str(b"error"))?;
            failure.put_msgpack(&mut out)?;
        }
        Ok(out)
    }
}

/// Bytes that are exactly one value: anything else would make another item of the whole.
fn only_value(bytes: &[u8]) -> Result<&[u8], Error> {
    let mut reader = Reader::new(bytes);
    let value = msgpack::value(&mut reader)?;
    ended(&reader)?;
    Ok(value)
}

fn ended(reader: &Reader<'_>) -> Result<(), Error> {
    if reader.remaining() == 0 { Ok(()) } else { Err(Error::new(ErrorKind::Trailing, reader.offset())) }
}

/// The fields in the order of the array form.
const FIELDS: [&[u8]; 5] = [b"data", b"id", b"event", b"comment", b"error"];

fn read_msgpack(item: &[u8]) -> Result<Annotated<'_>, Error> {
    let mut reader = Reader::new(item);
    let mut annotated = Annotated::default();
    match msgpack::token(&mut reader)? {
        Token::Map(len) => {
            for _ in 0..len {
                let at = reader.offset();
                let Token::Str(name) = msgpack::token(&mut reader)? else {
                    return Err(Error::new(ErrorKind::BadMsgpack, at));
                };
                read_field(&mut annotated, name, &mut reader)?;
            }
        }
        Token::Array(5) => {
            for name in FIELDS {
                read_field(&mut annotated, name, &mut reader)?;
            }
        }
        _ => return Err(Error::new(ErrorKind::BadMsgpack, 0)),
    }
    ended(&reader)?;
    Ok(annotated)
}

fn read_field<'a>(annotated: &mut Annotated<'a>, name: &[u8], reader: &mut Reader<'a>) -> Result<(), Error> {
    let at = reader.offset();
    let value = msgpack::value(reader)?;
    let shift = |error: Error| Error::new(error.kind, at.saturating_add(error.offset));
    if value == [0xC0] {
        return Ok(());
    }
    match name {
        b"data" => annotated.data = Some(value),
        b"id" => annotated.id = Some(text(&mut Reader::new(value)).map_err(shift)?),
        b"event" => annotated.event = Some(text(&mut Reader::new(value)).map_err(shift)?),
        b"comment" => annotated.comment = texts(value).map_err(shift)?,
        b"error" => annotated.error = Some(Failure::from_msgpack(value).map_err(shift)?),
        _ => {}
    }
    Ok(())
}

fn text(reader: &mut Reader<'_>) -> Result<String, Error> {
    let at = reader.offset();
    match msgpack::token(reader)? {
        Token::Str(text) => String::from_utf8(text.into()).map_err(|_| Error::new(ErrorKind::NotUtf8, at)),
        _ => Err(Error::new(ErrorKind::BadMsgpack, at)),
    }
}

fn texts(value: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(value);
    match msgpack::token(&mut reader)? {
        Token::Array(len) => (0..len).map(|_| text(&mut reader)).collect(),
        _ => Err(Error::new(ErrorKind::BadMsgpack, 0)),
    }
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Box<Failure>>,
}

impl<'a> From<Wire<'a>> for Annotated<'a> {
    fn from(wire: Wire<'a>) -> Self {
        Self {
            data: wire.data.map(|data| data.get().as_bytes()),
            id: wire.id,
            event: wire.event,
            comment: wire.comment.unwrap_or_default(),
            error: wire.error.map(|failure| *failure),
        }
    }
}

impl<'a> TryFrom<&Annotated<'a>> for Wire<'a> {
    type Error = Error;

    fn try_from(item: &Annotated<'a>) -> Result<Self, Error> {
        Ok(Self {
            data: item.data.map(json::read).transpose()?,
            id: item.id.clone(),
            event: item.event.clone(),
            comment: (!item.comment.is_empty()).then(|| item.comment.clone()),
            error: item.error.clone().map(Box::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dynamo::failure::{Backend, Type};

    fn full(data: &[u8]) -> Annotated<'_> {
        Annotated {
            data: Some(data),
            id: Some("i".into()),
            event: Some(ERROR.into()),
            comment: ["a".into(), "ü".into()].into(),
            error: Some(Failure::of(Type::Backend(Backend::InvalidArgument), "ValueError: boom from worker")),
        }
    }

    #[test]
    fn an_item_comes_apart_into_its_fields_in_both_codecs() {
        let json = br#"{"data":{"i":0},"later":1}"#;
        assert_eq!(Annotated::read(Codec::Json, json), Ok(Annotated::of(br#"{"i":0}"#)));
        let msgpack = b"\x82\xA4data\x81\xA1i\x00\xA5later\x01";
        assert_eq!(Annotated::read(Codec::Msgpack, msgpack), Ok(Annotated::of(b"\x81\xA1i\x00")));
        let array = b"\x95\x07\xC0\xA1e\x91\xA1c\xC0";
        let item = Annotated::read(Codec::Msgpack, array).unwrap();
        assert_eq!((item.data, item.event.as_deref(), item.comment.len()), (Some(b"\x07".as_slice()), Some("e"), 1));
    }

    #[test]
    fn an_item_is_built_from_its_fields_in_both_codecs() {
        for (codec, data) in [(Codec::Json, b"{\"i\":0}".as_slice()), (Codec::Msgpack, b"\x81\xA1i\x00")] {
            for item in [full(data), Annotated::of(data), Annotated::default()] {
                let bytes = item.write(codec).unwrap();
                assert_eq!(Annotated::read(codec, &bytes), Ok(item));
            }
        }
        assert_eq!(Annotated::of(b"{").write(Codec::Json).unwrap_err().kind, ErrorKind::BadJson);
    }

    #[test]
    fn a_payload_that_is_not_exactly_one_value_is_not_written_and_nothing_follows_an_item() {
        let written = |codec, data: &[u8]| Annotated::of(data).write(codec).map_err(|error| error.kind);
        for (data, kind) in [
            (&b"\xC1"[..], ErrorKind::BadMsgpack),
            (b"\x01\x02", ErrorKind::Trailing),
            // The second value would be a field of the item.
            (b"\x01\xA5event\xA5error", ErrorKind::Trailing),
            (b"", ErrorKind::Truncated),
            (b"\x92\x01", ErrorKind::Truncated),
        ] {
            assert_eq!(written(Codec::Msgpack, data), Err(kind), "{data:02x?}");
        }
        for data in [&b"1 2"[..], b"", b"{"] {
            assert_eq!(written(Codec::Json, data), Err(ErrorKind::BadJson), "{data:?}");
        }
        assert_eq!(written(Codec::Msgpack, b"\x92\x01\x02"), Ok(b"\x81\xA4data\x92\x01\x02".to_vec()));
        let read = |codec, item: &[u8]| Annotated::read(codec, item).map(drop).map_err(|error| error.kind);
        assert_eq!(read(Codec::Msgpack, b"\x81\xA4data\x01\x02"), Err(ErrorKind::Trailing));
        assert_eq!(read(Codec::Json, b"{\"data\":1} 2"), Err(ErrorKind::BadJson));
    }

    #[test]
    fn an_error_item_has_the_bytes_dynamo_writes() {
        let bytes: &[u8] = b"\x82\xa5event\xa5error\xa5error\x85\xaaerror_type\x81\xa7Backend\xafInvalidArgument\
            \xa5class\xaeInvalidRequest\xa6reason\xb8backend.invalid_argument\xa7message\xbcValueError: boom from \
            worker\xaadiagnostic\xbcValueError: boom from worker";
        let item = Annotated::failed(full(b"").error.unwrap());
        assert_eq!(item.write(Codec::Msgpack), Ok(bytes.into()));
        assert_eq!(Annotated::read(Codec::Msgpack, bytes), Ok(item));
    }

    #[test]
    fn only_the_event_error_makes_a_failure() {
        let failure = |event: &str, comment: &[&str]| {
            let comment = comment.iter().map(|text| (*text).into()).collect();
            let item = Annotated { event: Some(event.into()), comment, ..Annotated::default() };
            item.failure().and_then(|failure| failure.diagnostic().map(String::from))
        };
        assert_eq!(failure("Error", &["a"]), None);
        assert_eq!(failure("error", &["a", "b"]).as_deref(), Some("a, b"));
        assert_eq!(failure("error", &[]).as_deref(), Some("unknown error"));
        assert_eq!(full(b"").failure(), full(b"").error);
    }

    #[test]
    fn impossible_lengths_and_shapes_are_refused() {
        let kind = |bytes: &[u8]| Annotated::read(Codec::Msgpack, bytes).unwrap_err().kind;
        assert_eq!(kind(b"\x81\xA7comment\xDD\xFF\xFF\xFF\xFF"), ErrorKind::Truncated);
        assert_eq!(kind(b"\x81\xA7comment\x91\x01"), ErrorKind::BadMsgpack);
        assert_eq!(kind(b"\x81\xA2id\xA1\xFF"), ErrorKind::NotUtf8);
        assert_eq!(kind(b"\x81\x01\x01"), ErrorKind::BadMsgpack);
        assert_eq!(kind(b"\x81\xA5error\x01"), ErrorKind::BadMsgpack);
        assert_eq!(Annotated::read(Codec::Json, b"{\"id\":1}").unwrap_err().kind, ErrorKind::BadJson);
    }
}
