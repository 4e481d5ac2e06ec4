//! Requests that no connection of the cores carries: by way of a NATS server, and by HTTP.
//!
//! A plane has a worker's end, the [`intake`], which takes requests in and brings their acks back, and a caller's end, the
//! [`carrier`], which takes requests out and brings their answers back. Each runs on a thread of its own and reaches the
//! cores through their mailboxes, so that neither data nor requests can starve the other. What a request means is decided
//! by the machines of a core. Only the request and its ack travel this way: answers come over TCP, by a call-home.

#[cfg_attr(not(any(feature = "http", feature = "nats")), allow(dead_code, reason = "no plane uses it"))]
pub mod carrier;
mod error;
#[cfg(feature = "http")]
pub mod http;
#[cfg_attr(not(any(feature = "http", feature = "nats")), allow(dead_code, reason = "no plane uses it"))]
pub mod intake;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg_attr(not(all(feature = "http", feature = "nats")), allow(dead_code, reason = "each plane uses its part"))]
mod room;

pub use error::Error;
pub use room::Share;
