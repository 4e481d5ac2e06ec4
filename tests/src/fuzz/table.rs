//! Every fuzz target by name.

use super::{
    ack, connections, control_json, deframer, event, headers, kv_events, mux, request, request_client, request_server,
    router, stream_fetcher, stream_receiver, stream_sender, trace_context, two_part, zmtp,
};

/// What a target asserts of any bytes; it panics if they break a law.
pub type Body = fn(&[u8]);

/// Name of the target and of its corpus folder, and what it asserts.
pub const TARGETS: &[(&str, Body)] = &[
    ("ack", ack),
    ("connections", connections),
    ("control_json", control_json),
    ("deframer", deframer),
    ("event", event),
    ("headers", headers),
    ("kv_events", kv_events),
    ("mux", mux),
    ("request", request),
    ("request_client", request_client),
    ("request_server", request_server),
    ("router", router),
    ("stream_fetcher", stream_fetcher),
    ("stream_receiver", stream_receiver),
    ("stream_sender", stream_sender),
    ("trace_context", trace_context),
    ("two_part", two_part),
    ("zmtp", zmtp),
];
