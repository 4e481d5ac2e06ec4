//! Spans and logs of a program on their way out.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use ringplane::observe::logs::{Format, Logs};
use ringplane::observe::{SpanStats, export, otlp};
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use crate::facade::support::runtime;
use crate::observe::collector::Collector;

/// The longest that an end waits for the collector; a test waits for spans, not for this.
const BOUND: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn spans_of_tracing_reach_a_collector_by_either_protocol_and_log_lines_name_them() {
    runtime().block_on(async {
        for (collector, protocol) in
            [(Collector::grpc().await, otlp::Protocol::Grpc), (Collector::http().await, otlp::Protocol::Http)]
        {
            let mut config =
                otlp::Config { service: "tested".to_owned(), ..otlp::Config::default().at(&collector.endpoint) };
            if protocol == otlp::Protocol::Http {
                (config.protocol, config.endpoint) = (protocol, format!("{}/v1/traces", collector.endpoint));
            }
            config.delay = Duration::from_millis(20);
            config.headers.push(("x-key".to_owned(), "50%25".to_owned()));
            let (telemetry, kept) = (export(&config).unwrap(), Kept::default());
            let writer = kept.clone();
            let logs = Logs::default().with_format(Format::Json).layer(move || writer.clone());
            let subscriber = tracing_subscriber::registry().with(logs).with(telemetry.layer());
            tracing::subscriber::with_default(subscriber, || {
                let outer = tracing::info_span!("outer", tenant = "t").entered();
                tracing::info_span!("inner").in_scope(|| tracing::warn!("in here"));
                drop(outer);
                tracing::warn!("out there");
            });
            let seen = collector.spans(|seen| seen.len() == 2).await;
            let [inner, outer] = ["inner", "outer"].map(|name| seen.iter().find(|one| one.span.name == name).unwrap());
            assert!(inner.is_below(outer) && outer.span.parent_span_id.is_empty(), "{seen:#?}");
            assert_eq!((outer.kind(), outer.is_error(), inner.events()), (SpanKind::Internal, false, vec!["in here"]));
            assert_eq!((outer.service.as_str(), outer.get("tenant").as_deref()), ("tested", Some("t")));
            assert_eq!(collector.header("x-key").as_deref(), Some("50%25"));

            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            assert_eq!(lines[0]["trace_id"], hex(&inner.span.trace_id), "{text}");
            assert_eq!(lines[0]["span_id"], hex(&inner.span.span_id), "{text}");
            assert!(lines[1].get("trace_id").is_none(), "{text}");
            assert_eq!(telemetry.shutdown(BOUND).await, SpanStats { exported: 2, ..SpanStats::default() });
        }
    });
}
