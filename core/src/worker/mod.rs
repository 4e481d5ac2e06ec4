//! The serving side: accepts connections, admits calls, hands them over, streams their answers back.

pub mod config;
mod home;
pub mod machine;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use machine::{Event, JobId, Worker};
