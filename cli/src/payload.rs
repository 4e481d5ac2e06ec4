//! Payloads between people, who write JSON, and endpoints, whose records name a codec.

use std::fmt;
use std::fmt::Write as _;

use ringplane::Failure;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::dynamo::annotated::Annotated;
use ringplane_core::wire::msgpack::{self, Sink, Token};
use ringplane_core::wire::parse::{Error, narrow};
use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};

use crate::environment;
use crate::exit::{Exit, Failed};

/// The variable that names the codec of a worker's records, as for Dynamo.
const VARIABLE: &str = "DYN_REQUEST_PLANE_CODEC";

/// Reads the name of a codec.
pub(crate) fn codec(text: &str) -> Result<Codec, String> {
    Codec::from_name(text).ok_or_else(|| "there are msgpack and json".to_owned())
}

/// The codec that a worker's records name: the one given, else what the environment says, else msgpack. Dynamo passes over
/// an unknown name in the environment.
pub(crate) fn advertised(given: Option<Codec>) -> Result<Codec, Failed> {
    if let Some(given) = given {
        return Ok(given);
    }
    environment::variable(VARIABLE)?.map_or(Ok(Codec::Msgpack), |name| {
        let unknown = || Failed::new(Exit::Usage, format_args!("{VARIABLE} is `{name}`; there are msgpack and json"));
        Codec::from_name(&name).ok_or_else(unknown)
    })
}

/// JSON text in `codec`; `None` if it is no JSON.
pub(crate) fn from_json(codec: Codec, text: &[u8]) -> Option<Vec<u8>> {
    let tree: Tree = serde_json::from_slice(text).ok()?;
    match codec {
        Codec::Json => Some(text.to_owned()),
        Codec::Msgpack => {
            let mut out = Vec::with_capacity(text.len());
            tree.put(&mut out).ok()?;
            Some(out)
        }
    }
}

/// What is wrong with a text that looks like JSON and is none, and where; `None` for JSON, and for what does not look like it.
pub(crate) fn broken_json(text: &[u8]) -> Option<String> {
    let bare = text.strip_prefix("\u{FEFF}".as_bytes());
    let looks = |text: &[u8]| {
        let text = text.trim_ascii();
        let is_number = || str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok());
        matches!(text.first(), Some(b'{' | b'[' | b'"')) || is_number()
    };
    if bare.is_some_and(|text| looks(text) || from_json(Codec::Json, text).is_some()) {
        return Some("it begins with a byte order mark".to_owned());
    }
    let error = serde_json::from_slice::<Tree>(text).err()?;
    looks(text).then(|| error.to_string())
}

/// Refuses what looks like JSON and is none: whoever writes that means JSON.
pub(crate) fn whole_json(text: &[u8]) -> Result<(), Failed> {
    broken_json(text).map_or(Ok(()), |why| {
        let why = format_args!("the request looks like JSON and is none: {why}; --raw sends it as it is");
        Err(Failed::new(Exit::Usage, why))
    })
}

