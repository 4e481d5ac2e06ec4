//! Names on the server, and the description that an object has there (NATS ADR-20).

use std::time::SystemTime;

use async_nats::jetstream::object_store::ObjectInfo;
use serde::Deserialize;

use crate::store::error::Error;

/// The longest name of an object, in bytes: its subject must fit into a line of the protocol.
const MOST: usize = 1024;

/// One object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: usize,
    /// Its pieces.
    pub pieces: usize,
    /// When it was put, by the clock of the one that put it.
    pub modified: Option<SystemTime>,
    /// The SHA-256 of its bytes: `SHA-256=` and base64.
    pub digest: Option<String>,
}

impl From<ObjectInfo> for Info {
    fn from(meta: ObjectInfo) -> Self {
        Self {
            name: meta.name,
            size: meta.size,
            pieces: meta.chunks,
            modified: meta.modified.map(SystemTime::from),
            digest: meta.digest,
        }
    }
}

/// The stream of a bucket.
pub(crate) fn stream(bucket: &str) -> Result<String, Error> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(letter) {
        return Err(Error::BucketName(bucket.to_owned()));
    }
    Ok(format!("OBJ_{bucket}"))
}

/// The subject of pieces: of all, or of those of one object.
pub(crate) fn pieces(bucket: &str, id: &str) -> String {
    format!("$O.{bucket}.C.{id}")
}

/// The subject of all descriptions.
pub(crate) fn descriptions(bucket: &str) -> String {
    format!("$O.{bucket}.M.>")
}

/// The subject of an object's description.
pub(crate) fn description(bucket: &str, name: &str) -> Result<String, Error> {
    if name.is_empty() || name.len() > MOST {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(format!("$O.{bucket}.M.{}", base64(name.as_bytes())))
}

/// The name of the object that a description's subject stands for; what is no name is shown as it is.
pub(crate) fn named(subject: &str) -> String {
    let word = subject.rsplit('.').next().unwrap_or(subject);
    unbase64(word).and_then(|name| String::from_utf8(name).ok()).unwrap_or_else(|| word.to_owned())
}

/// Whether this is the id of an upload: one word of a subject, which stands for no other.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty() && !id.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'))
}

/// Reads a description.
pub(crate) fn read(name: &str, text: &[u8]) -> Result<ObjectInfo, Error> {
    let malformed = |why: String| Error::Malformed { name: name.to_owned(), why };
    let found: ObjectInfo = serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
    if found.deleted || is_id(&found.nuid) {
        Ok(found)
    } else {
        Err(malformed(format!("`{}` is no id of pieces", found.nuid)))
    }
}

/// The id of an object's pieces, as far as its description tells one.
pub(crate) fn id(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        nuid: String,
    }
    serde_json::from_slice::<Id>(text).ok().map(|Id { nuid }| nuid).filter(|id| is_id(id))
}

/// A digest as descriptions have it.
pub(crate) fn digest(sha256: &[u8]) -> String {
    format!("SHA-256={}", base64(sha256))
}

/// Whether a description's digest is this one. Some clients leave out the padding.
pub(crate) fn is_digest(said: &str, digest: &str) -> bool {
    said.trim_end_matches('=') == digest.trim_end_matches('=')
}

/// Base64 for URLs, with padding (RFC 4648, 5).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for letter in 0..4 {
            let index = (bits >> (18 - 6 * letter)) & 63;
            text.push(if letter > three.len() { '=' } else { char::from(LETTERS[index as usize]) });
        }
    }
    text
}

/// Bytes of base64, for URLs or not, with padding or without; `None` if it is none.
pub(crate) fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0;
        for letter in four {
            let six = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        let whole = match four.len() {
            1 => return None,
            length => length - 1,
        };
        bits <<= 6 * (4 - four.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_server_are_those_of_the_capture() {
        assert_eq!(stream("test-bucket").unwrap(), "OBJ_test-bucket");
        assert_eq!(pieces("test-bucket", ">"), "$O.test-bucket.C.>");
        let subject = description("test-bucket", "test-data.bin").unwrap();
        assert_eq!(subject, "$O.test-bucket.M.dGVzdC1kYXRhLmJpbg==");
        for name in ["", "a.b", "a b", "ä"] {
            assert!(matches!(stream(name), Err(Error::BucketName(_))), "{name}");
        }
        assert!(matches!(description("b", ""), Err(Error::Name(_))));
        assert!(description("b", &"a".repeat(MOST + 1)).is_err() && description("b", "a b/c.*>").is_ok());
    }

    #[test]
    fn base64_is_that_of_rfc_4648_for_urls() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(unbase64(text).unwrap(), bytes.as_bytes());
            assert_eq!(unbase64(text.trim_end_matches('=')).unwrap(), bytes.as_bytes());
        }
        assert_eq!(base64(&[0xFB, 0xFF, 0xFE]), "-__-");
        assert_eq!(unbase64("+//+").unwrap(), [0xFB, 0xFF, 0xFE]);
        for text in ["A", "AAAAA", "A*==", "Zg==Zg=="] {
            assert_eq!(unbase64(text), None, "{text}");
        }
        assert!(is_digest("SHA-256=Zg", &digest(b"f")) && !is_digest("SHA-256=Zh", &digest(b"f")));
    }

    #[test]
    fn an_id_that_stands_for_more_than_one_object_is_none() {
        assert_eq!(id(br#"{"nuid":"5RZuhipJ","size":"many"}"#).as_deref(), Some("5RZuhipJ"));
        for text in [r#"{"nuid":">"}"#, r#"{"nuid":"*"}"#, r#"{"nuid":"a.b"}"#, r#"{"nuid":""}"#, "{", ""] {
            assert_eq!(id(text.as_bytes()), None, "{text}");
        }
        assert_eq!(named("$O.test-bucket.M.dGVzdC1kYXRhLmJpbg=="), "test-data.bin");
        assert_eq!(named("$O.test-bucket.M.*"), "*");
    }

    #[test]
    fn a_captured_description_is_read_and_written_byte_for_byte() {
        let captured = r#"{"name":"test-data.bin","description":null,"metadata":{},"headers":null,"options":{"link":null,"max_chunk_size":131072},"bucket":"test-bucket","nuid":"5RZuhipJcwSFcJfimT7biL","size":45,"chunks":1,"mtime":"2026-11-23T15:56:14.48266599Z","digest":"SHA-256=8BSfHMqbQWJfyL7nJnAO56aooKrjs97DeR7sW00AkjM="}"#;
        let read: ObjectInfo = serde_json::from_str(captured).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), captured);
        let info = Info::from(read);
        assert_eq!((info.name.as_str(), info.size, info.pieces), ("test-data.bin", 45, 1));
        let seconds = info.modified.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds, 1_795_449_374);
    }
}
