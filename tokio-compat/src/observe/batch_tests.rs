//! Spans towards collectors that do not take them.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter, SpanProcessor};
use ringplane_core::chain::Chain;
use ringplane_servers::port::reserved;
use tokio::runtime::Handle;

use crate::observe::batch::{Batches, SpanStats};
use crate::observe::otlp::{Config, Protocol};
use crate::observe::telemetry::{Error, Telemetry};

const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Grpc, ""), (Protocol::Http, "/v1/traces")];

fn made(telemetry: &Telemetry, count: u64) {
    let tracer = telemetry.tracer();
    (0..count).for_each(|_| drop(tracer.start("a")));
}

fn all(stats: SpanStats) -> u64 {
    stats.exported + stats.failed + stats.dropped + stats.waiting
}

#[tokio::test]
async fn a_collector_that_never_answers_costs_a_bounded_queue_and_delays_an_end_by_its_bound() {
    for (protocol, path) in PROTOCOLS {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}{path}", silent.local_addr().unwrap());
        let config = Config { protocol, endpoint, queue: 4, batch: 2, ..Config::default() };
        let telemetry = Telemetry::start(&config, &Handle::current()).unwrap();
        made(&telemetry, 100);
        let begun = Instant::now();
        assert!(!telemetry.flush(Duration::from_millis(20)).await);
        made(&telemetry, 100);
        let stats = telemetry.shutdown(Duration::from_millis(20)).await;
        // Far less than the time that a batch has.
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!((all(stats), stats.exported, stats.failed), (200, 0, 0), "{stats:?}");
        assert!(stats.waiting <= 4 + 2 && stats.dropped >= 200 - 6, "{stats:?}");
        // The tracer has been left without a queue.
        made(&telemetry, 1);
        assert_eq!(all(telemetry.stats()), 200);
    }
}

#[tokio::test]
async fn spans_that_no_collector_takes_are_counted_and_the_end_comes() {
    for (protocol, path) in PROTOCOLS {
        let (_port, closed) = reserved().unwrap();
        let timeout = Duration::from_millis(200);
        let config = Config { protocol, endpoint: format!("http://{closed}{path}"), timeout, ..Config::default() };
        let telemetry = Telemetry::start(&config, &Handle::current()).unwrap();
        made(&telemetry, 600);
        let stats = telemetry.shutdown(Duration::from_secs(30)).await;
        assert_eq!(stats, SpanStats { failed: 600, ..SpanStats::default() });
        // A second end finds nothing to do.
        assert_eq!(telemetry.shutdown(Duration::from_secs(30)).await, stats);
        assert!(!telemetry.flush(Duration::from_secs(30)).await);
    }
}

/// Takes spans, and has as many come anew before it says so.
#[derive(Debug)]
struct Endless(Batches);

impl SpanExporter for Endless {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        batch.into_iter().for_each(|span| self.0.on_end(span));
        tokio::task::yield_now().await;
        Ok(())
    }
}

#[tokio::test]
async fn a_flush_ends_when_what_waited_has_gone_although_the_queue_is_never_empty() {
    let batches = Batches::new(&Config { queue: 8, batch: 2, ..Config::default() });
    let provider = SdkTracerProvider::builder().with_span_processor(batches.clone()).build();
    let tracer = provider.tracer("a");
    (0..4).for_each(|_| drop(tracer.start("a")));
    let exporter = Endless(batches.clone());
    let sending = tokio::spawn(batches.clone().run(exporter, Duration::from_secs(60), Duration::from_secs(60)));
    // The second is asked for while the sending of the first has not come to an end.
    for exported in [4, 8] {
        let told = tokio::time::timeout(Duration::from_secs(20), batches.flush(false)).await;
        assert_eq!(told, Ok(Ok(())));
        let stats = batches.stats();
        assert!(stats.exported >= exported && stats.waiting >= 4 && stats.dropped == 0, "{stats:?}");
    }
    sending.abort();
}

#[tokio::test]
async fn an_export_that_cannot_be_is_refused_at_the_start() {
    let refused = |config: Config| Telemetry::start(&config, &Handle::current()).unwrap_err();
    let default = Config::default;
    assert!(matches!(refused(Config { batch: 9, queue: 8, ..default() }), Error::Bounds("batch")));
    assert!(matches!(refused(Config { delay: Duration::ZERO, ..default() }), Error::Bounds("delay")));
    let headers = vec![("no name".to_owned(), "x".to_owned())];
    assert!(matches!(refused(Config { headers, ..default() }), Error::Header(name) if name == "no name"));
    let encrypted = refused(default().at("https://user:secret@collector"));
    assert!(matches!(&encrypted, Error::Encrypted(shown) if shown == "https://collector"), "{encrypted:?}");
    for (protocol, _) in PROTOCOLS {
        let config = Config { protocol, endpoint: "http://user:secret@[".to_owned(), ..default() };
        let unusable = refused(config);
        assert!(matches!(&unusable, Error::Endpoint { endpoint, .. } if endpoint == "http://["), "{unusable:?}");
        let told = format!("{} {unusable:?}", Chain(&unusable));
        assert!(!told.contains("secret"), "{told}");
    }
}
