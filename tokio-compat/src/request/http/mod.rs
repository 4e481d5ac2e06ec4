//! Requests by HTTP, as Dynamo 1.0 sends them with `DYN_REQUEST_PLANE=http`.

mod body;
mod caller;
mod config;
mod stream;
mod trace;
mod worker;

pub use caller::carrier;
pub use config::{CallerConfig, Config};
pub use trace::{put_trace, request_id_of, trace_of};
pub use worker::{Listener, Reply};
