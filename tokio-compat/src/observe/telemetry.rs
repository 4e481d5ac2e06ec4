//! The spans of a process: what makes them, samples them, and sends them to a collector.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::Request;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol as Otlp, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanExporter as _};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use crate::observe::batch::{Batches, SpanStats};
use crate::observe::event_spans::EventSpans;
use crate::observe::here::Here;
use crate::observe::http::Posts;
use crate::observe::origins::{Origins, Own};
use crate::observe::otlp::{Config, Protocol, Sampling, shown};
use crate::observe::spans::Spans;
use crate::random::random_u64;

/// The instrumentation scope of our spans.
const SCOPE: &str = "ringplane";

/// Crates whose spans tell of the export itself.
const BELOW: [&str; 7] = ["h2", "hyper", "hyper_util", "opentelemetry", "opentelemetry_sdk", "tonic", "tower"];

/// Why spans cannot be sent anywhere.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A knob is out of its bounds.
    Bounds(&'static str),
    /// A header cannot be sent.
    Header(String),
    /// The collector's address, without a login, is one of an encrypted connection, which is not built.
    Encrypted(String),
    /// The collector's address cannot be used.
    Endpoint {
        /// What it is, without a login.
        endpoint: String,
        /// What is wrong with it.
        source: ExporterBuildError,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bounds(knob) => write!(f, "`{knob}` of the export of spans is out of its bounds"),
            Self::Header(name) => write!(f, "`{name}` is no header that can be sent with spans"),
            Self::Encrypted(endpoint) => {
                write!(f, "`{endpoint}` is encrypted, which is not built; use http:// to a collector nearby")
            }
            Self::Endpoint { endpoint, .. } => write!(f, "spans cannot be sent to `{endpoint}`"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint { source, .. } => Some(source),
            Self::Bounds(_) | Self::Header(_) | Self::Encrypted(_) => None,
        }
    }
}

/// The spans of a process on their way to a collector. Clones are the same.
///
/// Nobody waits for the collector: spans that have ended wait in a queue with a bound, of which [`stats`](Self::stats) tells what
/// was dropped.
#[derive(Clone, Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
    batches: Batches,
    origins: Arc<Origins>,
    runtime: Handle,
}

impl Telemetry {
    /// Spans by `config`, sent by a task of `runtime`, which needs its clock and its sockets.
    ///
    /// # Errors
    /// [`Error`], with what is wrong in `config`; nothing runs then.
    pub fn start(config: &Config, runtime: &Handle) -> Result<Self, Error> {
        for (knob, sound) in [
            ("queue", config.queue > 0),
            ("batch", (1..=config.queue).contains(&config.batch)),
            ("timeout", !config.timeout.is_zero()),
            ("delay", !config.delay.is_zero()),
            ("sampling.share", (0.0..=1.0).contains(&config.sampling.share)),
        ] {
            sound.then_some(()).ok_or(Error::Bounds(knob))?;
        }
        let resource = resource(config);
        let mut exporter = {
            // gRPC's channel is a task.
            let _entered = runtime.enter();
            exporter(config)?
        };
        exporter.set_resource(&resource);
        let batches = Batches::new(config);
        runtime.spawn(batches.clone().run(exporter, config.delay, config.timeout));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler(config.sampling))
            .with_span_processor(batches.clone())
            .build();
        Ok(Self { provider, batches, origins: Arc::default(), runtime: runtime.clone() })
    }

    /// What makes spans.
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer(SCOPE)
    }

    /// What makes spans on a core, of its calls and its requests.
    pub fn spans(&self) -> Spans {
        Spans::new(self.tracer(), Own::new(self.origins.clone()))
    }

    /// What makes spans of events that are published and taken.
    pub fn event_spans(&self) -> EventSpans {
        EventSpans::new(self.tracer())
    }

    /// What makes spans of those of `tracing`, for a subscriber: those at INFO and above. Events in none of them are kept with the
    /// request whose handler says them.
    pub fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let targets = Targets::new().with_default(LevelFilter::INFO);
        let targets = targets.with_targets(BELOW.map(|below| (below, LevelFilter::OFF)));
        OpenTelemetryLayer::new(self.tracer()).and_then(Here).with_filter(targets).boxed()
    }

    /// What has become of the spans that have ended.
    pub fn stats(&self) -> SpanStats {
        self.batches.stats()
    }

    /// Has what waits sent now, and says whether that was done within `bound`.
    pub async fn flush(&self, bound: Duration) -> bool {
        self.told(self.batches.flush(false), bound).await
    }

    /// Makes no more spans, has those sent that wait, for `bound` at most, and says what has become of all. Those that still wait
    /// then are lost with the process.
    pub async fn shutdown(&self, bound: Duration) -> SpanStats {
        let last = self.batches.flush(true);
        let _ = self.provider.shutdown();
        self.told(last, bound).await;
        self.stats()
    }

    /// Waits on the runtime that has timers, whatever the executor.
    async fn told(&self, told: tokio::sync::oneshot::Receiver<()>, bound: Duration) -> bool {
        let waiting = self.runtime.spawn(async move { tokio::time::timeout(bound, told).await });
        matches!(waiting.await, Ok(Ok(Ok(()))))
    }
}

fn sampler(Sampling { share, parent_based }: Sampling) -> Sampler {
    let root = Sampler::TraceIdRatioBased(share);
    if parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
}

/// What is said of this process. Of several processes of one service each has an id of its own.
fn resource(config: &Config) -> Resource {
    let pair = |name: &str, value: &str| KeyValue::new(Cow::Owned::<str>(name.to_owned()), value.to_owned());
    let instance = format!("{:016x}{:016x}", random_u64(), random_u64());
    let given = config.resource.iter().map(|(name, value)| pair(name, value));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attribute(pair("service.instance.id", &instance))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .with_attributes(given)
        .with_attribute(pair("service.name", &config.service))
        .build()
}

fn exporter(config: &Config) -> Result<SpanExporter, Error> {
    if config.endpoint.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")) {
        return Err(Error::Encrypted(shown(&config.endpoint)));
    }
    let mut headers = Request::builder();
    for (name, value) in &config.headers {
        headers = headers.header(name, value);
        if headers.headers_ref().is_none() {
            return Err(Error::Header(name.clone()));
        }
    }
    let built = match config.protocol {
        Protocol::Grpc => {
            let headers = headers.body(()).map(|request| request.into_parts().0.headers).unwrap_or_default();
            SpanExporter::builder()
                .with_tonic()
                .with_endpoint(&config.endpoint)
                .with_timeout(config.timeout)
                .with_metadata(MetadataMap::from_headers(headers))
                .build()
        }
        Protocol::Http => SpanExporter::builder()
            .with_http()
            .with_protocol(Otlp::HttpBinary)
            .with_http_client(Posts::new(config.timeout))
            .with_endpoint(&config.endpoint)
            .with_timeout(config.timeout)
            // They are decoded there.
            .with_headers(
                config.headers.iter().map(|(name, value)| (name.clone(), value.replace('%', "%25"))).collect(),
            )
            .build(),
    };
    built.map_err(|source| {
        let endpoint = shown(&config.endpoint);
        // It has the endpoint in its text.
        let source = match source {
            ExporterBuildError::InvalidConfiguration(text) => {
                ExporterBuildError::InvalidConfiguration(text.replace(&config.endpoint, &endpoint))
            }
            source => source,
        };
        Error::Endpoint { endpoint, source }
    })
}
