//! Dynamo's call-home connection: one per call, dialed by the worker, carrying the response and the caller's cancellation.
//!
//! | file | holds |
//! |---|---|
//! | `receiver` | the caller's end |
//! | `registry` | whose response a connection may bring |
//! | `sender` | the worker's end |

pub mod receiver;
pub mod registry;
pub mod sender;
#[cfg(test)]
mod tests;
