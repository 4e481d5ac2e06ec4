//! What wraps every item of a response stream: the item, and whether it was the last.

use crate::wire::codec::Codec;
use crate::wire::msgpack::{self, Token};
use crate::wire::parse::{Error, ErrorKind, Reader, Writer};

/// The body of a data frame on a response stream. The item is opaque and stays encoded.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// The item, encoded in the call's codec. Absent and nil are the same.
    pub data: Option<&'a [u8]>,
    /// Whether this is the last frame; the only proof that a stream is complete.
    pub complete_final: bool,
}

impl<'a> Envelope<'a> {
    /// The frame that ends a complete stream.
    pub const FINAL: Self = Envelope { data: None, complete_final: true };

    /// The frame of one item.
    pub const fn item(data: &'a [u8]) -> Self {
        Self { data: Some(data), complete_final: false }
    }

    /// Reads a frame's body in `codec`.
    ///
    /// # Errors
    /// As [`Envelope::read_msgpack`] and [`Envelope::read_json`].
    #[cfg(feature = "alloc")]
    pub fn read(codec: Codec, body: &'a [u8]) -> Result<Self, Error> {
        match codec {
            Codec::Json => Self::read_json(body),
            Codec::Msgpack => Self::read_msgpack(body),
        }
    }

    /// Reads MessagePack: a map by field name, or an array of both fields. Unknown keys, and bytes after the value, are
    /// ignored.
    ///
    /// # Errors
    /// [`ErrorKind::BadMsgpack`] for any other shape, [`ErrorKind::Missing`] without `complete_final`,
    /// [`ErrorKind::Unexpected`] if a field stands twice, and as [`msgpack::value`].
    pub fn read_msgpack(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let mut data = None;
        let mut complete_final = None;
        match msgpack::token(&mut reader)? {
            Token::Array(2) => {
                data = Some(msgpack::value(&mut reader)?);
                complete_final = Some(boolean(&mut reader)?);
            }
            Token::Map(len) => {
                for _ in 0..len {
                    let at = reader.offset();
                    let twice = match msgpack::token(&mut reader)? {
                        Token::Str(b"data") => data.replace(msgpack::value(&mut reader)?).is_some(),
                        Token::Str(b"complete_final") => complete_final.replace(boolean(&mut reader)?).is_some(),
                        Token::Str(_) => {
                            msgpack::value(&mut reader)?;
                            false
                        }
                        _ => return Err(Error::new(ErrorKind::BadMsgpack, at)),
                    };
                    if twice {
                        return Err(Error::new(ErrorKind::Unexpected, at));
                    }
                }
            }
            _ => return Err(Error::new(ErrorKind::BadMsgpack, 0)),
        }
        let complete_final = complete_final.ok_or(Error::new(ErrorKind::Missing, reader.offset()))?;
        Ok(Self { data: data.filter(|data| *data != [0xC0]), complete_final })
    }

    /// Reads JSON. Unknown keys are ignored, text after the value is not.
    ///
    /// # Errors
    /// [`ErrorKind::BadJson`] for any other shape.
    #[cfg(feature = "alloc")]
    pub fn read_json(body: &'a [u8]) -> Result<Self, Error> {
        let wire: Wire<'a> = crate::wire::json::read(body)?;
        Ok(Self { data: wire.data.map(|data| data.get().as_bytes()), complete_final: wire.complete_final })
    }

    /// What stands before and after the item in `codec`; together the whole frame if there is no item. For an emitter
    /// that does not want to move the item.
    pub const fn around(&self, codec: Codec) -> (&'static [u8], &'static [u8]) {
        match (codec, self.data.is_some(), self.complete_final) {
            (Codec::Msgpack, true, false) => (b"\x82\xA4data", b"\xAEcomplete_final\xC2"),
            (Codec::Msgpack, true, true) => (b"\x82\xA4data", b"\xAEcomplete_final\xC3"),
            (Codec::Msgpack, false, false) => (b"\x81", b"\xAEcomplete_final\xC2"),
            (Codec::Msgpack, false, true) => (b"\x81", b"\xAEcomplete_final\xC3"),
            (Codec::Json, true, false) => (b"{\"data\":", b",\"complete_final\":false}"),
            (Codec::Json, true, true) => (b"{\"data\":", b",\"complete_final\":true}"),
            (Codec::Json, false, false) => (b"{", b"\"complete_final\":false}"),
            (Codec::Json, false, true) => (b"{", b"\"complete_final\":true}"),
        }
    }

    /// Bytes [`Envelope::emit`] writes.
    pub const fn emitted_len(&self, codec: Codec) -> usize {
        let (before, after) = self.around(codec);
        let data = match self.data {
            Some(data) => data.len(),
            None => 0,
        };
        before.len() + data + after.len()
    }

