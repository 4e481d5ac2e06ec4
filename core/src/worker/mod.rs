//! The serving side: accepts connections, admits calls, hands them over, streams their answers back.
//!
//! | file | holds |
//! |---|---|
//! | `config` | limits and time bounds |
//! | `job` | one call, and what the application hears of it |
//! | `stats` | what a worker counts, and what it holds |
//! | `line` | what a connection speaks |
//! | `peer` | what a worker keeps beside a connection |
//! | `admission` | the places of calls that run and wait |
//! | `memory` | what requests under way hold that no credit covers |
//! | `drain` | where a worker stands that leaves |
//! | `dynamo` | Dynamo's protocol: request frames, call-home connections, answers, items that are fetched |
//! | `machine` | the machine: what it knows, and what a driver asks of it |
//! | `commands` | what the application does with a call |
//! | `calls` | calls that are admitted, run, cancelled, lost |
//! | `report` | what a worker tells its callers of its load |
//! | `leaving` | a worker that leaves |
//! | `canary` | when an endpoint is sent a request of the worker's own, and what follows |
//! | `endpoints` | endpoints that are drained while others serve |

mod admission;
mod calls;
pub mod canary;
mod commands;
pub mod config;
mod drain;
mod dynamo;
mod endpoints;
pub mod job;
mod leaving;
mod line;
pub mod machine;
mod memory;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod outgoing_tests;
mod peer;
mod report;
pub mod stats;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use job::{Cause, Event, JobId};
pub use machine::Worker;
pub use stats::{Footprint, Stats};
