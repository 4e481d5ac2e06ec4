//! The serving side: accepts connections, admits calls, hands them over, streams their answers back.

pub mod config;
pub mod machine;

pub use config::Config;
pub use machine::{Event, JobId, Worker};
