//! The ringplane machines on tokio, for hosts where io_uring is refused, and the backends of discovery.

pub mod discovery;
pub mod tcp;
