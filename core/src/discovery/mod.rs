//! Discovery: the records of instances, models and events, the keys they stand under, and the set that a reader keeps from
//! changes.
//!
//! Records and keys are Dynamo's, so that its processes find ours and the other way round; what we add travels in a
//! field it ignores. What the four [kinds](kind::Kind) have in common, keeping, following and comparing, is written once.
//! Storage and watching belong to the backends in `ringplane-tokio`.

#[cfg(test)]
pub(crate) mod captured;
pub mod card;
pub mod channel;
pub mod config;
mod entry;
pub mod error;
pub mod escape;
pub mod event;
pub mod instance;
pub mod json;
pub mod key;
pub mod kind;
pub mod lease;
pub mod lease_event;
#[cfg(test)]
mod lease_tests;
pub mod model;
pub mod record;
pub mod set;
pub mod source;
pub mod trouble;
pub mod watch;
#[cfg(test)]
mod watch_tests;

pub use channel::{EventChannel, EventTransport};
pub use event::{EventKey, EventQuery, PublisherId, Scope};
pub use instance::{Codec, Device, Instance};
pub use key::{Key, Query};
pub use kind::Kind;
pub use model::{Model, ModelKey};
pub use set::{Change, Set};
pub use source::EventSource;
