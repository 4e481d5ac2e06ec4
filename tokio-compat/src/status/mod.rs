//! What the status server of a process stands on: a small HTTP/1.1 server, every wait and every size of which has a bound.

mod exchange;
mod server;

pub use exchange::{Answer, Ask};
pub use server::{Answering, Config, Listener, Server, Stats};
