//! Dynamo's request stream: the worker dials its caller (a call-home) to fetch the items of a request that has many.
//!
//! | file | holds |
//! |---|---|
//! | `receiver` | the worker's end |
//! | `sender` | the caller's end |

pub mod receiver;
#[cfg(test)]
mod receiver_tests;
pub mod sender;
