//! Events from one publisher to one subscriber: each way they travel, beside the bare client library that does the same.

mod rounds;
mod ways;

pub use rounds::{Options, events};
