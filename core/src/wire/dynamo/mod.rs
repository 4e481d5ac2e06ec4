//! Dynamo's formats, as its version 1.6.1 has them.
//!
//! | file | holds |
//! |---|---|
//! | `ack` | the answer to a request: taken, or why not |
//! | `annotated` | an item with its metadata, or an error in its place |
//! | `control` | the control message, handshake and prologue |
//! | `envelope` | what wraps an item of a response |
//! | `failure` | the types of a failure |
//! | `failure_key` | the catalogue of reasons |
//! | `headers` | the headers of a request |
//! | `request` | the frame of a request |
//! | `two_part` | the frame of every payload and of all call-home streams |
//! | `typed_failure` | a typed error on the wire |
//! | `word` | the words of a call-home stream: stop, kill, sentinel |

pub mod ack;
#[cfg(feature = "alloc")]
pub mod annotated;
#[cfg(feature = "alloc")]
pub mod control;
pub mod envelope;
pub mod failure;
pub mod failure_key;
#[cfg(feature = "alloc")]
pub mod headers;
pub mod request;
pub mod two_part;
#[cfg(feature = "alloc")]
pub mod typed_failure;
#[cfg(all(test, feature = "alloc"))]
mod typed_failure_tests;
pub mod word;
