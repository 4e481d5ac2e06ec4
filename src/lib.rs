//! Discovery, routing and streaming calls for distributed inference, over io_uring or tokio.
//!
//! A [`Worker`] serves *endpoints*, which are named `namespace.component.endpoint`; a [`Client`] calls them and reads a stream of
//! items back. They find each other through [`discovery`]: in one process, through a directory, or through etcd. Both run on a few
//! threads of their own, *cores*, with one event loop each, driven by io_uring where the system allows it and by tokio elsewhere;
//! callers use them from any executor. Every call ends in exactly one outcome, an end or a [`CallError`], and every queue and
//! every wait has a bound, which is a knob of [`Config`] or is listed in `docs/operations.md`.
//!
//! ```no_run
#![doc = include_str!("../examples/worker.rs")]
//! ```
//!
//! ```no_run
#![doc = include_str!("../examples/caller.rs")]
//! ```
//!
//! # More
//!
//! Programs: [requests and answers as values](WorkerBuilder::typed_endpoint), [streams both ways and how calls end
//! early](Call), [answers that go on at another worker](MigratingCall), [handlers on a runtime](WorkerBuilder::endpoint_on), [calling on from a handler](Endpoint),
//! [errors with reasons of one's own](Handler), [an end in order](Worker), [an end by a signal](Signals), [a gateway by HTTP](Client),
//! [handlers tested without a socket](testing), [etcd](WorkerBuilder::discovery).
//!
//! Routing: [`ClientBuilder::router`] and [`Client::endpoint_with`] take a [`Policy`], one of the application's own included.
//! [`Client::instances`] shows what is held against whom.
//! Numbers: [`Worker::snapshot`] and [`Client::snapshot`] count everything, and `observe::Metrics` tells it to Prometheus. Errors: [`Error`] before a call, [`CallError`] as its
//! outcome, [`Failure`] as a handler says it; [`Chain`] writes an error with its causes.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `serde`, on by default | requests and answers as values, in JSON and MessagePack |
//! | `etcd` | discovery through etcd; `protoc` is needed to build it |
//! | `nats` | requests and events by way of a NATS server: `nats`, `request::nats`, `events::Nats`; queues and objects: `queue`, `store` |
//! | `http` | requests by HTTP: `request::http` |
//! | `metrics` | everything that is counted as Prometheus reads it: `observe` |
//! | `logs` | log lines for people and for machines: `observe::logs` |
//! | `otel` | spans to an OpenTelemetry collector: `observe::export` |
//! | `status` | an HTTP server that tells of the process: probes, metrics, a page for people: `status` |
//! | `model` | cards and tokens of models, for workers behind Dynamo's frontend: `model` |
//! | `monoio`, `tokio-uring` | [drivers](DriverChoice) on these runtimes, for comparison |
//!
//! The others are off by default. The library is for Linux, and runs without io_uring too. What is not at the top is in
//! [`ringplane_core`]: the knobs of the machines, the formats on the wire, the records of discovery.

mod client;
mod error;
pub mod events;
mod handler;
#[cfg(feature = "serde")]
pub mod kv;
#[cfg(feature = "model")]
pub mod model;
pub mod observe;
#[cfg(feature = "serde")]
mod payload;
mod plane;
mod runtime;
#[cfg(feature = "status")]
pub mod status;
pub mod testing;
mod trace;
mod worker;

pub use client::builder::ClientBuilder;
pub use client::call::{Call, CallSender};
pub use client::client::{Client, LocalClient};
pub use client::endpoint::{Endpoint, LocalEndpoint};
pub use client::hedge::{Hedge, HedgedCall};
pub use client::migrate::{KeepAll, MigratingCall, Onward, Resume};
pub use client::request::CallRequest;
#[cfg(feature = "serde")]
pub use client::typed::{CallStream, TypedCall, TypedCallError};
pub use error::{Error, Kind as ErrorKind, UnknownDriver};
pub use handler::local::LocalFuture;
pub use handler::remote::SendFuture;
pub use handler::request::{Handler, Request, Responder};
pub use handler::side::{Local, Remote, Side};
#[cfg(feature = "serde")]
pub use handler::typed::TypedResponder;
#[cfg(feature = "serde")]
pub use payload::error::PayloadError;
#[cfg(feature = "serde")]
pub use payload::value::Payload;
pub use plane::carriers::Carrier;
pub use plane::name::{PlaneError, PlaneName};
pub use plane::plane::RequestPlane;
pub use ringplane_core;
pub use ringplane_core::caller::error::{At, CallError, Kind as CallErrorKind};
pub use ringplane_core::caller::migration::Config as MigrationConfig;
pub use ringplane_core::caller::view::InstanceView;
pub use ringplane_core::chain::Chain;
pub use ringplane_core::id::{EndpointId, InstanceId, NameError};
pub use ringplane_core::local::{Failure, LocalCall, LocalSender, SendItemError};
pub use ringplane_core::observer;
pub use ringplane_core::protocol::Blame;
pub use ringplane_core::retry::hedge::{Config as HedgeConfig, Slow};
pub use ringplane_core::route::health::State as InstanceState;
pub use ringplane_core::route::policy::any::AnyPolicy as Policy;
pub use ringplane_core::wire::class::Class;
pub use ringplane_core::wire::codec::Codec;
pub use ringplane_core::wire::context::TraceContext;
pub use ringplane_core::wire::mux::message::Open;
pub use ringplane_core::wire::trace_context::TraceParent;
pub use ringplane_core::worker::job::Cause;
pub use ringplane_driver::config::{Common as CommonConfig, OutOfBounds};
pub use ringplane_driver::socket::Keepalive;
pub use ringplane_io_uring::{Config as IoUringConfig, Flavor, RuntimeConfig};
pub use ringplane_tokio::discovery;
#[cfg(feature = "zmq")]
pub use ringplane_tokio::event::zmq;
#[cfg(feature = "nats")]
pub use ringplane_tokio::nats;
/// Tasks that a NATS server keeps until they are done:
///
/// ```no_run
#[doc = include_str!("../examples/queue.rs")]
/// ```
#[cfg(feature = "nats")]
pub use ringplane_tokio::queue;
pub use ringplane_tokio::request;
#[cfg(feature = "nats")]
pub use ringplane_tokio::service;
/// Bytes, files and values under names on a NATS server:
///
/// ```no_run
#[doc = include_str!("../examples/objects.rs")]
/// ```
#[cfg(feature = "nats")]
pub use ringplane_tokio::store;
pub use ringplane_tokio::task;
pub use ringplane_tokio::tcp::Config as TokioConfig;
pub use ringplane_tokio::vars::Error as VarError;
pub use runtime::config::{Config, DriverChoice};
pub use runtime::driver::{DriverInfo, Leftovers};
pub use runtime::snapshot::Snapshot;
pub use trace::{current_trace, set_trace_source};
pub use worker::builder::WorkerBuilder;
pub use worker::health::{EndpointHealth, EndpointState, WorkerHealth};
pub use worker::signals::{Ended, Signals};
pub use worker::worker::Worker;
