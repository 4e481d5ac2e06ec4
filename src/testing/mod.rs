//! Handlers tested without a socket, a thread or a port: a [`Stage`] serves what a
//! [`WorkerBuilder`](crate::WorkerBuilder) describes to calls of the same test, with all that a call has: credit, deadlines,
//! stop and kill.
//!
//! ```
#![doc = include_str!("../../examples/testing.rs")]
//! ```

mod pipes;
mod stage;

pub use stage::{Stage, StagedCall};
