//! Requests by HTTP, as Dynamo 1.0 sends them with `DYN_REQUEST_PLANE=http`.
//!
//! Only the request and its ack travel by HTTP: answers come over TCP, by a call-home. What a request means is decided
//! by the machines of a core, on either side reached through that core's mailbox; here is what carries it, on a
//! thread of its own.

mod body;
mod caller;
mod config;
mod stream;
mod worker;

pub use caller::CallerLeg;
pub use config::{CallerConfig, Config, ConfigError};
pub use worker::{Answer, Error, Listener, Request, WorkerLeg};
