//! The trace of a request as its headers carry it: read by the standard's rules, kept byte for byte, written.

use alloc::boxed::Box;
use alloc::string::ToString;

use crate::wire::dynamo::headers::{OLD_REQUEST_ID, REQUEST_ID, TRACEPARENT, TRACESTATE, X_REQUEST_ID};
use crate::wire::parse::Error;
use crate::wire::trace_context::{TraceParent, TraceState};

/// Bytes of an `x-request-id` that is carried. A longer one is dropped.
pub const MAX_CORRELATION: usize = 1024;

/// What a request carries of its trace, to be passed on.
///
/// The texts are those that came, byte for byte, but for blanks around a `traceparent`. Passing them on as they are is what the
/// standard asks of a system that makes no spans; one that makes some passes [`under`](Self::under) them.
///
/// ```
/// use ringplane_core::wire::TraceContext;
///
/// let headers = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), ("tracestate", "a=1,b=2")];
/// let get = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
/// let context = TraceContext::from_headers(get);
/// assert!(!context.parent().unwrap().is_sampled());
/// assert!(context.headers().eq(headers));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraceContext {
    traceparent: Option<Box<str>>,
    tracestate: Option<Box<str>>,
    x_request_id: Option<Box<str>>,
}

impl TraceContext {
    /// The trace of that parent, without a state.
    pub fn new(parent: TraceParent) -> Self {
        Self { traceparent: Some(parent.to_string().into()), ..Self::default() }
    }

    /// Reads what a request carries, by the W3C's rules. A `traceparent` that [cannot be read](TraceParent::read) is dropped, and
    /// the `tracestate` with it; a `tracestate` that [cannot be read](TraceState::read) is dropped alone, and so is one without
    /// members; an `x-request-id` beyond [`MAX_CORRELATION`] is dropped.
    pub fn read(traceparent: Option<&str>, tracestate: Option<&str>, x_request_id: Option<&str>) -> Self {
        let traceparent = traceparent.map(trimmed).filter(|text| TraceParent::read(text.as_bytes()).is_ok());
        let legal = |text: &&str| TraceState::read(text.as_bytes()).is_ok_and(|state| state.members().next().is_some());
        let tracestate = tracestate.filter(|_| traceparent.is_some()).filter(legal);
        let x_request_id = x_request_id.filter(|text| !text.is_empty() && text.len() <= MAX_CORRELATION);
        let [traceparent, tracestate, x_request_id] =
            [traceparent, tracestate, x_request_id].map(|text| text.map(Box::from));
        Self { traceparent, tracestate, x_request_id }
    }

    /// Reads it from headers, of which `get` finds one by its name in lower case. Several fields `tracestate` are one, joined by
    /// commas; several fields `traceparent` are none.
    pub fn from_headers<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Self {
        Self::read(get(TRACEPARENT), get(TRACESTATE), get(X_REQUEST_ID))
    }

    /// With that state beside the parent.
    ///
    /// # Errors
    /// As [`TraceState::read`]. One without a parent is kept and not sent.
    pub fn with_state(mut self, tracestate: &str) -> Result<Self, Error> {
        TraceState::read(tracestate.as_bytes())?;
        self.tracestate = Some(tracestate.into());
        Ok(self)
    }

    /// With that correlation id of a client, any text.
    #[must_use]
    pub fn with_x_request_id(mut self, id: &str) -> Self {
        self.x_request_id = Some(id.into());
        self
    }

    /// The context below a span: it is the parent now. The state stays unless the span is of another trace; the correlation id
    /// stays.
    #[must_use]
    pub fn under(mut self, span: TraceParent) -> Self {
        if self.parent().is_none_or(|parent| parent.trace_id() != span.trace_id()) {
            self.tracestate = None;
        }
        self.traceparent = Some(span.to_string().into());
        self
    }

    /// The parent; `None` if there is no trace.
    pub fn parent(&self) -> Option<TraceParent> {
        self.traceparent.as_deref().and_then(|text| TraceParent::read(text.as_bytes()).ok())
    }

    /// The parent's text.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// The vendors' state, as it came.
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref().filter(|_| self.traceparent.is_some())
    }

    /// The correlation id that a client has sent.
    pub fn x_request_id(&self) -> Option<&str> {
        self.x_request_id.as_deref()
    }

    /// Whether there is nothing to pass on.
    pub const fn is_empty(&self) -> bool {
        self.traceparent.is_none() && self.x_request_id.is_none()
    }

    /// The headers that carry it, by their names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all =
            [(TRACEPARENT, self.traceparent()), (TRACESTATE, self.tracestate()), (X_REQUEST_ID, self.x_request_id())];
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// The request's own id among its headers: `request-id`, or `x-dynamo-request-id` where there is none, if it is a UUID. As Dynamo
/// 1.6.1 reads it: the second does not help where the first is no UUID.
pub fn request_id<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    get(REQUEST_ID).or_else(|| get(OLD_REQUEST_ID)).filter(|text| is_uuid(text))
}

