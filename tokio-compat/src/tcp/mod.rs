//! The tokio TCP driver: one thread, one runtime, any number of connections of one machine.
//!
//! # How a turn runs
//! All sockets belong to one task. Each connection has a waker of its own that only puts the connection on a list, so
//! that a turn is: take jobs, accept, fire timers, read and write the connections on the list, run the tasks that are ready,
//! then drain the machine once (the drain rule of [`ringplane_core::protocol`]). Every step has a bound; what is left over
//! waits for the next turn, after tokio has looked at the sockets and its own tasks again. The tasks of handlers are not
//! tokio's: nobody but the loop itself could bound what they take of a turn. They may use tokio all the same.
//!
//! # Memory
//! Bytes are received into one buffer per thread, and pulled from the machine into a queue that a connection only keeps
//! while its socket takes no more. An idle connection holds no buffer at all.

mod accept;
mod config;
mod connection;
mod gauge;
mod here;
mod linger;
mod net;
mod pool;
mod ready;
mod socket;
mod start;
mod turn;

pub use config::{Config, Error};
pub use here::{Here, here};
pub use ringplane_driver::{
    config::{Common, Given, OutOfBounds},
    error::SubmitError,
    handle::{Driver, Handle, Report},
    socket::Keepalive,
    stats::Stats,
};
pub use start::start;
