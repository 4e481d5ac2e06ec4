//! Dynamo's call-home connection: one per call, dialed by the worker, carrying the response and the caller's cancellation.
//!
//! | file | holds |
//! |---|---|
//! | `feeder` | the caller's end of the other stream, which a request of many items has |
//! | `receiver` | the caller's end |
//! | `registry` | whose response a connection may bring |
//! | `sender` | the worker's end |

pub mod feeder;
pub mod receiver;
pub mod registry;
pub mod sender;
#[cfg(test)]
mod tests;
