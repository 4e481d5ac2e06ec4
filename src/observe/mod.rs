//! Being watched: the metrics of a process, its logs, and its spans at a collector.
//!
//! `Metrics` is what workers and clients are told of when they are made. Whoever serves them asks it for text, as often as somebody
//! wants to read. `logs::Logs` is a layer for a subscriber of `tracing`; `export` sends spans.

#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;

#[cfg(feature = "otel")]
pub use export::export;
#[cfg(feature = "metrics")]
pub use metrics::handle::Metrics;
#[cfg(feature = "metrics")]
pub use metrics::told::{Counted, MetricsError};
#[cfg(feature = "logs")]
pub use ringplane_tokio::observe::logs;
#[cfg(feature = "metrics")]
pub use ringplane_tokio::observe::metrics::{Family, Format, Kind, Sample, Unit, Value};
#[cfg(feature = "otel")]
pub use ringplane_tokio::observe::{SpanStats, otlp, telemetry};
