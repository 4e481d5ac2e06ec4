//! A NATS server: how to find it and log in, and a connection to it that comes back by itself. Everything that goes by
//! NATS stands on this.

pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod delivery;
pub(crate) mod error;
pub(crate) mod jetstream;
mod tls;

pub use config::{Config, Login, Tls};
pub use connection::Connection;
pub use error::Error;
pub use jetstream::Error as JetStreamError;
