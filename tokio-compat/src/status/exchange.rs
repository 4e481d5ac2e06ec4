//! A request as the status server hands it on, and what is answered.

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// A request without its body, which nobody needs.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `GET`, `HEAD`, `POST`, or whatever else came.
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    headers: HeaderMap,
}

impl Ask {
    pub(super) fn of(head: hyper::http::request::Parts) -> Self {
        Self { method: head.method.as_str().to_owned(), path: head.uri.path().to_owned(), headers: head.headers }
    }

    /// A header, by its name in small letters; nothing if it came twice, or is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.get_all(name).iter();
        let first = all.next().filter(|_| all.next().is_none())?;
        first.to_str().ok()
    }

    /// Whether the header came, be it text or not.
    pub fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status: 200, 503 and the like.
    pub status: u16,
    /// What the body is: a `content-type`.
    pub kind: &'static str,
    /// The body.
    pub body: Bytes,
    /// Further headers: names in small letters, and values that are visible ASCII. Others are left out.
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// An answer without further headers.
    pub fn new(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, kind, body: body.into(), headers: Vec::new() }
    }

    /// A line of text.
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// JSON.
    pub fn json(status: u16, body: String) -> Self {
        Self::new(status, "application/json", body)
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Writes its headers into those of a response.
    pub(super) fn fill(&self, headers: &mut HeaderMap) {
        let fixed = [
            ("content-type", self.kind),
            // What is told is of this moment, is what it says it is, and is nobody else's to show.
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
        ];
        let further = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in fixed.into_iter().chain(further) {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
    }
}
