//! What a request in Dynamo's protocol says before its body, in a frame and in a message of a carrier.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::caller::dynamo::carrier::Fields;
use crate::caller::dynamo::sent::Home;
use crate::caller::error::CallError;
use crate::dynamo::subjects::Subject;
use crate::mux::event::Opening;
use crate::time::Instant;
use crate::wire::codec::Codec;
use crate::wire::dynamo::control::{CallHome, ConnectionInfo, Control, RequestType, ResponseType, StreamType};
use crate::wire::dynamo::headers::{self, Headers};
use crate::wire::dynamo::{request, two_part};
use crate::wire::trace_context::TraceParent;

/// A request frame up to its body.
pub(in crate::caller) fn frame_head(
    opening: &Opening,
    path: &str,
    codec: Codec,
    home: &Home,
    body: &Bytes,
    limit: usize,
    now: Instant,
) -> Result<Vec<u8>, CallError> {
    let id = call_id(opening, home);
    let control = control(opening, &id, codec, home, now)?;
    let mut headers = Headers::new();
    headers.push(headers::ENDPOINT_PATH, path);
    for (name, value) in fields(opening, id, now) {
        headers.push(name, value);
    }
    let headers = headers.write().map_err(|_| CallError::HeaderTooLarge)?;
    let parts = two_part::Head::new(control.len(), body.len());
    let head = request::Head { path: path.as_bytes(), headers: &headers, payload_len: parts.frame_len() };
    let mut out = vec![0; head.emitted_len()];
    within(out.len(), &control, body, limit)?;
    head.emit(&mut out).map_err(|_| CallError::HeaderTooLarge)?;
    out.extend_from_slice(&parts.to_bytes());
    out.extend_from_slice(&control);
    Ok(out)
}

/// The headers of a message, and its two-part frame up to the body.
pub(in crate::caller) fn message_head(
    opening: &Opening,
    codec: Codec,
    home: &Home,
    body: &Bytes,
    limit: usize,
    now: Instant,
) -> Result<(Fields, Vec<u8>), CallError> {
    let id = call_id(opening, home);
    let control = control(opening, &id, codec, home, now)?;
    within(0, &control, body, limit)?;
    let parts = two_part::Head::new(control.len(), body.len());
    // Dynamo 1.0, the only one that takes requests by HTTP, knows the id by its older name.
    let mut fields = fields(opening, id.clone(), now);
    fields.push((headers::OLD_REQUEST_ID, id));
    Ok((fields, [&parts.to_bytes()[..], &control].concat()))
}

/// Whether all of it has at most `limit` bytes.
fn within(before: usize, control: &[u8], body: &Bytes, limit: usize) -> Result<(), CallError> {
    let room = limit.saturating_sub(before + two_part::HEAD + control.len());
    if body.len() > room { Err(CallError::TooLarge { limit: room as u64 }) } else { Ok(()) }
}

fn call_id(opening: &Opening, home: &Home) -> String {
    if opening.request_id.is_empty() { home.subject.text() } else { opening.request_id.clone() }
}

fn control(opening: &Opening, id: &str, codec: Codec, home: &Home, now: Instant) -> Result<Vec<u8>, CallError> {
    let info = |subject: Subject, stream_type| {
        let (address, context) = (home.listener.to_string(), id.to_string());
        let place = CallHome { address, subject: subject.text(), context, stream_type };
        ConnectionInfo::new(&place).map_err(|_| CallError::HeaderTooLarge)
    };
    let connection_info = info(home.subject, StreamType::Response)?;
    let feed = home.feed.map(|subject| info(subject, StreamType::Request)).transpose()?;
    let control = Control {
        id: id.to_string(),
        request_type: if feed.is_some() { RequestType::ManyIn } else { RequestType::SingleIn },
        response_type: ResponseType::ManyOut,
        payload_codec: codec,
        connection_info,
        // Dynamo's worker hands pairs to its handler, and keeps headers to itself.
        metadata: opening.metadata.iter().cloned().chain(remaining(opening, now)).collect(),
        frontend_send_ts_ns: None,
        request_stream_connection_info: feed,
    };
    control.write().map_err(|_| CallError::HeaderTooLarge)
}

/// The headers that every transport carries.
fn fields(opening: &Opening, id: String, now: Instant) -> Fields {
    let mut fields = vec![(headers::REQUEST_ID, id)];
    if let Some(parent) = &opening.traceparent {
        fields.push((headers::TRACEPARENT, of_level_one(parent)));
    }
    if let Some(state) = &opening.tracestate {
        fields.push((headers::TRACESTATE, state.clone()));
    }
    if let Some(id) = &opening.x_request_id {
        fields.push((headers::X_REQUEST_ID, id.clone()));
    }
    if let Some(deadline) = opening.deadline {
        fields.push((headers::REMAINING, micros(deadline, now)));
    }
    if opening.priority != 0 {
        fields.push((headers::PRIORITY, opening.priority.to_string()));
    }
    if let Some(tenant) = &opening.tenant {
        fields.push((headers::TENANT, tenant.clone()));
    }
    if opening.attempts > 0 {
        fields.push((headers::ATTEMPTS, opening.attempts.to_string()));
    }
    fields
}

/// The parent as it is, but for flags for which Dynamo 1.6.1 refuses it and the whole trace with it: of version 00 it takes no
/// more than one of the two that level 2 knows. The sampled one stays, as a system of level 1 passes it on.
fn of_level_one(parent: &str) -> String {
    let read = TraceParent::read(parent.as_bytes())
        .ok()
        .filter(|read| read.version() == 0 && read.flags() > TraceParent::RANDOM);
    let sampled = |read: TraceParent| {
        TraceParent::new(read.trace_id(), read.parent_id(), read.flags() & TraceParent::SAMPLED).ok()
    };
    read.and_then(sampled).map_or_else(|| parent.to_string(), |read| read.to_string())
}

/// The time that is left, as a pair of the control message's metadata.
fn remaining(opening: &Opening, now: Instant) -> Option<(String, String)> {
    Some((headers::REMAINING.to_string(), micros(opening.deadline?, now)))
}

fn micros(deadline: Instant, now: Instant) -> String {
    deadline.since(now).as_micros().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_goes_as_it_is_unless_dynamo_would_refuse_its_flags() {
        let text = |version: &str, flags: &str| {
            alloc::format!("{version}-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}")
        };
        for (flags, sent) in [("00", "00"), ("01", "01"), ("02", "02"), ("03", "01"), ("0c", "00"), ("ff", "01")] {
            assert_eq!(of_level_one(&text("00", flags)), text("00", sent));
            assert_eq!(of_level_one(&text("01", flags)), text("01", flags), "a later version is not looked at");
        }
        assert_eq!(of_level_one("what it is not"), "what it is not");
    }
}
