//! The async face of a machine on the thread that drives it: no IO of its own, no other thread, no lock.

pub mod env;

pub use env::{Env, Host, Timers};
