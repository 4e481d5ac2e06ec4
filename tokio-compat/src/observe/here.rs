//! Events of `tracing` in a handler, kept with the span of its request.

use std::fmt;

use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context as Current, KeyValue};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Puts each event that is in no span of `tracing` on the span that this thread is in.
pub(super) struct Here;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Here {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if context.event_span(event).is_some() {
            return;
        }
        let current = Current::current();
        let span = current.span();
        if span.is_recording() {
            let about = event.metadata();
            let mut fields = Fields { message: None, others: Vec::new() };
            fields.others.push(KeyValue::new("level", about.level().as_str()));
            fields.others.push(KeyValue::new("target", about.target()));
            event.record(&mut fields);
            span.add_event(fields.message.unwrap_or_default(), fields.others);
        }
    }
}

struct Fields {
    message: Option<String>,
    others: Vec<KeyValue>,
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.others.push(KeyValue::new(field.name(), value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.push(KeyValue::new(field.name(), value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.push(KeyValue::new(field.name(), value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "message" => self.message = Some(value),
            name => self.others.push(KeyValue::new(name, value)),
        }
    }
}
