//! Every fuzz target by name.

use super::{ack, control_json, headers, request, trace_context, two_part};

/// What a target asserts of any bytes; it panics if they break a law.
pub type Body = fn(&[u8]);

/// Name of the target and of its corpus folder, and what it asserts.
pub const TARGETS: &[(&str, Body)] = &[
    ("ack", ack),
    ("control_json", control_json),
    ("headers", headers),
    ("request", request),
    ("trace_context", trace_context),
    ("two_part", two_part),
];
