//! The ringplane machines on tokio, for hosts where io_uring is refused, the backends of discovery, what carries events, and tasks
//! that are kept track of.

pub mod discovery;
pub mod event;
#[cfg(feature = "nats")]
pub mod nats;
pub mod observe;
#[cfg(feature = "nats")]
pub mod queue;
pub mod random;
pub mod request;
mod seldom;
#[cfg(feature = "nats")]
pub mod service;
#[cfg(feature = "status")]
pub mod status;
#[cfg(feature = "nats")]
pub mod store;
pub mod task;
pub mod tcp;
pub mod vars;
