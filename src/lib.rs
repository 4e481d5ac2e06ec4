//! Discovery, routing and streaming calls for distributed inference, over io_uring or tokio.
//!
//! A [`Worker`] serves endpoints, a [`Client`] calls them and reads a stream of items back. Both run on a few threads of
//! their own, one event loop each, driven by io_uring where the system allows it and by tokio elsewhere; callers use
//! them from any executor.
//!
//! ```no_run
#![doc = include_str!("../examples/worker.rs")]
//! ```
//!
//! ```no_run
#![doc = include_str!("../examples/caller.rs")]
//! ```

mod bridge;
pub mod call;
pub mod client;
pub mod config;
pub mod cores;
pub mod error;
pub mod handler;
mod intake;
mod legs;
pub mod plane;
pub mod remote;
pub mod snapshot;
mod watch;
pub mod worker;

pub use call::{Call, CallRequest, CallSender};
pub use client::{Client, ClientBuilder, LocalClient};
pub use config::{Config, DriverChoice};
pub use cores::{DriverInfo, Leftovers};
pub use error::Error;
pub use handler::{Failure, Handler, Request, Responder};
pub use plane::RequestPlane;
pub use ringplane_core as core;
pub use ringplane_core::caller::CallError;
pub use ringplane_core::worker::machine::Cause;
pub use ringplane_tokio::discovery;
#[cfg(feature = "nats")]
pub use ringplane_tokio::nats;
#[cfg(feature = "http")]
pub use ringplane_tokio::request::http;
pub use snapshot::Snapshot;
pub use worker::{Worker, WorkerBuilder};
