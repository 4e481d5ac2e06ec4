//! Memory with rules: bytes waiting to be written, frames waiting to be complete, slots with generations, timers.

pub(crate) mod ages;
pub mod closing;
pub mod deframer;
pub(crate) mod fifo;
pub mod gate;
pub(crate) mod hold;
pub mod outbox;
pub(crate) mod pace;
pub(crate) mod progress;
pub mod room;
pub mod send_queue;
pub mod slab;
pub mod wheel;

pub use deframer::{Deframer, Piece};
pub use outbox::SendError;
pub use send_queue::SendQueue;
pub use slab::{Key, Slab};
pub use wheel::{TimerId, Wheel};
