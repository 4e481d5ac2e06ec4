//! Dynamo's request connection: pipelined request frames one way, acks in the same order the other way.
//!
//! | file | holds |
//! |---|---|
//! | `client` | the caller's end |
//! | `server` | the worker's end |

pub mod client;
pub mod server;
