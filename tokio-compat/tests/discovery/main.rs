//! Discovery backends, live: within a process, between handles, between processes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod backends;
#[cfg(target_arch = "x86_64")]
mod denied;
#[cfg(feature = "etcd")]
mod etcd;
mod file;
#[cfg(feature = "etcd")]
mod hold;
#[cfg(feature = "etcd")]
mod login;
mod odd;
mod records;
mod support;
