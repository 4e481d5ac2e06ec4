//! The tokio driver over loopback, with a machine that echoes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod closing;
mod echo;
mod life;
mod transfer;
