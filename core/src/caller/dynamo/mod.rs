//! The caller's side of Dynamo's protocol: a request goes out in a frame or by a carrier, and its response comes on a
//! connection that the worker dials to this caller (a call-home).
//!
//! | file | holds |
//! |---|---|
//! | `carrier` | a request that a broker or HTTP brings, and what comes of it |
//! | `window` | the requests that are with a carrier, and the calls that wait to hand one over |
//! | `call_home` | the listener, the subjects that are awaited, and the connections that came |
//! | `sent` | a call that has been sent |
//! | `head` | what a request says before its body |
//! | `carried` | calls whose request a carrier brings |
//! | `framed` | request frames and their acks |
//! | `streams` | the call-home connections of calls: whose each is, what goes out on them |
//! | `response` | what a response does to its call |
//! | `failures` | how what a worker says of a failure is told |

pub(super) mod call_home;
pub(super) mod carried;
#[cfg(test)]
mod carried_tests;
pub mod carrier;
pub(super) mod failures;
pub(super) mod framed;
#[cfg(test)]
pub(super) mod framed_tests;
pub(super) mod head;
mod response;
pub(super) mod sent;
mod streams;
#[cfg(test)]
mod version_tests;
pub(super) mod window;
