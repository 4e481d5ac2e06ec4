//! Requests by way of a NATS server, as Dynamo sends them with `DYN_REQUEST_PLANE=nats`.

mod caller;
mod config;
mod worker;

pub use caller::carrier;
pub use config::Config;
pub use worker::{Listening, Reply, intake};
