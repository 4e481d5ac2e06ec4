//! A connection to a NATS server, for all that goes by one.

pub(crate) mod config;
pub(crate) mod connect;

pub use config::{Config, ConfigError, Login};
pub use connect::Error;
