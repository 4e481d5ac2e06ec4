//! Dynamo's request connection: pipelined request frames one way, acks in the same order the other way.
//!
//! | file | holds |
//! |---|---|
//! | `server` | the worker's end |

pub mod server;
