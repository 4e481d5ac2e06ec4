//! The driver against real sockets: bytes, endings, limits, threads.

mod bytes;
mod child;
mod closing;
mod limits;
mod soak;
mod threads;
mod toy;
