//! The io_uring driver: one thread, one ring, one machine, any number of connections.
//!
//! [`start`] runs any [`Host`](ringplane_core::local::Host) whose machine is a
//! [`Protocol`](ringplane_core::protocol::Protocol) on a thread of its own; [`Handle::submit`] is the way in for other
//! threads; [`Driver::stop`] ends it and reports what it left behind, which is nothing. [`probe`] tells whether this
//! kernel, under this process's limits and seccomp filter, can do it at all.
//!
//! How bytes move: a multishot accept and one multishot receive per connection into a shared ring of buffers, read in
//! place by the machine; writes go straight to the socket while it takes them, the rest through the ring. Every
//! operation owns what the kernel touches on its behalf until its last completion, so nothing anybody drops can lose
//! bytes or leave the kernel with dead memory. `unsafe` is confined to `ring.rs`, `op.rs` and `pool.rs` in `kernel/`.
//!
//! With the features `monoio` and `tokio-uring` the modules of those names drive the same machines on runtimes made by
//! others: to compare, and for programs that run one of them anyway.
#![cfg(target_os = "linux")]

mod driver;
mod error;
mod kernel;
mod runtimes;

pub use driver::config::Config;
pub use driver::probe::probe;
pub use driver::start::start;
pub use error::{Error, Refusal};
pub use kernel::probe::Features;
pub use kernel::setup::Flavor;
pub use ringplane_driver::{
    config::{Common, Given, OutOfBounds},
    error::SubmitError,
    handle::{Driver, Handle, Report},
    socket::Keepalive,
    stats::Stats,
};
pub use runtimes::config::Config as RuntimeConfig;
#[cfg(feature = "monoio")]
pub use runtimes::monoio;
#[cfg(feature = "tokio-uring")]
pub use runtimes::tokio_uring;