    /// Writes the body to the start of `out` and returns its length.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`] if `out` is too small.
    pub fn emit(&self, codec: Codec, out: &mut [u8]) -> Result<usize, Error> {
        let (before, after) = self.around(codec);
        let mut writer = Writer::new(out);
        writer.bytes(before)?;
        writer.bytes(self.data.unwrap_or_default())?;
        writer.bytes(after)?;
        Ok(writer.written())
    }
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, Error> {
    let at = reader.offset();
    match msgpack::token(reader)? {
        Token::Bool(value) => Ok(value),
        _ => Err(Error::new(ErrorKind::BadMsgpack, at)),
    }
}

#[cfg(feature = "alloc")]
#[derive(serde::Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    data: Option<&'a serde_json::value::RawValue>,
    complete_final: bool,
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    const MSGPACK: &[u8] = b"\x82\xA4data\x81\xA4data\x81\xA1i\x00\xAEcomplete_final\xC2";
    const JSON: &[u8] = br#"{"data":{"data":{"i":0}},"complete_final":false}"#;

    #[test]
    fn a_body_comes_apart_into_item_and_end() {
        let item = Envelope::read_msgpack(MSGPACK).unwrap();
        assert_eq!(item, Envelope::item(b"\x81\xA4data\x81\xA1i\x00"));
        assert_eq!(Envelope::read_json(JSON), Ok(Envelope::item(br#"{"data":{"i":0}}"#)));
        assert_eq!(Envelope::read(Codec::Msgpack, b"\x81\xAEcomplete_final\xC3"), Ok(Envelope::FINAL));
        assert_eq!(Envelope::read(Codec::Json, br#"{"complete_final":true}"#), Ok(Envelope::FINAL));
    }

    #[test]
    fn a_body_is_built_from_item_and_end() {
        let mut out = [0; 64];
        for (codec, bytes) in [(Codec::Msgpack, MSGPACK), (Codec::Json, JSON)] {
            let envelope = Envelope::read(codec, bytes).unwrap();
            assert_eq!(envelope.emit(codec, &mut out), Ok(bytes.len()));
            assert_eq!(&out[..bytes.len()], bytes);
            assert_eq!(envelope.emitted_len(codec), bytes.len());
            assert!(envelope.emit(codec, &mut out[..bytes.len() - 1]).is_err());
        }
        assert_eq!(Envelope::FINAL.emitted_len(Codec::Msgpack), 17);
        assert_eq!(Envelope::FINAL.emitted_len(Codec::Json), 23);
    }

    #[test]
    fn every_combination_leads_back_to_itself() {
        let mut out = [0; 64];
        for codec in Codec::ALL {
            for (data, complete_final) in [(None, false), (None, true), (Some(b"1"), false), (Some(b"1"), true)] {
                let envelope = Envelope { data: data.map(|data| data.as_slice()), complete_final };
                let len = envelope.emit(codec, &mut out).unwrap();
                assert_eq!(Envelope::read(codec, &out[..len]), Ok(envelope));
            }
        }
    }

    #[test]
    fn impossible_lengths_and_shapes_are_refused() {
        let kind = |bytes: &[u8]| Envelope::read_msgpack(bytes).map(|_| ()).map_err(|error| error.kind);
        assert_eq!(kind(b"\xDF\xFF\xFF\xFF\xFF"), Err(ErrorKind::Truncated));
        assert_eq!(kind(b"\x81\xA4data\x01"), Err(ErrorKind::Missing));
        assert_eq!(kind(b"\x82\xA4data\x01\xA4data\x01"), Err(ErrorKind::Unexpected));
        assert_eq!(kind(b"\x81\xAEcomplete_final\x01"), Err(ErrorKind::BadMsgpack));
        for bytes in [b"\xC0".as_slice(), b"\x91\x01", b"\x93\x01\xC3\x01", b"\x81\x01\x01"] {
            assert_eq!(kind(bytes), Err(ErrorKind::BadMsgpack), "{bytes:x?}");
        }
        for json in ["{}", "1", r#"{"complete_final":1}"#, r#"{"complete_final":true}x"#, r#"{"data":1}"#] {
            assert_eq!(Envelope::read_json(json.as_bytes()).unwrap_err().kind, ErrorKind::BadJson, "{json}");
        }
    }

    #[test]
    fn unknown_keys_array_form_nil_and_trailing_bytes_are_taken_as_dynamo_takes_them() {
        let unknown = b"\x83\xA1x\x92\x01\x02\xAEcomplete_final\xC3\xA4data\xC0\xFF\xFF";
        assert_eq!(Envelope::read_msgpack(unknown), Ok(Envelope::FINAL));
        assert_eq!(Envelope::read_msgpack(b"\x92\xA1a\xC2"), Ok(Envelope::item(b"\xA1a")));
        let json = br#" { "x" : [] , "complete_final" : true , "data" : null } "#;
        assert_eq!(Envelope::read_json(json), Ok(Envelope::FINAL));
    }
}
