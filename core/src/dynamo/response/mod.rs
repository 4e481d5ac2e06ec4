//! Dynamo's response stream: the worker dials its caller (a call-home) to bring the items of an answer, and hears of a
//! cancellation there.
//!
//! | file | holds |
//! |---|---|
//! | `receiver` | the caller's end |
//! | `sender` | the worker's end |

pub mod receiver;
#[cfg(test)]
mod receiver_tests;
pub mod sender;
#[cfg(test)]
mod sender_tests;
