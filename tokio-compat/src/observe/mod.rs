//! What a process tells of itself to those who watch it: its metrics, its logs, and its spans at a collector.

#[cfg(feature = "otel")]
mod batch;
#[cfg(all(test, feature = "otel"))]
mod batch_tests;
#[cfg(feature = "logs")]
mod current;
#[cfg(feature = "otel")]
mod http;
#[cfg(feature = "logs")]
mod jsonl;
#[cfg(feature = "logs")]
pub mod logs;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "otel")]
pub mod otlp;
#[cfg(feature = "otel")]
pub mod telemetry;

#[cfg(feature = "otel")]
pub use batch::SpanStats;
