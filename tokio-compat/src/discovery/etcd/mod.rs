//! Discovery through etcd, in Dynamo's layout: keys as `v1/instances/…` under a lease whose id is the instance's.
//!
//! The rules are `ringplane_core::discovery::lease` and `watch`; here are the calls they ask for, on a thread of its own,
//! so that neither data nor discovery can starve the other.

pub(super) mod backend;
mod follower;
mod keeper;
mod registry;
mod session;

pub use backend::Etcd;
