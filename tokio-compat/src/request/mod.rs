//! Requests that no connection of the cores carries: by way of a NATS server, and by HTTP.
//!
//! A plane has a worker's end, which takes requests in, and a caller's end, which brings them out. Each runs on a thread
//! of its own and reaches the cores through their mailboxes, so that neither data nor requests can starve the other. Only
//! the request and its ack travel this way: answers come over TCP, by a call-home.

pub mod carrier;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "nats")]
pub mod nats;
