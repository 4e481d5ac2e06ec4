//! Dynamo's call-home connection: one per call, dialed by the worker, carrying the response and the caller's cancellation.
//!
//! | file | holds |
//! |---|---|
//! | `cost` | what an item that waits counts for |
//! | `feeder` | the caller's end of the other stream, which a request of many items has |
//! | `receiver` | the caller's end |
//! | `registry` | whose response a connection may bring |
//! | `sender` | the worker's end |

pub(crate) mod cost;
pub mod feeder;
pub mod receiver;
pub mod registry;
pub mod sender;
#[cfg(test)]
mod tests;
