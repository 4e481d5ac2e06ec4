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

mod client;
mod error;
mod handler;
mod plane;
mod runtime;
mod worker;

pub use client::builder::ClientBuilder;
pub use client::call::{Call, CallSender};
pub use client::client::{Client, LocalClient};
pub use client::endpoint::{Endpoint, LocalEndpoint};
pub use client::request::CallRequest;
pub use error::{Error, Kind as ErrorKind, UnknownDriver};
pub use handler::local::{Handler, LocalFuture, Request};
pub use handler::remote;
pub use plane::carriers::Carrier;
pub use plane::name::{PlaneError, PlaneName};
pub use plane::plane::RequestPlane;
pub use ringplane_core;
pub use ringplane_core::caller::error::{CallError, Kind as CallErrorKind};
pub use ringplane_core::chain::Chain;
pub use ringplane_core::id::{EndpointId, InstanceId, NameError};
pub use ringplane_core::local::{Failure, LocalCall, LocalSender, Responder, SendItemError};
pub use ringplane_core::protocol::Blame;
pub use ringplane_core::route::policy::any::AnyPolicy as Policy;
pub use ringplane_core::wire::class::Class;
pub use ringplane_core::wire::codec::Codec;
pub use ringplane_core::wire::mux::Open;
pub use ringplane_core::wire::trace_context::TraceParent;
pub use ringplane_core::worker::job::Cause;
pub use ringplane_tokio::discovery;
#[cfg(feature = "nats")]
pub use ringplane_tokio::nats;
pub use ringplane_tokio::request;
pub use ringplane_tokio::vars::Error as VarError;
pub use runtime::config::{Config, DriverChoice};
pub use runtime::driver::{DriverInfo, Leftovers};
pub use runtime::snapshot::Snapshot;
pub use worker::builder::WorkerBuilder;
pub use worker::worker::Worker;
