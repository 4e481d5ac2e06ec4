//! Who is there: records of instances, the keys they live under, and the set a reader keeps from changes.
//!
//! Records and keys are Dynamo's, so that its processes find ours and the other way round; what we add travels in a
//! field it ignores. Storage and watching belong to the backends in `ringplane-tokio`.

pub mod config;
pub mod instance;
pub mod key;
pub mod lease;
#[cfg(test)]
mod lease_tests;
pub mod record;
pub mod set;
pub mod watch;

pub use instance::{Codec, Device, Instance};
pub use key::{Key, Query};
pub use set::{Change, Set};
