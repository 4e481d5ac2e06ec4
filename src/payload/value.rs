//! Values written and read in a codec.

use bytes::Bytes;
use ringplane_core::wire::codec::Codec;
use rmp_serde::decode::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::error::PayloadError;

/// Values in a codec, as calls carry them: one JSON value, or one of MessagePack whose structs are maps keyed by field name.
///
/// ```
/// use ringplane::{Codec, Payload};
///
/// # fn main() -> Result<(), ringplane::PayloadError> {
/// let bytes = Codec::Msgpack.write(&("how", 2))?;
/// assert_eq!(Codec::Msgpack.read::<(String, u8)>(&bytes)?, ("how".to_owned(), 2));
/// assert_eq!(Codec::Json.read::<u8>(b"").unwrap_err().to_string(), "the payload is empty");
/// # Ok(())
/// # }
/// ```
pub trait Payload {
    /// Writes a value.
    ///
    /// # Errors
    /// [`PayloadError::Unwritable`] if there is no such value in this codec, as a map of JSON whose keys are no texts.
    fn write<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, PayloadError>;

    /// Reads a payload that is exactly one value. Structs of MessagePack may be arrays too.
    ///
    /// # Errors
    /// See [`PayloadError`]: what it is instead, and where.
    fn read<T: DeserializeOwned>(self, payload: &[u8]) -> Result<T, PayloadError>;
}

impl Payload for Codec {
    fn write<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, PayloadError> {
        match self {
            Self::Json => match serde_json::to_vec(value) {
                Ok(text) => Ok(text.into()),
                Err(error) => Err(PayloadError::Unwritable(self, error.into())),
            },
            Self::Msgpack => match rmp_serde::to_vec_named(value) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(PayloadError::Unwritable(self, error.into())),
            },
        }
    }

    fn read<T: DeserializeOwned>(self, payload: &[u8]) -> Result<T, PayloadError> {
        if payload.is_empty() {
            return Err(PayloadError::Empty);
        }
        match self {
            Self::Json => serde_json::from_slice(payload).map_err(PayloadError::Json),
            Self::Msgpack => msgpack(payload),
        }
    }
}

fn msgpack<T: DeserializeOwned>(payload: &[u8]) -> Result<T, PayloadError> {
    let mut source = payload;
    let mut reader = Deserializer::new(&mut source);
    let read = T::deserialize(&mut reader);
    let at = (payload.len() - source.len()) as u64;
    match read {
        Ok(_) if (at as usize) < payload.len() => Err(PayloadError::Trailing { at }),
        Ok(value) => Ok(value),
        Err(error) => Err(PayloadError::Msgpack { at, error }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ringplane_core::chain::Chain;
    use ringplane_core::local::Failure;
    use ringplane_core::wire::class::Class;
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Question {
        mode: String,
        n: Option<u8>,
    }

    fn question() -> Question {
        Question { mode: "count".to_owned(), n: Some(5) }
    }

    #[test]
    fn a_value_is_written_as_dynamo_writes_it_and_read_back() {
        assert_eq!(Codec::Json.write(&question()).unwrap(), r#"{"mode":"count","n":5}"#);
        assert_eq!(Codec::Msgpack.write(&question()).unwrap(), &b"\x82\xa4mode\xa5count\xa1n\x05"[..]);
        for codec in Codec::ALL {
            assert_eq!(codec.read::<Question>(&codec.write(&question()).unwrap()).unwrap(), question());
            assert_eq!(codec.read::<()>(&codec.write(&()).unwrap()).unwrap(), ());
        }
        // The array form, as Dynamo's readers take it, and a field that is missing because it may be.
        assert_eq!(Codec::Msgpack.read::<Question>(b"\x92\xa5count\x05").unwrap(), question());
        assert_eq!(Codec::Json.read::<Question>(br#"{"mode":"x"}"#).unwrap().n, None);
    }

    #[test]
    fn what_cannot_be_read_says_what_is_wrong_and_where() {
        let said = |codec: Codec, payload: &[u8]| {
            let error = codec.read::<Question>(payload).unwrap_err();
            let text = Chain(&error).to_string();
            let failure = Failure::from(error);
            assert_eq!((failure.class, &*failure.reason), (Class::InvalidRequest, "backend.invalid_argument"));
            assert_eq!(failure.message, text);
            text
        };
        let json = "the payload is not the JSON that is asked for: ";
        let msgpack = "the payload is not the MessagePack that is asked for, at byte ";
        assert_eq!(said(Codec::Json, b""), "the payload is empty");
        assert_eq!(said(Codec::Json, b"{\n  \"n\": 5}"), format!("{json}missing field `mode` at line 2 column 9"));
        assert_eq!(said(Codec::Json, br#"{"mode":"x"} {}"#), format!("{json}trailing characters at line 1 column 14"));
        assert_eq!(said(Codec::Msgpack, b"\x81\xa1n\x05"), format!("{msgpack}4: missing field `mode`"));
        let wrong = said(Codec::Msgpack, b"\x82\xa1n\xa1x\xa4mode\xa1x");
        assert!(wrong.starts_with(&format!("{msgpack}4: ")) || wrong.starts_with(&format!("{msgpack}5: ")), "{wrong}");
        assert!(said(Codec::Msgpack, b"\x81\xa4mode").starts_with(&format!("{msgpack}6: ")));
        assert_eq!(said(Codec::Msgpack, b"\x81\xa4mode\xa1xrest"), "the payload goes on after its value, at byte 8");
        assert!(said(Codec::Msgpack, b"{\"mode\":\"x\"}").starts_with(msgpack), "JSON is no MessagePack");
    }

    #[test]
    fn a_value_that_a_codec_does_not_have_is_the_fault_of_whoever_writes_it() {
        let odd = BTreeMap::from([(vec![1], 2)]);
        let error = Codec::Json.write(&odd).unwrap_err();
        assert_eq!(Chain(&error).to_string(), "the value cannot be written as json: key must be a string");
        assert_eq!(Failure::from(error).class, Class::Internal);
        assert_eq!(Codec::Msgpack.write(&odd).unwrap(), &b"\x81\x91\x01\x02"[..]);
    }
}
