//! Discovery backends, live: within a process, between handles, between processes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod backends;
mod file;
mod support;
