//! Log lines as JSON, one object each, with the names that Dynamo gives to their fields.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::observe::current::Ids;

/// The longest text of a field, in bytes; it is cut behind.
const LONGEST: usize = 4096;
/// What stands in front of the fields. A field of the same name has a prefix.
const FIRST: [&str; 6] = ["time", "level", "file", "line", "target", "message"];

/// ```text
/// {"time":"2026-11-23T15:42:25.517334Z","level":"INFO","file":"src/a.rs","line":7,"target":"a","message":"m","fields":"sorted, flat"}
/// ```
///
/// Fields are numbers, booleans or texts, as they were given. Those of the spans around it come with them, the innermost first.
pub(super) struct Jsonl;

impl<S, N> FormatEvent<S, N> for Jsonl
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (about, mut fields) = (event.metadata(), Fields::default());
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            // Kept as JSON by the layer.
            if let Some(kept) = span.extensions().get::<FormattedFields<N>>()
                && let Ok(Value::Object(kept)) = serde_json::from_str(kept)
            {
                kept.into_iter().for_each(|(name, value)| fields.put(&name, value));
            }
            fields.put("span_name", span.name().into());
        }
        if let Some(ids) = Ids::current() {
            fields.put("trace_id", ids.trace().into());
            fields.put("span_id", ids.span().into());
        }
        // A message is the event's, whatever its spans have.
        fields.message = None;
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        write!(out, "{{\"time\":{},\"level\":\"{}\"", Value::from(time), about.level())?;
        for (name, value) in [
            ("file", about.file().map(Value::from)),
            ("line", about.line().map(Value::from)),
            ("target", Some(about.target().into())),
            ("message", Some(fields.message.take().unwrap_or_default().into())),
        ] {
            if let Some(value) = value {
                write!(out, ",\"{name}\":{value}")?;
            }
        }
        for (name, value) in fields.others {
            write!(out, ",{}:{value}", Value::from(name))?;
        }
        out.write_str("}\n")
    }
}

/// The fields of a line.
#[derive(Default)]
struct Fields {
    message: Option<String>,
    others: BTreeMap<String, Value>,
}

impl Fields {
    fn put(&mut self, name: &str, value: Value) {
        let value = match value {
            Value::String(text) => Value::String(cut(text)),
            value => value,
        };
        match (name, value) {
            ("message", Value::String(text)) => self.message = Some(text),
            (name, value) if FIRST.contains(&name) => _ = self.others.insert(format!("field.{name}"), value),
            (name, value) => _ = self.others.insert(name.to_owned(), value),
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}").into());
    }
}
