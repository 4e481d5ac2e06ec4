//! What carries events from publishers to subscribers: one [`Transport`] trait, and a file for each that there is.

mod error;
mod inproc;
mod kind;
mod listen;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
mod nats_replay;
mod subscription;
#[cfg(test)]
mod tests;
mod transport;
#[cfg(feature = "zmq")]
pub mod zmq;

pub use error::Error;
pub use inproc::InProc;
pub use kind::Kind;
pub use listen::Listen;
#[cfg(feature = "nats")]
pub use nats::{Config as NatsConfig, Nats};
pub use subscription::{Feeder, Fetch, Subscription, subscription};
pub use transport::{Kept, Transport};
