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
    Ok((fields(opening, id, now), [&parts.to_bytes()[..], &control].concat()))
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
        fields.push((headers::TRACEPARENT, parent.clone()));
    }
    if let Some(state) = &opening.tracestate {
        fields.push((headers::TRACESTATE, state.clone()));
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

/// The time that is left, as a pair of the control message's metadata.
fn remaining(opening: &Opening, now: Instant) -> Option<(String, String)> {
    Some((headers::REMAINING.to_string(), micros(opening.deadline?, now)))
}

fn micros(deadline: Instant, now: Instant) -> String {
    deadline.since(now).as_micros().to_string()
}
