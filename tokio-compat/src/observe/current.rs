//! Which span this thread is in, for the lines that it logs.

/// A span by its ids.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Ids {
    trace: u128,
    span: u64,
}

impl Ids {
    /// Of the span that this thread is in, if it is in one.
    pub(super) fn current() -> Option<Self> {
        #[cfg(feature = "otel")]
        {
            use opentelemetry::trace::TraceContextExt;
            let (trace, span) = opentelemetry::Context::map_current(|context| {
                let span = context.span();
                (span.span_context().trace_id().to_bytes(), span.span_context().span_id().to_bytes())
            });
            let ids = Self { trace: u128::from_be_bytes(trace), span: u64::from_be_bytes(span) };
            (ids.trace != 0 && ids.span != 0).then_some(ids)
        }
        #[cfg(not(feature = "otel"))]
        None
    }

    /// The trace, in lower-case hex.
    pub(super) fn trace(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span, in lower-case hex.
    pub(super) fn span(self) -> String {
        format!("{:016x}", self.span)
    }
}
