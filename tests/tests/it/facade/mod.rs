//! The facade end to end, on both drivers: what must hold over real sockets.

mod cancel;
mod isolation;
mod proxy;
mod support;
mod transfer;
