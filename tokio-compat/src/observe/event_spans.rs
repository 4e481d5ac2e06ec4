//! Spans of events that are published and taken, by the messaging conventions of OpenTelemetry.

use std::error::Error;
use std::fmt;

use opentelemetry::trace::{Link, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use ringplane_core::event::observer::{Consumed, EventObserver, Publishing, Underway};
use ringplane_core::event::subject::Subject;
use ringplane_core::wire::trace_context::TraceParent;

use crate::observe::context::{parent, traceparent};

/// Makes spans of the events of a trace, from [`Telemetry::event_spans`](crate::observe::telemetry::Telemetry::event_spans). One
/// that is in no trace begins none: of those there may be thousands a second.
pub struct EventSpans {
    tracer: SdkTracer,
}

impl fmt::Debug for EventSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSpans").field("tracer", &self.tracer).finish()
    }
}

impl EventSpans {
    pub(super) const fn new(tracer: SdkTracer) -> Self {
        Self { tracer }
    }
}

/// What the conventions want of both ends.
fn attributes(operation: [&'static str; 2], subject: &Subject, bytes: usize) -> [KeyValue; 5] {
    let [name, kind] = operation;
    [
        KeyValue::new("messaging.system", "ringplane"),
        KeyValue::new("messaging.operation.name", name),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.destination.name", subject.to_string()),
        KeyValue::new("messaging.message.body.size", i64::try_from(bytes).unwrap_or(i64::MAX)),
    ]
}

/// An event that is on its way to its transport.
struct Published(Context);

impl Underway for Published {
    fn span(&self) -> Option<TraceParent> {
        traceparent(self.0.span().span_context())
    }

    fn ended(self: Box<Self>, outcome: Result<(), &dyn Error>) {
        if let Err(error) = outcome {
            self.0.span().set_status(Status::error(error.to_string()));
        }
        self.0.span().end();
    }
}

impl EventObserver for EventSpans {
    fn publishing(&self, event: &Publishing<'_>) -> Option<Box<dyn Underway>> {
        let given = parent(event.trace.traceparent(), event.trace.tracestate())?;
        let builder = self.tracer.span_builder(format!("publish {}", event.subject.topic()));
        let span = self.tracer.build_with_context(builder.with_kind(SpanKind::Producer), &given);
        let context = given.with_span(span);
        let span = context.span();
        if !span.is_recording() {
            return None;
        }
        span.set_attributes(attributes(["publish", "send"], event.subject, event.bytes));
        Some(Box::new(Published(context)))
    }

    fn consumed(&self, event: &Consumed<'_>) {
        let trace = event.message.trace();
        let Some(given) = parent(trace.traceparent(), trace.tracestate()) else { return };
        // Linked to what published it, and below it: the conventions want the one and allow the other.
        let link = Link::with_context(given.span().span_context().clone());
        let builder = self.tracer.span_builder(format!("consume {}", event.subject.topic()));
        let builder = builder.with_kind(SpanKind::Consumer).with_links(vec![link]);
        let context = given.with_span(self.tracer.build_with_context(builder, &given));
        let span = context.span();
        if span.is_recording() {
            let message = event.message;
            span.set_attributes(attributes(["consume", "process"], event.subject, message.payload.len()));
            let id = format!("{}/{}", message.publisher, message.sequence);
            span.set_attribute(KeyValue::new("messaging.message.id", id));
        }
        span.end();
    }
}
