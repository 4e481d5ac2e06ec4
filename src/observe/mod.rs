//! Being watched: the metrics of a process.
//!
//! [`Metrics`] is what workers and clients are [told of](crate::WorkerBuilder::metrics) when they are made. Whoever serves them
//! asks it for text, as often as somebody wants to read.

pub(crate) mod metrics;

pub use metrics::handle::Metrics;
pub use ringplane_tokio::observe::metrics::{Family, Format, Kind, Sample, Unit, Value};
