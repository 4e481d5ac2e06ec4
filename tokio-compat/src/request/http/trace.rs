//! Traces in the headers of HTTP.

use std::borrow::Cow;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ringplane_core::wire::context::{self, TraceContext};
use ringplane_core::wire::dynamo::headers::TRACESTATE;

/// The trace that the headers of a request carry, by the W3C's rules and those of [`TraceContext::read`]. Several fields
/// `tracestate` are one; of any other name, several are none.
pub fn trace_of(headers: &HeaderMap) -> TraceContext {
    let states = field(headers, TRACESTATE);
    TraceContext::from_headers(|name| if name == TRACESTATE { states.as_deref() } else { one(headers, name) })
}

/// The id that the headers of a request give it, as [`request_id`](context::request_id) reads it.
pub fn request_id_of(headers: &HeaderMap) -> Option<&str> {
    context::request_id(|name| one(headers, name))
}

/// Puts a trace into the headers of a request, in place of what they say of one. What HTTP cannot carry, as an `x-request-id` with
/// line breaks, is left out.
pub fn put_trace(context: &TraceContext, headers: &mut HeaderMap) {
    for (name, value) in context.headers() {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// What the fields of a name that belongs to a trace say together.
pub(super) fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    if name != TRACESTATE {
        return one(headers, name).map(Cow::Borrowed);
    }
    let mut states = headers.get_all(TRACESTATE).iter().filter_map(text);
    let first = states.next()?;
    Some(states.fold(first.into(), |all, state| format!("{all},{state}").into()))
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none()).and_then(text)
}

pub(super) fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    #[test]
    fn a_trace_goes_through_headers_byte_for_byte() {
        let fields = [("traceparent", PARENT), ("tracestate", "a=1 , b=2"), ("x-request-id", "7ü")];
        let context = trace_of(&map(&fields));
        assert!(context.headers().eq(fields));
        let mut out = map(&[("traceparent", "stale"), ("traceparent", "staler"), ("host", "x")]);
        put_trace(&context, &mut out);
        assert_eq!((trace_of(&out), out.len()), (context, 4));
        put_trace(&TraceContext::default().with_x_request_id("a\r\nb: c"), &mut out);
        assert_eq!(out.get("x-request-id").unwrap().as_bytes(), "7ü".as_bytes());
    }

    #[test]
    fn fields_that_come_twice_are_joined_or_are_none() {
        let context = trace_of(&map(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]));
        assert_eq!(context.tracestate(), Some("a=1,b=2"));
        assert!(trace_of(&map(&[("traceparent", PARENT), ("traceparent", PARENT)])).is_empty());
        let id = "0af76519-16cd-43dd-8448-eb211c80319c";
        assert_eq!(request_id_of(&map(&[("x-dynamo-request-id", id)])), Some(id));
        assert_eq!(request_id_of(&map(&[("request-id", "x"), ("x-dynamo-request-id", id)])), None);
    }
}
