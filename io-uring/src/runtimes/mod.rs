//! What the drivers on runtimes with owned buffers share: everything but the runtime.
//!
//! A `Runtime` is such a runtime in a dozen calls. One task per connection reads, one writes, one
//! dials, one task accepts, one waits for the doorbell and one for the clock; each tells the machine what happened and
//! rings. The root task then takes its turn: jobs, timers, events, local tasks, and the drain rule of
//! [`ringplane_core::protocol`].
//!
//! # Bytes
//! An operation owns its buffer until it completes. A read stays in flight until it completes or its connection ends: it
//! is never cancelled to be tried again, so nothing anybody drops can lose bytes. Small pieces of a send queue are copied
//! into one buffer, payloads from 32 KiB on are written by reference. Such a buffer per connection is what a runtime
//! without provided buffers costs: `recv_buffer` bytes while a connection is idle.
//!
//! # The end
//! Cancel, reap, close, free: every connection is aborted, every task sees its operation complete and leaves, and
//! only then does the runtime go. What has not left after five seconds is in the report.

pub(crate) mod config;
#[cfg(any(feature = "monoio", feature = "tokio-uring"))]
pub(crate) mod conn;
#[cfg(any(feature = "monoio", feature = "tokio-uring"))]
pub(crate) mod driver;
#[cfg(feature = "monoio")]
pub mod monoio;
#[cfg(any(feature = "monoio", feature = "tokio-uring"))]
pub(crate) mod net;
#[cfg(any(feature = "monoio", feature = "tokio-uring"))]
pub(crate) mod runtime;
#[cfg(any(feature = "monoio", feature = "tokio-uring"))]
pub(crate) mod signal;
#[cfg(any(feature = "monoio", feature = "tokio-uring"))]
pub(crate) mod tasks;
#[cfg(feature = "tokio-uring")]
pub mod tokio_uring;
