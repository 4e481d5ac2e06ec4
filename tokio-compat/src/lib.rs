//! The ringplane machines on tokio, for hosts where io_uring is refused, and the backends of discovery.

pub mod discovery;
#[cfg(feature = "nats")]
pub mod nats;
pub mod random;
pub mod request;
mod seldom;
pub mod tcp;
pub mod vars;
