//! Target: W3C trace context.

use ringplane_core::wire::{TraceParent, TraceState};

/// What is accepted is written as it was read, and a child keeps the trace and of the flags those that are known.
pub fn trace_context(data: &[u8]) {
    if let Ok(parent) = TraceParent::read(data) {
        let text = parent.to_bytes();
        assert!(data.trim_ascii().starts_with(&text));
        assert_eq!(TraceParent::read(&text), Ok(parent));
        assert_eq!(parent.to_string().as_bytes(), text);
        let child = parent.child([7; 8]).expect("the id is not zero");
        let known = parent.flags() & (TraceParent::SAMPLED | TraceParent::RANDOM);
        assert_eq!((child.trace_id(), child.flags(), child.version()), (parent.trace_id(), known, 0));
    }
    if let Ok(state) = TraceState::read(data) {
        assert_eq!(state.as_str().as_bytes(), data);
        assert!(state.members().all(|member| member.contains('=')));
    }
}
