//! What the drivers of the machines share, whatever carries their bytes: everything that is not I/O.
//!
//! A driver is a thread that moves bytes and time for one machine of `ringplane-core`. This crate starts and stops such a
//! thread ([`handle`]), brings it the jobs of others ([`mailbox`], [`bell`]), drains its machine ([`drain`]), paces its listeners ([`accept`]), counts
//! ([`stats`]), has the knobs that all drivers share ([`config`]) and says which options its sockets get ([`socket`]). It
//! knows no runtime and no ring.
#![cfg(target_os = "linux")]

pub mod accept;
pub mod bell;
pub mod clock;
pub mod config;
pub mod cpu;
pub mod drain;
pub mod error;
pub mod executor;
pub mod handle;
pub mod mailbox;
pub mod socket;
pub mod stats;
