//! Finding and being found: one trait, and the places records can be written to.
//!
//! [`open()`] turns a URL into a [`Backend`]: `mem` (this process), `file:DIR` (this host, in Dynamo's layout), `etcd:URL`
//! (with the feature `etcd`, in Dynamo's layout), `static:HOST:PORT,…` and `dns:NAME:PORT` (workers that are asked). It keeps instances of endpoints, the models they serve, and the channels
//! and sources of events, each a [`Place`] of its own with the same three methods. Work that blocks runs on a thread of its
//! own, so that neither side can starve the other; the futures here only wait for it, on any executor.

mod asked;
pub(crate) mod backend;
mod counters;
pub(crate) mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod file;
pub(crate) mod hub;
mod mem;
mod open;
mod rooms;

pub use asked::Asked;
pub use backend::{Backend, BoxFuture, Place, Registration, random_instance_id, random_publisher_id};
pub use counters::Counters;
pub use error::Error;
#[cfg(feature = "etcd")]
pub use etcd::Etcd;
pub use file::{File, Timing};
pub use hub::Watch;
pub use mem::Mem;
pub use open::{open, open_with};
