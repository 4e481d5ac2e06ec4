//! The ringplane machines on tokio, for hosts where io_uring is refused, and the backends of discovery.

#[cfg(any(feature = "http", feature = "nats"))]
pub mod carrier;
pub mod discovery;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(any(feature = "http", feature = "nats"))]
mod seldom;
pub mod tcp;