/// Without the blanks around it.
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Whether it is a UUID in one of the forms that are in use: with hyphens or without, in braces, as a URN.
fn is_uuid(text: &str) -> bool {
    let braced = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let bare = braced.or_else(|| text.strip_prefix("urn:uuid:")).unwrap_or(text);
    let is_hyphen = |place| matches!(place, 8 | 13 | 18 | 23);
    let simple = bare.len() == 32 && core::ptr::eq(bare, text);
    let hyphened = bare.len() == 36;
    let legal = |(place, byte): (usize, u8)| {
        if hyphened && is_hyphen(place) { byte == b'-' } else { byte.is_ascii_hexdigit() }
    };
    (simple || hyphened) && bare.bytes().enumerate().all(legal)
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec::Vec;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn states(tracestate: &str) -> Option<Box<str>> {
        TraceContext::read(Some(PARENT), Some(tracestate), None).tracestate().map(Box::from)
    }

    #[test]
    fn what_is_read_is_passed_on_byte_for_byte() {
        let state = "rojo=00f067aa0ba902b7,, congo=t61 rcWkgMzE\t";
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more-of-it";
        for parent in [PARENT, later] {
            let context = TraceContext::read(Some(&format!(" {parent}\t")), Some(state), Some("ab c"));
            let expected = [("traceparent", parent), ("tracestate", state), ("x-request-id", "ab c")];
            assert_eq!(context.headers().collect::<Vec<_>>(), expected);
            assert!(!context.is_empty());
        }
    }

    #[test]
    fn a_bad_parent_takes_the_state_with_it_and_a_bad_state_only_itself() {
        let none = TraceContext::read(Some("00-0-0-0"), Some("a=1"), None);
        assert!(none.is_empty() && none.headers().next().is_none() && none.parent().is_none());
        assert_eq!(
            TraceContext::read(None, Some("a=1"), Some("x")).headers().collect::<Vec<_>>(),
            [("x-request-id", "x")]
        );
        for bad in ["BAD KEY=1", "a=1,a=2", "", " , "] {
            assert_eq!(states(bad), None, "{bad:?}");
        }
        assert_eq!(states("a=1").as_deref(), Some("a=1"));
        let long = "x".repeat(MAX_CORRELATION);
        assert_eq!(TraceContext::read(None, None, Some(&long)).x_request_id(), Some(&*long));
        assert!(TraceContext::read(None, None, Some(&format!("{long}x"))).is_empty());
    }

    #[test]
    fn a_span_of_the_trace_keeps_the_state_and_one_of_another_does_not() {
        let context = TraceContext::read(Some(PARENT), Some("a=1"), Some("x"));
        let parent = context.parent().unwrap();
        let below = context.clone().under(parent.child([9; 8]).unwrap());
        assert_eq!((below.tracestate(), below.x_request_id()), (Some("a=1"), Some("x")));
        assert_eq!(below.traceparent(), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0909090909090909-01"));
        let other = context.under(TraceParent::new([1; 16], [2; 8], 0).unwrap());
        assert_eq!((other.tracestate(), other.x_request_id()), (None, Some("x")));
        assert_eq!(TraceContext::new(parent).with_state("b=2").unwrap().tracestate(), Some("b=2"));
        assert!(TraceContext::default().with_state("b").is_err());
        assert_eq!(TraceContext::default().with_state("b=2").unwrap().with_x_request_id("y").headers().count(), 1);
    }

    #[test]
    fn a_requests_id_is_a_uuid_under_the_first_name_that_there_is() {
        let id = "0af76519-16cd-43dd-8448-eb211c80319c";
        let read = |new: Option<&'static str>, old: Option<&'static str>| {
            request_id(
                move |name| if name == "request-id" { new } else { old.filter(|_| name == "x-dynamo-request-id") },
            )
        };
        assert_eq!((read(Some(id), None), read(None, Some(id)), read(None, None)), (Some(id), Some(id), None));
        assert_eq!(read(Some("call-1"), Some(id)), None);
        for good in [
            "0AF7651916CD43DD8448EB211C80319C",
            "{0af76519-16cd-43dd-8448-eb211c80319c}",
            "urn:uuid:0af76519-16cd-43dd-8448-eb211c80319c",
        ] {
            assert_eq!(read(Some(good), None), Some(good));
        }
        for bad in [
            "",
            "{0af7651916cd43dd8448eb211c80319c}",
            "0af76519-16cd-43dd-8448-eb211c80319",
            "0af76519x16cd-43dd-8448-eb211c80319c",
            "{0af76519-16cd-43dd-8448-eb211c80319c",
        ] {
            assert_eq!(read(Some(bad), None), None, "{bad}");
        }
    }
}
