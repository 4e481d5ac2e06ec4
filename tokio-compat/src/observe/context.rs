//! Trace contexts as the wire has them, and as OpenTelemetry has them.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use ringplane_core::wire::trace_context::TraceParent;

/// The `tracestate` that a request came with, kept beside its spans to be passed on byte for byte.
struct State(String);

/// The span that a `traceparent` names as the parent of what comes; `None` without one, or if it is malformed.
pub(super) fn parent(traceparent: Option<&str>, tracestate: Option<&str>) -> Option<Context> {
    let parent = TraceParent::read(traceparent?.as_bytes()).ok()?;
    let state = tracestate.and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let (trace, span) = (TraceId::from_bytes(parent.trace_id()), SpanId::from_bytes(parent.parent_id()));
    let sampled = TraceFlags::default().with_sampled(parent.is_sampled());
    let context = Context::new().with_remote_span_context(SpanContext::new(trace, span, sampled, true, state));
    Some(match tracestate {
        Some(state) => context.with_value(State(state.to_owned())),
        None => context,
    })
}

/// What names a span as the parent; `None` of no span. Of the flags only the sampled bit: Dynamo 1.6.1 refuses others.
pub(super) fn traceparent(span: &SpanContext) -> Option<TraceParent> {
    TraceParent::new(span.trace_id().to_bytes(), span.span_id().to_bytes(), u8::from(span.is_sampled())).ok()
}

/// The span that this thread is in, as a request carries it: its `traceparent`, and the `tracestate` of its trace.
pub fn current() -> Option<(TraceParent, Option<String>)> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        let kept = context.get::<State>().map(|state| state.0.clone());
        let state = kept.or_else(|| Some(span.trace_state().header()).filter(|state| !state.is_empty()));
        Some((traceparent(span)?, state))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_comes_back_as_it_was_and_is_current_where_it_is_attached() {
        assert_eq!(current(), None);
        // Blanks and an empty member, which a list of members would not keep.
        let state = "rojo=00f067aa0ba902b7,, congo=t61 rcWkgMzE";
        let attached = parent(Some(PARENT), Some(state)).unwrap().attach();
        let (parent, kept) = current().unwrap();
        assert_eq!((parent.to_string().as_str(), kept.as_deref()), (PARENT, Some(state)));
        drop(attached);
        assert_eq!(current(), None);
    }

    #[test]
    fn what_is_no_parent_is_none_and_other_flags_are_left() {
        assert!(parent(None, Some("a=1")).is_none() && parent(Some("00-0-0-01"), None).is_none());
        for (flags, left) in [("00", "00"), ("03", "01"), ("02", "00")] {
            let text = PARENT.replace("-01", &format!("-{flags}"));
            let context = parent(Some(&text), Some("BAD KEY=1")).unwrap();
            assert_eq!(
                traceparent(context.span().span_context()).unwrap().to_string(),
                PARENT.replace("-01", &format!("-{left}"))
            );
        }
    }
}
