//! Dynamo's request plane as machines: the connection that brings requests, and those that a worker dials to its caller (call-home), one per call
//! for the response and one more for the items of a request that has many.
//!
//! | file | holds |
//! |---|---|
//! | `cost` | what an item that waits counts for |
//! | `frames` | frames out of bytes that are cut anywhere |
//! | `items` | the items of a request that has many: both ends of their connection |
//! | `queue` | items on their way out of a connection that carries one stream |
//! | `request` | requests and their acks: both ends of their connection |
//! | `response` | responses and their cancellation: both ends of their connection |
//! | `subjects` | whose response or items a connection may bring |

pub(crate) mod cost;
mod frames;
pub mod items;
mod queue;
pub mod request;
pub mod response;
pub mod subjects;
