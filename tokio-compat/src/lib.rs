//! The ringplane machines on tokio: the TCP driver for hosts where io_uring is refused.

pub mod tcp;
