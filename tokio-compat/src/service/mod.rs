//! Micro services of NATS (ADR-32): a name under which the replicas of a component say that they are there, what they serve and how
//! much they have done, and a collector of what all of them say.
//!
//! A worker whose requests come by NATS has one per component, as Dynamo's workers do: [`service_name`] is its name, and
//! [`stats`] asks all replicas. A [`Service`] of one's own counts by its [`Tally`].

mod clock;
mod collect;
mod error;
pub(crate) mod replica;
mod said;
pub(crate) mod tally;

pub use collect::{Answers, Ask, info, ping, stats};
pub use error::Error;
pub use replica::{Config, Endpoint, Service, service_name};
pub use said::{EndpointInfo, EndpointStats, Info, Ping, Stats};
pub use tally::Tally;
