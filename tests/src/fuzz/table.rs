//! Every fuzz target by name.

use super::{ack, control_json, headers, request, trace_context, two_part};

/// Name of the target and of its corpus folder, and what it asserts.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("ack", ack),
    ("control_json", control_json),
    ("headers", headers),
    ("request", request),
    ("trace_context", trace_context),
    ("two_part", two_part),
];
