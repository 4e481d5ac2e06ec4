//! Servers and other programs to test with: an etcd, a NATS server, what Debian has; found on this machine or fetched into `target/`, each of its test alone.

pub mod debian;
pub mod etcd;
pub mod nats;
pub mod port;
pub mod programs;
mod target;