/// As [`from_json`]; other text becomes a string, other bytes a string with their digits in hex.
pub(crate) fn from_line(codec: Codec, line: &[u8]) -> Vec<u8> {
    from_json(codec, line).unwrap_or_else(|| {
        let text = std::str::from_utf8(line).map_or_else(|_| hex(line), str::to_owned);
        let text = serde_json::Value::from(text).to_string();
        from_json(codec, text.as_bytes()).unwrap_or_default()
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A payload in `codec` as JSON text.
///
/// # Errors
/// If it is not in that codec.
pub(crate) fn to_json(codec: Codec, payload: &[u8]) -> Result<Vec<u8>, String> {
    if codec == Codec::Json {
        return Ok(payload.to_owned());
    }
    let mut text = String::new();
    match msgpack::write_json(payload, &mut text) {
        Ok(Ok(len)) if len == payload.len() => Ok(text.into_bytes()),
        Ok(Ok(len)) => Err(format!("the payload goes on after its value, at {len}")),
        Ok(Err(error)) => Err(format!("the payload is no MessagePack: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// How the answers of a call look: what the caller named, and what the server was told to wrap.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Form {
    /// The codec that the request names; payloads of a request that names none stay as they are.
    pub(crate) codec: Option<Codec>,
    /// Whether items are Annotated.
    pub(crate) annotated: bool,
}

impl Form {
    /// The form of a request whose opening names this codec.
    pub(crate) fn of(named: Option<&str>, annotated: bool) -> Self {
        Self { codec: named.and_then(Codec::from_name), annotated }
    }

    /// The data of an item of the answer; none of an Annotated one without any. One that is an error is the bad end of the call.
    pub(crate) fn data(self, item: &[u8]) -> Result<Option<&[u8]>, Failed> {
        if !self.annotated {
            return Ok(Some(item));
        }
        let unreadable = |error| Failed::new(Exit::Handler, format_args!("an item cannot be read: {error}"));
        let annotated = Annotated::read(self.codec.unwrap_or_default(), item).map_err(unreadable)?;
        match annotated.failure() {
            Some(failure) => Err(Failed::new(Exit::Handler, failure)),
            None => Ok(annotated.data),
        }
    }

    /// A payload of the request as JSON, or as it is.
    pub(crate) fn read(self, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        self.codec.map_or_else(|| Ok(payload.to_owned()), |codec| to_json(codec, payload)).map_err(Failure::invalid)
    }

    /// A line as an item of the answer.
    pub(crate) fn item(self, line: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self.codec {
            None if !self.annotated => Ok(line),
            codec => self.wrap(&from_line(codec.unwrap_or_default(), &line)),
        }
    }

    /// A payload in the request's codec as an item of the answer.
    pub(crate) fn wrap(self, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        if !self.annotated {
            return Ok(payload.to_owned());
        }
        Annotated::of(payload).write(self.codec.unwrap_or_default()).map_err(Failure::invalid)
    }
}

/// A JSON value whose maps keep their order.
#[derive(Debug)]
enum Tree {
    Leaf(Token<'static>),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Tree {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Leaf(token) => out.token(*token),
            Self::Text(text) => out.token(Token::Str(text.as_bytes())),
            Self::List(items) => {
                out.token(Token::Array(narrow(items.len(), u32::MAX.into(), out.len())?))?;
                items.iter().try_for_each(|item| item.put(out))
            }
            Self::Map(pairs) => {
                out.token(Token::Map(narrow(pairs.len(), u32::MAX.into(), out.len())?))?;
                pairs.iter().try_for_each(|(key, value)| {
                    out.token(Token::Str(key.as_bytes()))?;
                    value.put(out)
                })
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: de::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Token::Nil))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Token::Bool(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Token::Uint(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Token::Int(value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Token::Float(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = access.next_entry()? {
            pairs.push(pair);
        }
        Ok(Tree::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::wire::class::Class;

    use super::*;

    #[test]
    fn json_survives_the_way_through_msgpack_with_its_order() {
        for text in [
            "null",
            "[true,false,0,-1,18446744073709551615,-9223372036854775808,1.5,\"a\\nü\"]",
            "{\"z\":1,\"a\":{\"y\":[],\"b\":{}},\"\":null}",
        ] {
            let bytes = from_json(Codec::Msgpack, text.as_bytes()).unwrap();
            assert_eq!(to_json(Codec::Msgpack, &bytes), Ok(text.as_bytes().to_owned()));
            assert_eq!(from_json(Codec::Json, text.as_bytes()).as_deref(), Some(text.as_bytes()));
        }
        let example = from_json(Codec::Msgpack, br#"{"mode":"count","n":5}"#).unwrap();
        assert_eq!(example, b"\x82\xa4mode\xa5count\xa1n\x05");
    }

    #[test]
    fn what_is_no_json_is_told_apart() {
        for text in [&b""[..], b"two words", b"{", b"\xFF"] {
            assert_eq!(from_json(Codec::Msgpack, text), None);
        }
        assert_eq!(from_line(Codec::Json, b"two words"), b"\"two words\"");
        assert_eq!(from_line(Codec::Msgpack, b"\xFF\x01"), b"\xA4ff01");
        assert!(to_json(Codec::Msgpack, b"hello").is_err(), "a text is no number with something behind");
        assert!(to_json(Codec::Msgpack, b"\xC1").unwrap_err().contains("MessagePack"));
    }

    #[test]
    fn a_text_that_looks_like_json_and_is_none_is_told_with_its_place() {
        for (text, why) in [
            ("{\"x\":", "EOF while parsing a value at line 1 column 5"),
            ("{\"x\":1}\n]", "trailing characters at line 2 column 1"),
            ("[1,]", "trailing comma at line 1 column 4"),
            ("NaN", "expected value at line 1 column 1"),
            ("[NaN]", "expected value at line 1 column 2"),
            ("1e400", "number out of range at line 1 column 5"),
            ("\"\\ud800\"", "at line 1 column"),
            ("\u{FEFF}{\"x\":1}", "it begins with a byte order mark"),
            ("\u{FEFF}true", "it begins with a byte order mark"),
            ("\"a", "EOF while parsing a string at line 1 column 2"),
        ] {
            let told = broken_json(text.as_bytes());
            assert!(told.as_ref().is_some_and(|told| told.contains(why)), "{text}: {told:?}");
        }
        for text in ["", "two words", "2024-01-01", "true", "{\"x\":1}", "hello {", "\u{FEFF}two words", "-"] {
            assert_eq!(broken_json(text.as_bytes()), None, "{text}");
        }
        assert_eq!(broken_json(b"\xFF{"), None);
    }

    #[test]
    fn a_form_wraps_and_converts_what_the_caller_named() {
        let plain = Form::of(None, false);
        assert_eq!(plain.item(b"a b".to_vec()).unwrap(), b"a b");
        let wrapped = Form::of(None, true);
        assert_eq!(wrapped.item(b"5".to_vec()).unwrap(), br#"{"data":5}"#);
        let msgpack = Form::of(Some("msgpack"), true);
        assert_eq!(msgpack.item(b"5".to_vec()).unwrap(), b"\x81\xA4data\x05");
        assert_eq!(msgpack.read(b"\x05").unwrap(), b"5");
        assert!(msgpack.read(b"").is_err(), "nothing is no value");
    }

    #[test]
    fn an_annotated_answer_wraps_exactly_one_value_or_the_request_is_to_blame() {
        for (codec, payload) in [
            ("msgpack", &b"\xC1"[..]),
            ("msgpack", b"\x01\x02"),
            ("msgpack", b"\x01\xA5event\xA5error"),
            ("msgpack", b""),
            ("json", b"1 2"),
            ("json", b"{"),
            ("json", b""),
        ] {
            let failure = Form::of(Some(codec), true).wrap(payload).unwrap_err();
            assert_eq!(
                (failure.class, &*failure.reason),
                (Class::InvalidRequest, "backend.invalid_argument"),
                "{codec}"
            );
        }
        assert_eq!(Form::of(Some("msgpack"), true).wrap(b"\x91\x01").unwrap(), b"\x81\xA4data\x91\x01");
    }

    #[test]
    fn a_codec_is_known_by_its_name() {
        assert_eq!(codec("json"), Ok(Codec::Json));
        assert!(codec("cbor").is_err());
        assert_eq!(advertised(Some(Codec::Json)), Ok(Codec::Json));
    }
}
