//! Memory with rules: bytes waiting to be written, frames waiting to be complete, slots with generations, timers.

pub mod deframer;
pub mod send_queue;

pub use deframer::{Deframer, Piece};
pub use send_queue::SendQueue;
