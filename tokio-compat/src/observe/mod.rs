//! What a process tells of itself to those who watch it.

#[cfg(feature = "metrics")]
pub mod metrics;
