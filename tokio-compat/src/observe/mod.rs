//! What a process tells of itself to those who watch it: its metrics, its logs, and its spans at a collector.

#[cfg(feature = "otel")]
mod batch;
#[cfg(all(test, feature = "otel"))]
mod batch_tests;
#[cfg(feature = "otel")]
mod context;
#[cfg(feature = "logs")]
mod current;
#[cfg(feature = "otel")]
pub mod event_spans;
#[cfg(feature = "otel")]
mod here;
#[cfg(feature = "otel")]
mod http;
#[cfg(feature = "logs")]
mod jsonl;
#[cfg(feature = "logs")]
pub mod logs;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "otel")]
mod origins;
#[cfg(feature = "otel")]
pub mod otlp;
#[cfg(feature = "otel")]
mod outcome;
#[cfg(feature = "otel")]
pub mod spans;
#[cfg(feature = "otel")]
pub mod telemetry;

#[cfg(feature = "otel")]
pub use batch::SpanStats;
#[cfg(feature = "otel")]
pub use context::current;
