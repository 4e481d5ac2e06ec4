//! Dynamo's request connection: pipelined request frames one way, acks in the same order the other way.
//!
//! | file | holds |
//! |---|---|
//! | `client` | the caller's end |
//! | `message` | a request as the worker takes it, whichever way it came |
//! | `server` | the worker's end |

pub mod client;
pub mod message;
pub mod server;
#[cfg(test)]
mod server_tests;
