//! The serving side: accepts connections, admits calls, hands them over, streams their answers back.

mod admission;
pub mod config;
mod drain;
mod fetch;
#[cfg(test)]
mod fetch_tests;
mod home;
#[cfg(test)]
mod home_tests;
mod kept;
mod line;
pub mod machine;
#[cfg(test)]
mod outgoing_tests;
mod reading;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use machine::{Event, JobId, Worker};
