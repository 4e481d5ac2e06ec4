//! The serving side: accepts connections, admits calls, hands them over, streams their answers back.
//!
//! | file | holds |
//! |---|---|
//! | `config` | limits and time bounds |
//! | `job` | one call, and what the application hears of it |
//! | `stats` | what a worker counts, and what it holds |
//! | `line` | what a connection speaks |
//! | `visitor` | what a worker keeps beside a connection |
//! | `admission` | the places of calls that run and wait |
//! | `kept` | what one request takes beside every credit |
//! | `drain` | a drain under way |
//! | `dynamo` | Dynamo's protocol: request frames, dials home, answers, items that are fetched |
//! | `machine` | the machine: commands and events |
//! | `calls` | calls that are admitted, run, cancelled, lost |
//! | `memory` | what requests under way take together |
//! | `leaving` | a worker that leaves |

mod admission;
mod calls;
pub mod config;
mod drain;
mod dynamo;
pub mod job;
mod kept;
mod leaving;
mod line;
pub mod machine;
mod memory;
#[cfg(test)]
mod outgoing_tests;
pub mod stats;
#[cfg(test)]
mod tests;
mod visitor;

pub use config::Config;
pub use job::{Cause, Event, JobId};
pub use machine::Worker;
pub use stats::{Footprint, Stats};
