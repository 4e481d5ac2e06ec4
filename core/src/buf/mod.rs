//! Memory with rules: bytes waiting to be written, frames waiting to be complete, slots with generations, timers.

pub mod send_queue;

pub use send_queue::SendQueue;
