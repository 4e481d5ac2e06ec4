//! Rows of trace context, and of what `decode` does with recorded bytes: guessing and printing.

use std::hint::black_box;

use ringplane_core::wire::parse::Limits;
use ringplane_core::wire::pretty::{Stream, dynamo_stream, mux_stream};
use ringplane_core::wire::sniff::dialect;
use ringplane_core::wire::trace_context::{TraceParent, TraceState};

use crate::cases::case::Case;
use crate::cases::dynamo::request;
use crate::inputs::stream;

const TRACEPARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACESTATE: &[u8] = b"congo=ucfJifl5GOE,rojo=00f067aa0ba902b7,vendor@tenant=00f067aa0ba902b7";

/// All of `wire::trace_context`, `sniff` and `pretty`.
pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("trace context/read traceparent", |_| || TraceParent::read(black_box(TRACEPARENT))),
        Case::new("trace context/write traceparent", |_| {
            let parent = TraceParent::read(TRACEPARENT).expect("a traceparent");
            move || black_box(&parent).to_bytes()
        }),
        Case::new("trace context/read tracestate", |_| || TraceState::read(black_box(TRACESTATE))),
        Case::new("decode/guess acks", |_| || dialect(black_box(&[0; 64]))),
        Case::new("decode/print a request", |_| {
            let bytes = request(64);
            let mut out = String::with_capacity(8192);
            move || {
                out.clear();
                dynamo_stream(black_box(bytes), Stream::Requests, &Limits::default(), &mut out)
            }
        }),
        Case::new("decode/print 4 items", |_| {
            let bytes = stream(4, 64, Default::default());
            let mut out = String::with_capacity(8192);
            move || {
                out.clear();
                mux_stream(black_box(&bytes), &Limits::default(), &mut out)
            }
        }),
    ]
}
