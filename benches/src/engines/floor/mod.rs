//! The thinnest server and load that speak in ringplane's frames: the reference every ratio is against.
//!
//! One thread a side, no runtime, no task, no flow control, no memory per call. Bodies are checked and counted where
//! they were received, never gathered. What is ready when a turn ends leaves in one write.

mod caller;
mod engine;
mod epoll;
mod frame;
mod machine;
mod ring;
mod server;
mod sockets;
mod uring;

pub use engine::Floor;
