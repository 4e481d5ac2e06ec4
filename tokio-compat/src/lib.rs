//! The ringplane machines on tokio, for hosts where io_uring is refused, and the backends of discovery.

pub mod discovery;
#[cfg(feature = "nats")]
pub mod nats;
pub mod random;
#[cfg(any(feature = "http", feature = "nats"))]
pub mod request;
#[cfg(any(feature = "http", feature = "nats"))]
mod seldom;
pub mod tcp;
