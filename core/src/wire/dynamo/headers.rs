//! The headers of a request frame: a JSON object of strings that may be missing or broken without harm.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::wire::json;
use crate::wire::parse::Error;

/// The id of the call, equal to `id` in the control message. Always sent.
pub const REQUEST_ID: &str = "request-id";
/// The id of the call as older peers name it.
pub const OLD_REQUEST_ID: &str = "x-dynamo-request-id";
/// Decimal nanoseconds since the UNIX epoch, taken just before the write. Always sent.
pub const SEND_TIME: &str = "x-frontend-send-ts-ns";
/// The path of the frame once more. Always sent over TCP.
pub const ENDPOINT_PATH: &str = "x-endpoint-path";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace context of vendors.
pub const TRACESTATE: &str = "tracestate";
/// Decimal microseconds until the caller gives up, at the moment of writing. Sent by ringplane callers only.
pub const REMAINING: &str = "x-ringplane-remaining-us";
/// Decimal priority from -128 to 127, of which the higher goes first. Sent by ringplane callers only, if it is not 0.
pub const PRIORITY: &str = "x-ringplane-priority";
/// Whose call it is: tenants that wait are served in turn. Sent by ringplane callers only, if it was given.
pub const TENANT: &str = "x-ringplane-tenant";
/// Decimal number of the tries of the same request before this one. Sent by ringplane callers only, and only if there were any.
pub const ATTEMPTS: &str = "x-ringplane-attempts";
/// The correlation id that the frontend's own client sent.
pub const X_REQUEST_ID: &str = "x-request-id";

/// Bytes of headers a request frame can carry.
pub const MAX_HEADERS: usize = 65_535;

/// Headers in the order they stand.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers<'a> {
    entries: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Reads headers. Nothing, no JSON, no object, or a value that is no string: all count as no headers.
    pub fn read(bytes: &'a [u8]) -> Self {
        Self::try_read(bytes).unwrap_or_default()
    }

    /// Reads headers, saying what is wrong with them.
    ///
    /// # Errors
    /// [`ErrorKind::BadJson`](crate::wire::parse::ErrorKind::BadJson) if the bytes are not a JSON object of strings.
    pub fn try_read(bytes: &'a [u8]) -> Result<Self, Error> {
        json::read(bytes)
    }

    /// Adds a header after the others.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.entries.push((name.into(), value.into()));
    }

    /// Writes the headers in their order.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`](crate::wire::parse::ErrorKind::TooLarge) beyond [`MAX_HEADERS`].
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        json::write(self, MAX_HEADERS)
    }

    /// The value of `name`, exact in case; of several, the last.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    /// All headers as they stand.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// The call's id, from the present name or the older one.
    pub fn request_id(&self) -> Option<&str> {
        self.get(REQUEST_ID).or_else(|| self.get(OLD_REQUEST_ID))
    }

    /// When the frontend wrote the request, in nanoseconds since the UNIX epoch, if it says so in decimal.
    pub fn send_time_ns(&self) -> Option<u64> {
        self.get(SEND_TIME)?.parse().ok()
    }

    /// Microseconds until the caller gives up, if it says so in decimal.
    pub fn remaining_us(&self) -> Option<u64> {
        self.get(REMAINING)?.parse().ok()
    }

    /// The call's priority; 0 where nothing is said, or nothing that is one.
    pub fn priority(&self) -> i8 {
        self.get(PRIORITY).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Whose call it is, if it says so.
    pub fn tenant(&self) -> Option<&str> {
        self.get(TENANT)
    }

    /// The tries before this one, if it says so in decimal; else none.
    pub fn attempts(&self) -> u32 {
        self.get(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The redundant copy of the path.
    pub fn endpoint_path(&self) -> Option<&str> {
        self.get(ENDPOINT_PATH)
    }

    /// The unparsed `traceparent`; read it with `wire::trace_context`.
    pub fn traceparent(&self) -> Option<&str> {
        self.get(TRACEPARENT)
    }

    /// The unparsed `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.get(TRACESTATE)
    }

    /// The correlation id that the frontend's own client sent.
    pub fn x_request_id(&self) -> Option<&str> {
        self.get(X_REQUEST_ID)
    }
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (name, value) in &self.entries {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Headers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut headers = Headers::new();
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            headers.entries.push((name, value));
        }
        Ok(headers)
    }
}

/// A text that borrows unless it has escapes, also as the key of a map.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] =
        br#"{"request-id":"r-1","x-frontend-send-ts-ns":"1795448663032032686","x-endpoint-path":"a/b"}"#;

    #[test]
    fn headers_come_apart_into_their_entries() {
        let headers = Headers::read(BYTES);
        assert_eq!(headers.request_id(), Some("r-1"));
        assert_eq!(headers.send_time_ns(), Some(1_795_448_663_032_032_686));
        assert_eq!(headers.endpoint_path(), Some("a/b"));
        assert_eq!((headers.traceparent(), headers.tracestate(), headers.x_request_id()), (None, None, None));
        assert_eq!(headers.iter().count(), 3);
    }

    #[test]
    fn headers_are_written_in_the_order_given() {
        let mut headers = Headers::new();
        assert_eq!(headers.write(), Ok(b"{}".to_vec()));
        headers.push(REQUEST_ID, "r-1");
        headers.push(SEND_TIME, "1795448663032032686");
        headers.push(ENDPOINT_PATH, "a/b");
        assert_eq!(headers.write(), Ok(BYTES.to_vec()));
    }

    #[test]
    fn headers_too_long_for_their_field_are_not_written() {
        let mut headers = Headers::new();
        headers.push("k", "v".repeat(MAX_HEADERS));
        assert!(headers.write().is_err());
    }

    #[test]
    fn broken_headers_count_as_none() {
        for broken in ["", "{", "[]", "null", r#"{"a":1}"#, r#"{"request-id":"r","b":null}"#, "{}x", "\u{feff}{}"] {
            assert_eq!(Headers::read(broken.as_bytes()), Headers::new(), "{broken}");
            assert!(Headers::try_read(broken.as_bytes()).is_err(), "{broken}");
        }
        assert_eq!(Headers::read(b"{\"a\":\"\xFF\"}"), Headers::new());
    }

    #[test]
    fn the_last_of_equal_names_counts_and_the_older_request_id_is_a_fallback() {
        assert_eq!(Headers::read(br#"{ "a" : "1" , "a" : "\u0032" }"#).get("a"), Some("2"));
        assert_eq!(Headers::read(br#"{"x-dynamo-request-id":"old"}"#).request_id(), Some("old"));
        assert_eq!(Headers::read(br#"{"x-frontend-send-ts-ns":"soon"}"#).send_time_ns(), None);
    }

    #[test]
    fn texts_without_escapes_are_borrowed() {
        let headers = Headers::read(br#"{"a":"b","c\n":"d"}"#);
        assert!(matches!(headers.entries.as_slice(), [(Cow::Borrowed("a"), Cow::Borrowed("b")), (Cow::Owned(_), _)]));
    }
}
