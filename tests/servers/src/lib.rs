//! Servers to test with: an etcd and a NATS server, found on this machine or fetched into `target/`, each of its test alone.

pub mod etcd;
pub mod nats;
pub mod programs;
mod target;
