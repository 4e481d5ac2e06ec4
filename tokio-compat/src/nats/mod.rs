//! A NATS server: how to find it and log in, and a connection to it that comes back by itself. Everything that goes by
//! NATS stands on this.

pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod jetstream;

pub use config::{Config, Login};
pub use connect::Error;
pub use connection::Connection;
pub use jetstream::Error as JetStreamError;
