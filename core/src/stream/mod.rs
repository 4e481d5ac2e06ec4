//! Dynamo's call-home connections, dialed by the worker: one per call for the response and the caller's cancellation, and one
//! more for the items of a request that has many.
//!
//! | file | holds |
//! |---|---|
//! | `cost` | what an item that waits counts for |
//! | `feeder` | the caller's end of the request stream |
//! | `fetcher` | the worker's end of the request stream |
//! | `frames` | frames out of bytes that are cut anywhere |
//! | `queue` | items on their way out of one stream's connection |
//! | `receiver` | the caller's end of the response stream |
//! | `registry` | whose response a connection may bring |
//! | `sender` | the worker's end of the response stream |

pub(crate) mod cost;
pub mod feeder;
pub mod fetcher;
#[cfg(test)]
mod fetcher_tests;
mod frames;
mod queue;
pub mod receiver;
pub mod registry;
pub mod sender;
#[cfg(test)]
mod tests;
